"""Colours, links and shortened text."""

import io
from pathlib import Path

import pytest
from terminal import Terminal

from mnist_mlp.console import bar, cells, colours, linked, links, redraws, shortened, styled

ASKED = ("NO_COLOR", "FORCE_HYPERLINK", "TERM_PROGRAM", "VTE_VERSION", "WT_SESSION", "KONSOLE_VERSION", "DOMTERM")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ASKED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.parametrize(
    ("variables", "redrawn", "coloured", "linking"),
    [
        ({}, True, True, False),
        ({"TERM": "dumb"}, False, False, False),
        ({"TERM": ""}, False, False, False),
        ({"NO_COLOR": "1"}, True, False, False),
        ({"NO_COLOR": ""}, True, True, False),  # no-color.org: when present and not an empty string
        ({"NO_COLOR": "0"}, True, False, False),
        ({"VTE_VERSION": "6003"}, True, True, True),
        ({"VTE_VERSION": "4200"}, True, True, False),
        ({"TERM_PROGRAM": "vscode"}, True, True, True),
        ({"TERM_PROGRAM": "Apple_Terminal"}, True, True, False),
        ({"TERM_PROGRAM": "vscode", "FORCE_HYPERLINK": "0"}, True, True, False),
        ({"FORCE_HYPERLINK": "1"}, True, True, True),
    ],
)
def test_the_terminal_is_used_for_what_it_can(
    variables: dict[str, str], redrawn: bool, coloured: bool, linking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (redraws(Terminal()), colours(Terminal()), links(Terminal())) == (redrawn, coloured, linking)
    assert (redraws(io.StringIO()), colours(io.StringIO()), links(io.StringIO())) == (False, False, False)
    assert styled("text", "red", Terminal()) == ("\x1b[31mtext\x1b[0m" if coloured else "text")


def test_a_link_shows_the_short_path_and_opens_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "a run" / "report.html"
    assert linked(page, io.StringIO()) == "a run/report.html"
    assert linked(Path("/elsewhere/x"), io.StringIO()) == "/elsewhere/x"
    monkeypatch.setenv("FORCE_HYPERLINK", "1")
    link = linked(page, Terminal())
    assert link == f"\x1b]8;;file://{tmp_path}/a%20run/report.html\x1b\\a run/report.html\x1b]8;;\x1b\\"
    assert cells(link) == len("a run/report.html")


def test_what_is_too_long_loses_its_middle() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij", 7, "...") == "ab...ij"
    for width in range(12):
        assert cells(shortened("数字识别的实验", width)) <= width


def test_a_bar_is_ascii_where_the_output_is() -> None:
    assert bar(0.25, 8, io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == "━━──────"
    assert bar(2.0, 4, io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == "####"
    assert bar(-1.0, 4, io.TextIOWrapper(io.BytesIO(), encoding="latin-1")) == "----"
