"""The command `report`: the path of the page, the other files, and one-line errors."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_runs import write_failure, write_run

from mnist_mlp.report import main


def test_a_sweep_gets_its_page_and_its_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep"
    for seed in (0, 1):
        write_run(sweep / str(seed), range(seed), seed=seed, data__root=str(tmp_path))
    main([str(sweep)])
    written = [sweep / name for name in ("report.html", "summary.csv", "summary.md", "runs.csv", "means")]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in written]
    assert all(path.stat().st_size for path in written)


def test_the_page_of_several_folders_is_written_to_the_current_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [write_run(tmp_path / name, data__root=str(tmp_path), trainer__max_epochs=n) for n, name in enumerate("ab")]
    monkeypatch.chdir(tmp_path)
    main([str(run) for run in runs])
    assert capsys.readouterr().out == "report.html\n"
    assert (tmp_path / "report.html").is_file()
    assert sorted(path.name for path in runs[0].iterdir()) == ["metrics.csv", "predictions.npz", "result.json"]


def test_a_page_of_other_runs_and_a_file_of_another_program_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, name in enumerate("ab"):
        write_run(tmp_path / "runs" / name, trainer__max_epochs=n)
    monkeypatch.chdir(tmp_path)
    for folder, paths in ((tmp_path, ["runs/a", "runs/b"]), (tmp_path / "runs", ["runs"])):
        (folder / "report.html").write_text("mine")
        with pytest.raises(SystemExit, match=r"error: .*report\.html exists: .*--output"):
            main(paths)
        assert (folder / "report.html").read_text() == "mine"
    main(["runs", "--output", "runs/report.html"])
    main(["runs"])  # a page of its own is replaced
    assert (tmp_path / "runs" / "report.html").read_text() != "mine"


def test_an_output_folder_gets_only_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / name, data__root=str(tmp_path), trainer__max_epochs=n) for n, name in enumerate("ab")]
    (tmp_path / "pages").mkdir()
    main([*map(str, runs), "--output", str(tmp_path / "pages")])
    assert capsys.readouterr().out == f"{tmp_path / 'pages' / 'report.html'}\n"
    assert [path.name for path in (tmp_path / "pages").iterdir()] == ["report.html"]


def test_the_page_of_one_run_goes_to_output_without_a_summary(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data__root=str(tmp_path))
    main([str(run), "--output", str(tmp_path / "new" / "page.html")])
    assert "Reproduce this run" in (tmp_path / "new" / "page.html").read_text()
    assert not list(tmp_path.rglob("summary.*"))


def test_a_path_without_runs_is_a_one_line_error(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-m", "mnist_mlp.report", tmp_path], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith(f"error: no runs in {tmp_path}: ")
    assert "run folders" in process.stderr
    assert process.stderr.count("\n") == 1


def test_the_command_imports_no_torch() -> None:
    code = "import sys, mnist_mlp.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_plan_is_printed_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lr in (1.0, 2.0):
        for seed, wrong in enumerate(([1, 2], [1, 3], [4, 5, 6])):
            write_run(tmp_path / f"{lr}_{seed}", wrong=[*wrong, *range(7, 7 + int(lr))], seed=seed, optim__lr=lr)
    main([str(tmp_path), "--plan", "5"])
    assert "seeds per setting" in capsys.readouterr().out
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(SystemExit, match="error: --plan 0 is out of range"):
        main([str(tmp_path), "--plan", "0"])


def test_json_has_the_tables_the_runs_and_the_paths_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for lr in (1.0, 2.0):
        for seed, wrong in enumerate(([1, 2], [1, 3], [4, 5, 6])):
            write_run(tmp_path / f"{lr}_{seed}", wrong=[*wrong, *range(7, 7 + int(lr))], seed=seed, optim__lr=lr)
    write_failure(tmp_path / "failed", "ValueError: no", seed=3, optim__lr=2.0)
    (tmp_path / "1.0_0" / "note.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    main([str(tmp_path), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert sorted(tmp_path.rglob("*")) == before
    main([str(tmp_path)])
    with (tmp_path / "summary.csv").open() as file:
        table = list(csv.DictReader(file))
    assert content["schema_version"] == 1
    assert content["varying"] == ["optim.lr"]
    for setting, row in zip(content["settings"], table, strict=True):
        assert str(setting["settings"]["optim.lr"]) == row.pop("optim.lr")
        assert {name: "" if setting[name] is None else str(setting[name]) for name in row} == row
    runs = [[content["runs"][index] for index in setting["runs"]] for setting in content["settings"]]
    assert [[run["status"] for run in members] for members in runs] == [["finished"] * 3, ["finished"] * 3 + ["failed"]]
    first = runs[0][0]
    assert first["result"] == json.loads((tmp_path / "1.0_0" / "result.json").read_text())
    assert (first["folder"], first["note"]) == (str(tmp_path / "1.0_0"), "mine")
    assert runs[1][3]["reason"] == "ValueError: no"
    assert content["main_effects"][0]["accuracies"]["1.0"] == pytest.approx(content["settings"][0]["val_accuracy"])
    main([str(tmp_path), "--json"])
    capsys_lines = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "report.html") in json.loads(capsys_lines[-1])["files"]
