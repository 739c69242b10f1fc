"""Property tests: MNIST files with arbitrary content are either read or rejected with a one-line error."""

import gzip
import struct
from pathlib import Path

import pytest
from hostile_input import cases
from hypothesis import given
from hypothesis import strategies as st

from mnist_mlp.data.mnist import load_digits, read_digits
from mnist_mlp.datasets import DATASETS
from mnist_mlp.errors import UserError

headers = st.builds(
    lambda magic, sizes: struct.pack(f">{1 + len(sizes)}I", magic, *sizes),
    st.sampled_from([0x801, 0x803, 0x803, 0x803, 0, 2**32 - 1]) | st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0, 1, 28, 28, 300, 2**31, 2**32 - 1]), max_size=4),
)
contents = st.binary(max_size=64) | st.builds(lambda header, body: header + body, headers, st.binary(max_size=1600))


@pytest.fixture
def originals(idx_root: Path) -> dict[Path, bytes]:
    raw = idx_root / "MNIST" / "raw"
    return {raw / file.name: (raw / file.name).read_bytes() for file in DATASETS["mnist"].files}


@cases(25, 3000)
@given(index=st.integers(0, 3), content=contents, suffix=st.sampled_from(["", "", ".gz"]), is_gzip=st.booleans())
def test_files_are_read_or_rejected_with_a_one_line_error(
    index: int, content: bytes, suffix: str, is_gzip: bool, idx_root: Path, originals: dict[Path, bytes]
) -> None:
    for path, original in originals.items():
        path.write_bytes(original)
        Path(f"{path}.gz").unlink(missing_ok=True)
    replaced = list(originals)[index]
    if suffix:
        replaced.unlink()
    Path(f"{replaced}{suffix}").write_bytes(gzip.compress(content) if suffix and is_gzip else content)
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
