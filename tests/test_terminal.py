"""Colors and shortened text."""

import io

import pytest
from terminal import Terminal

from mnist_mlp.console import bar, can_redraw, cells, has_color, shortened, styled


@pytest.mark.parametrize(
    ("variables", "redrawable", "colored"),
    [
        ({}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"TERM": ""}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),  # no-color.org: when present and not an empty string
        ({"NO_COLOR": "0"}, True, False),
    ],
)
def test_redrawing_and_colors_depend_on_the_terminal_and_no_color(
    variables: dict[str, str], redrawable: bool, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    assert (can_redraw(Terminal()), has_color(Terminal())) == (redrawable, colored)
    assert (can_redraw(io.StringIO()), has_color(io.StringIO())) == (False, False)
    assert styled("text", "red", Terminal()) == ("\x1b[31mtext\x1b[0m" if colored else "text")
    assert cells("\x1b[31mtext\x1b[0m") == 4


def test_the_middle_of_a_long_text_is_replaced() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij", 7, "...") == "ab...ij"
    for width in range(12):
        assert cells(shortened("数字识别的实验", width)) <= width


def test_a_progress_bar_is_ascii_if_the_output_is_not_unicode() -> None:
    assert bar(0.25, 8, io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) == "━━──────"
    assert bar(2.0, 4, io.TextIOWrapper(io.BytesIO(), encoding="ascii")) == "####"
    assert bar(-1.0, 4, io.TextIOWrapper(io.BytesIO(), encoding="latin-1")) == "----"
