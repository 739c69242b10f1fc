"""How a person draws the ten digits: strokes of points (across, down) in [0, 1]; and a browser's hand for them."""

from math import cos, pi, sin
from typing import Any

Point = tuple[float, float]


def arc(across: float, down: float, wide: float, high: float, start: float, end: float, steps: int = 8) -> list[Point]:
    """Part of an ellipse; angles in turns, from the right, clockwise as seen."""
    turns = [2 * pi * (start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(across + wide * cos(turn), down + high * sin(turn)) for turn in turns]


DIGITS: dict[int, list[list[Point]]] = {
    0: [arc(0.5, 0.5, 0.2, 0.32, -0.25, 0.77, 14)],
    1: [[(0.53, 0.17), (0.51, 0.5), (0.48, 0.83)]],
    2: [[*arc(0.48, 0.32, 0.18, 0.15, -0.45, 0.12), (0.45, 0.62), (0.3, 0.8), (0.45, 0.78), (0.72, 0.8)]],
    3: [[*arc(0.46, 0.33, 0.18, 0.16, -0.4, 0.22), *arc(0.46, 0.65, 0.21, 0.17, -0.22, 0.4)]],
    4: [[(0.34, 0.2), (0.3, 0.5), (0.68, 0.5)], [(0.66, 0.2), (0.62, 0.84)]],
    5: [[(0.68, 0.2), (0.38, 0.2), (0.35, 0.45), *arc(0.46, 0.62, 0.21, 0.19, -0.22, 0.4)]],
    6: [[(0.6, 0.17), (0.44, 0.35), (0.36, 0.6), *arc(0.5, 0.67, 0.15, 0.15, 0.5, -0.55, 11)]],
    7: [[(0.3, 0.24), (0.5, 0.22), (0.7, 0.22), (0.58, 0.5), (0.45, 0.84)]],
    8: [[*arc(0.5, 0.34, 0.15, 0.15, 0.2, 1.2, 11), *arc(0.5, 0.66, 0.17, 0.18, -0.25, 0.78, 11)]],
    9: [[*arc(0.5, 0.36, 0.16, 0.16, 0.0, -1.0, 11), (0.65, 0.4), (0.62, 0.6), (0.57, 0.85)]],
}


def draw(browser: Any, digit: int, kind: str = "mouse") -> None:
    """Clear the sheet and draw a digit on it with a real pointer ("mouse", "touch" or "pen")."""
    browser.execute_script("clear(); window.scrollTo(0, 0)")
    for stroke in DIGITS[digit]:
        draw_stroke(browser, stroke, kind)
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def draw_stroke(browser: Any, stroke: list[Point], kind: str = "mouse") -> None:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    box = browser.execute_script("const b = sheet.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]")
    actions = ActionBuilder(browser, mouse=PointerInput(kind, f"{kind}-hand"), duration=0)
    hand = actions.pointer_action
    for number, (across, down) in enumerate(stroke):
        hand.move_to_location(round(box[0] + across * box[2]), round(box[1] + down * box[3]))
        if number == 0:
            hand.pointer_down()
    hand.pointer_up()
    actions.perform()
