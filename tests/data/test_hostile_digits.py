"""Whatever the files of digits hold, they are read as they are or refused in one line."""

import gzip
import struct
from pathlib import Path

import pytest
from hostile_input import cases
from hypothesis import given
from hypothesis import strategies as st

from mnist_mlp.data.mnist import FILES, load_digits, read_digits
from mnist_mlp.errors import UserError

headers = st.builds(
    lambda magic, sizes: struct.pack(f">{1 + len(sizes)}I", magic, *sizes),
    st.sampled_from([0x801, 0x803, 0x803, 0x803, 0, 2**32 - 1]) | st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0, 1, 28, 28, 300, 2**31, 2**32 - 1]), max_size=4),
)
contents = st.binary(max_size=64) | st.builds(lambda head, rest: head + rest, headers, st.binary(max_size=1600))


@pytest.fixture
def whole(idx_root: Path) -> dict[Path, bytes]:
    raw = idx_root / "MNIST" / "raw"
    return {raw / name: (raw / name).read_bytes() for name in FILES}


@cases(25, 3000)
@given(place=st.integers(0, 3), content=contents, packed=st.sampled_from(["", "", ".gz"]), real=st.booleans())
def test_digits_are_read_or_refused_in_a_line(
    place: int, content: bytes, packed: str, real: bool, idx_root: Path, whole: dict[Path, bytes]
) -> None:
    for path, original in whole.items():
        path.write_bytes(original)
        Path(f"{path}.gz").unlink(missing_ok=True)
    victim = list(whole)[place]
    if packed:
        victim.unlink()
    Path(f"{victim}{packed}").write_bytes(gzip.compress(content) if packed and real else content)
    read_digits.cache_clear()
    try:
        digits = load_digits("mnist", str(idx_root))
    except UserError as error:
        assert "\n" not in str(error)
        assert "MNIST/raw" in str(error)
    else:
        assert digits.train_images.shape[1:] == (28, 28)
        assert len(digits.train_images) == len(digits.train_labels) > 0
        assert 0 <= digits.train_labels.min() <= digits.train_labels.max() <= 9
