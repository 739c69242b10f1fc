import numpy as np

from mnist_mlp.data.segmentation import Ink, cut_apart


def with_boxes(*boxes: tuple[int, int, int, int]) -> Ink:
    """Ink in boxes of (top, bottom, left, right)."""
    ink = np.zeros((100, 300), np.uint8)
    for top, bottom, left, right in boxes:
        ink[top:bottom, left:right] = 255
    return ink


def columns(parts: list[Ink]) -> list[tuple[int, int]]:
    found = [np.flatnonzero(part.any(0)) for part in parts]
    return [(int(where[0]), int(where[-1]) + 1) for where in found]


def test_pieces_with_a_gap_are_digits_from_left_to_right() -> None:
    ink = with_boxes((10, 80, 200, 240), (20, 90, 10, 50), (15, 85, 100, 110))
    parts = cut_apart(ink)
    assert columns(parts) == [(10, 50), (100, 110), (200, 240)]
    assert (sum(part.astype(int) for part in parts) == ink).all()


def test_a_bar_above_its_body_is_one_digit() -> None:
    assert columns(cut_apart(with_boxes((10, 20, 20, 70), (30, 90, 15, 60), (10, 90, 120, 160)))) == [
        (15, 70),
        (120, 160),
    ]


def test_slanting_digits_that_overlap_a_little_stay_apart() -> None:
    assert len(cut_apart(with_boxes((10, 45, 20, 70), (50, 95, 60, 110)))) == 2


def test_digits_that_touch_are_cut_at_the_thinnest_place() -> None:
    touching = with_boxes((10, 90, 20, 80), (60, 64, 80, 96), (10, 90, 96, 156))
    parts = cut_apart(touching)
    assert len(parts) == 2
    assert 80 <= columns(parts)[1][0] <= 96


def test_a_full_stop_joins_its_neighbour() -> None:
    assert columns(cut_apart(with_boxes((10, 90, 20, 80), (82, 90, 85, 93)))) == [(20, 93)]
