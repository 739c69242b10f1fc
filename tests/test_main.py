import sys

import pytest

import mnist_mlp
from mnist_mlp import __main__ as overview


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist_mlp", *arguments])
    overview.main()


def test_every_command_of_the_package_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch)
    out = capsys.readouterr().out
    assert set(overview.commands()) >= {"benchmark", "report", "train"}
    for name, does in overview.commands().items():
        assert f"python -m mnist_mlp.{name} " in out
        assert does in out
    assert max(map(len, out.splitlines())) <= 120


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    called(monkeypatch, "--version")
    assert capsys.readouterr().out == f"mnist_mlp {mnist_mlp.__version__}\n"


def test_a_command_in_the_wrong_place_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"^error: run python -m mnist_mlp\.train seed=1$"):
        called(monkeypatch, "train", "seed=1")
    with pytest.raises(SystemExit, match=r"^error: no command fit: there is benchmark, "):
        called(monkeypatch, "fit")
