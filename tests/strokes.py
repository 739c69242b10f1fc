"""Hand-drawn digits as strokes of points (x, y) in [0, 1], and drawing them in a browser."""

from math import cos, pi, sin
from typing import Any

Point = tuple[float, float]


def arc(x: float, y: float, width: float, height: float, start: float, end: float, steps: int = 8) -> list[Point]:
    """Points on an elliptical arc; width and height are radii, angles are in turns, clockwise from the right."""
    turns = [2 * pi * (start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + width * cos(turn), y + height * sin(turn)) for turn in turns]


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


def draw(browser: Any, digit: int, pointer: str = "mouse") -> None:
    """Clear the canvas and draw a digit with a pointer ("mouse", "touch" or "pen")."""
    browser.execute_script("clear(); window.scrollTo(0, 0)")
    for stroke in DIGITS[digit]:
        draw_stroke(browser, stroke, pointer)
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def draw_stroke(browser: Any, stroke: list[Point], pointer: str = "mouse") -> None:
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    box = browser.execute_script("const b = sheet.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]")
    actions = ActionBuilder(browser, mouse=PointerInput(pointer, f"{pointer}-hand"), duration=0)
    action = actions.pointer_action
    for number, (x, y) in enumerate(stroke):
        action.move_to_location(round(box[0] + x * box[2]), round(box[1] + y * box[3]))
        if number == 0:
            action.pointer_down()
    action.pointer_up()
    actions.perform()
