"""How settings are shown."""

import pytest

from mnist_mlp.runs.settings import short_values


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0123456789, 0.5], ["0.0123", "0.5"]),
        ([0.0123456789, 0.0123456, 0.4], ["0.0123457", "0.0123456", "0.4"]),
        ([0.12341, 0.12349, 0.2], ["0.1234", "0.1235", "0.2"]),
        ([1e-05, 100.0, 256], ["1e-05", "100.0", "256"]),
        (["relu", None, True, [64, 32]], ["relu", "-", "True", "64-32"]),
    ],
)
def test_numbers_have_as_few_digits_as_tell_them_apart(values: list[object], shown: list[str]) -> None:
    assert list(short_values(values).values()) == shown


def test_what_is_shown_is_never_the_same_for_two_values() -> None:
    values = [0.1 + n * 1e-7 for n in range(200)]
    assert len(set(short_values(values).values())) == 200
