import math
import statistics
from pathlib import Path

import pytest

from mnist_mlp.runs.predictions import band, read_curves


def test_columns_are_read_by_name_and_missing_values_are_nan(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,train/loss,val/loss\n1,0.5,\n2,nan,0.25\n3\n")
    curves = read_curves(file)
    assert list(curves["epoch"]) == [1, 2, 3]
    assert curves["train/loss"][0] == 0.5
    assert [math.isnan(value) for value in curves["val/loss"]] == [True, False, True]


@pytest.mark.parametrize("content", [None, b"", b"epoch,train/loss\n", b"\xff\xfe\x00", b"a\n1,2,3\n"])
def test_an_unreadable_file_has_no_curves(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "metrics.csv"
    if content is not None:
        file.write_bytes(content)
    assert list(read_curves(file)) in ([], ["a"])


def test_a_band_covers_the_runs_that_reach_an_epoch() -> None:
    first, second = band([[1.0, 3.0], [2.0], [6.0]])
    assert first == (3.0, pytest.approx(statistics.stdev([1.0, 2.0, 6.0])))
    assert second == (3.0, None)
    assert math.isnan(band([[math.nan]])[0][0])
    assert band([]) == []
