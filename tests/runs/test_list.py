"""`python -m mnist_mlp.runs`: the list of runs and sweeps."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_failure, write_run, write_unfinished

from mnist_mlp.runs.__main__ import main

Listing = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Listing:
    """List the made-up runs in outputs/ with these arguments, as JSON."""
    monkeypatch.chdir(tmp_path)
    train, sweep = Path("outputs/train"), Path("outputs/sweeps/rates")
    write_run(train / "wide", range(4), model__hidden_units=[512], seed=3)
    write_run(train / "lost", range(95), "diverged", optim__lr=5.0)
    write_failure(train / "broken", "no")
    write_unfinished(train / "half", data__subset="half")
    for seed in (0, 1):
        write_run(sweep / f"low{seed}", range(10 + seed), optim__lr=0.001, seed=seed)
        write_run(sweep / f"high{seed}", range(1 + seed), optim__lr=0.1, seed=seed)
    (sweep / "summary.csv").touch()
    (train / "summary.csv").touch()  # of a report on outputs/train

    def run(*arguments: str) -> list[dict[str, Any]]:
        main([*arguments, "--json"])
        items: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return items

    return run


def names(items: list[dict[str, Any]]) -> set[str]:
    return {item["name"] for item in items}


def test_a_sweep_is_a_line_with_its_best_setting_and_all_lists_its_runs(listing: Listing) -> None:
    items = listing()
    assert names(items) == {"train/wide", "train/lost", "train/broken", "train/half", "sweeps/rates"}
    (rates,) = [item for item in items if item["kind"] == "sweep"]
    assert (rates["runs"], rates["status"], rates["time"]) == (4, "4 finished", 6.0)
    assert rates["accuracy"] == pytest.approx(0.985)
    assert rates["settings"] == {"seed": "0,1", "optim.lr": "0.1,0.001"}
    assert names(listing("--all")) - names(items) == {
        f"sweeps/rates/{name}{n}" for name in ("low", "high") for n in (0, 1)
    }
    assert names(listing("outputs/sweeps/rates")) == {"low0", "low1", "high0", "high1"}


def test_the_list_is_sorted_by_a_column_or_setting_and_limited(listing: Listing) -> None:
    assert [item["name"] for item in listing("--sort", "accuracy", "--limit", "2")] == ["sweeps/rates", "train/wide"]
    rates = [item["settings"]["optim.lr"] for item in listing("--sort", "lr", "--all")]
    assert rates == sorted(rates)
    assert [item["name"] for item in listing("--sort", "name")] == sorted(names(listing()))


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (["accuracy>0.97"], {"high0", "high1"}),
        (["accuracy>97"], {"high0", "high1"}),
        (["optim.lr=1e-1", "seed=1"], {"high1"}),
        (["lr<0.01"], {"low0", "low1"}),
        (["hidden_units=512"], {"wide"}),
        (["subset=0.5"], {"half"}),
        (["status=diverged"], {"lost"}),
        (["fail"], {"broken"}),
        (["WIDE"], {"wide"}),
        (["lr=0.5"], set()),
        (["date<2000-01-01"], set()),
    ],
)
def test_filters_are_conditions_or_text(listing: Listing, terms: list[str], expected: set[str]) -> None:
    assert {name.split("/")[-1] for name in names(listing("--all", *terms))} == expected


def test_a_condition_on_an_unknown_column_is_an_error(listing: Listing) -> None:
    for arguments in (["lrr=1"], ["--sort", "lrr"]):
        with pytest.raises(SystemExit, match=r"^error: lrr is not a column: use name, date, "):
            listing(*arguments)


def test_the_table_fits_into_80_columns_and_is_one_line_per_run_when_piped(
    listing: Listing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    main(["--all"])
    lines = capsys.readouterr().out.splitlines()
    assert sum("sweeps/rates/" in line and "lr=" in line for line in lines) == 4
    monkeypatch.setenv("COLUMNS", "80")
    main(["--all"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("sweeps/rates/high1" in line for line in lines) == 1


def test_the_command_imports_no_torch() -> None:
    code = "import sys, mnist_mlp.runs.__main__; sys.exit(any(name in sys.modules for name in ('torch', 'hydra')))"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
