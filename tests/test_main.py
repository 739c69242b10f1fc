import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mnist_mlp
from mnist_mlp import __main__ as overview


def call_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist_mlp", *arguments])
    overview.main()


def test_every_command_of_the_package_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call_main(monkeypatch)
    out = capsys.readouterr().out
    assert set(overview.commands()) >= {"benchmark", "report", "train"}
    for name, summary in overview.commands().items():
        assert f"  {name} " in out
        assert summary in out
    assert max(map(len, out.splitlines())) <= 120


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call_main(monkeypatch, "--version")
    assert capsys.readouterr().out == f"mnist_mlp {mnist_mlp.__version__}\n"


@pytest.mark.parametrize("name", overview.commands())
def test_both_forms_of_a_command_are_equivalent(name: str) -> None:
    outputs = [
        subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, text=True, check=True)
        for words in (["mnist_mlp", name], [f"mnist_mlp.{name}"])
    ]
    texts = [re.sub(r"\d", "0", done.stdout) for done in outputs]  # a default contains the time
    assert texts[0] == texts[1] != ""
    assert outputs[0].stderr == outputs[1].stderr == ""


def test_exit_code_and_error_message_are_those_of_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mnist_mlp", "train", "sed=1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown key sed: did you mean seed?")


@pytest.mark.parametrize("name", ["fit", "config", "../train"])
def test_an_unknown_command_is_rejected_with_a_list_of_commands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(SystemExit, match=r"^error: unknown command .*: use one of benchmark, "):
        call_main(monkeypatch, name)


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_a_command_started_by_its_file_names_the_right_command_and_does_nothing(name: str, tmp_path: Path) -> None:
    package = Path(mnist_mlp.__file__).parent
    done = subprocess.run(
        [sys.executable, package / f"{name}.py", "name=mine"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"python -m mnist_mlp.{name}" in done.stderr
    assert not list(tmp_path.iterdir())
