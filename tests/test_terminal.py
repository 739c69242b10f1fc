"""Terminal capabilities, shortened text and progress bars."""

import io

import pytest
from terminal import Terminal

from mnist_mlp.console import bar, cells, colours, redraws, shortened, styled


@pytest.mark.parametrize(
    ("variables", "redrawn", "colored"),
    [
        ({}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": ""}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),  # no-color.org: only if not empty
        ({"NO_COLOR": "0"}, True, False),
    ],
)
def test_terminal_capabilities_are_respected(
    variables: dict[str, str], redrawn: bool, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    assert (redraws(Terminal()), colours(Terminal())) == (redrawn, colored)
    assert (redraws(io.StringIO()), colours(io.StringIO())) == (False, False)
    assert styled("text", "red", Terminal()) == ("\x1b[31mtext\x1b[0m" if colored else "text")
    assert cells("\x1b[31mtext\x1b[0m") == 4


def test_text_that_is_too_long_loses_its_middle() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij", 7, "...") == "ab...ij"
    for width in range(12):
        assert cells(shortened("数字识别的实验", width)) <= width


def test_a_bar_is_ascii_if_the_output_is() -> None:
    assert bar(0.25, 8, io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == "━━──────"
    assert bar(2.0, 4, io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == "####"
    assert bar(-1.0, 4, io.TextIOWrapper(io.BytesIO(), encoding="latin-1")) == "----"
