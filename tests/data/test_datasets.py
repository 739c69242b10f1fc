"""MNIST's family and IDX files of one's own: small files of the same form, and the real Fashion-MNIST."""

import gzip
import hashlib
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision import datasets as published

from mnist_mlp.config import Config, DataConfig, ModelConfig, TrainerConfig
from mnist_mlp.data import download
from mnist_mlp.data.mnist import Digits, is_official, load_digits, read_digits
from mnist_mlp.datasets import DATASETS
from mnist_mlp.errors import UserError
from mnist_mlp.training.fit import fit

FASHION = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist")
FAMILY = ["mnist", "fashion_mnist", "kmnist", "qmnist", "emnist_digits", "emnist_balanced"]
Arrays = list[NDArray[Any]]


def arrays(classes: int = 10, seed: int = 0) -> Arrays:
    """Training images and labels, test images and labels: 2 and 1 images per class."""
    random = np.random.default_rng(seed)
    return [
        array.astype("u1")
        for count in (2 * classes, classes)
        for array in (random.integers(0, 256, (count, 28, 28)), random.permutation(count) % classes)
    ]


def write(path: Path, values: NDArray[Any]) -> Path:
    """Write an IDX file of any type."""
    code = {"u1": 8, "i4": 12, "f4": 13}[values.dtype.str[1:]]
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(values.dtype.newbyteorder(">")).tobytes())
    return path


def write_dataset(root: Path, name: str, content: Arrays | None = None) -> Path:
    """Write small files in the form of a dataset's, where torchvision has them; return their folder."""
    dataset = DATASETS[name]
    train, labels, test, test_labels = content or arrays(len(dataset.classes))
    if name == "qmnist":  # class, series, writer, ...
        labels, test_labels = (
            np.stack([values, *[np.full_like(values, 99)] * 7], 1).astype("i4") for values in (labels, test_labels)
        )
    folder = root / dataset.folder / "raw"
    for file, values in zip(dataset.files, (train, labels, test, test_labels), strict=True):
        write(folder / file.name, values)
    return folder


def tensors(digits: Digits) -> list[torch.Tensor]:
    return [digits.train_images, digits.train_labels, digits.test_images, digits.test_labels]


def by_torchvision(name: str, root: Path) -> list[torch.Tensor]:
    dataset = DATASETS[name]
    split = {"split": name.removeprefix("emnist_")} if dataset.folder == "EMNIST" else {}
    result = []
    for train in (True, False):
        loaded = getattr(published, dataset.folder)(root, train=train, **split)
        # EMNIST's images lie on their side, in the files and in torchvision
        result.append(loaded.data.transpose(1, 2) if split else loaded.data)
        result.append(loaded.targets[:, 0] if name == "qmnist" else loaded.targets)
    return result


def assert_equal(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert [tensor.dtype for tensor in actual] == [torch.uint8, torch.int64] * 2
    assert all(map(torch.equal, actual, expected))


def pretend_official(monkeypatch: pytest.MonkeyPatch, name: str, content: Arrays, root: Path) -> Path:
    """Write these arrays and make their counts and CRC-32 those of the dataset's official files."""
    folder = write_dataset(root, name, content)
    checksums = [zlib.crc32((folder / file.name).read_bytes()) for file in DATASETS[name].files]
    files = tuple(
        file._replace(items=len(values), crc32=crc32)
        for file, values, crc32 in zip(DATASETS[name].files, content, checksums, strict=True)
    )
    monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], files=files, digest=""))
    return folder


def error(*arguments: object, **options: object) -> str:
    """Load; return the message, which must be one line."""
    with pytest.raises(UserError) as caught:
        load_digits(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


# --- files


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("name", FAMILY)
def test_every_dataset_is_read_as_torchvision_reads_it(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    folder = write_dataset(tmp_path, name)
    expected = by_torchvision(name, tmp_path)
    if pack is gzip.compress:
        for path in list(folder.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    for root in (tmp_path, folder, folder.parent):
        digits = load_digits("files", root, name)
        assert_equal(tensors(digits), expected)
        assert digits.source == ("mnist" if name == "mnist" else "files")
        assert len(digits.classes) == len(DATASETS[name].classes) == expected[1].max() + 1


def test_file_and_class_names_are_torchvisions() -> None:
    for name in ("mnist", "fashion_mnist", "kmnist", "qmnist"):
        dataset = DATASETS[name]
        publisher = getattr(published, dataset.folder)
        resources = publisher.resources
        if name == "qmnist":
            resources = resources["train"] + resources["test"]
        assert [file.name for file in dataset.files] == [Path(address).stem for address, _ in resources]
        assert list(dataset.classes) == [re.sub(" - .*", "", label) for label in publisher.classes]
    for name in ("emnist_digits", "emnist_balanced"):
        assert list(DATASETS[name].classes) == published.EMNIST.classes_split_dict[name.removeprefix("emnist_")]


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
@pytest.mark.parametrize("folder", ["MNIST/raw", "FashionMNIST/raw", ".", "raw"])
@pytest.mark.usefixtures("_no_network")
def test_another_datasets_folder_says_what_it_has_and_what_it_says_works(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pretend_official(monkeypatch, name, arrays(), tmp_path / "elsewhere")
    (tmp_path / "root" / folder).mkdir(parents=True)
    for path in source.iterdir():
        path.rename(tmp_path / "root" / folder / path.name)
    for asked in set(FAMILY) - {name}:
        message = error("files", tmp_path / "root", asked)
        (remedy,) = set(re.findall(r"data\.name=(\w+)", message))
        assert remedy == name
    digits = load_digits("auto", tmp_path / "root", name)
    assert digits.classes == DATASETS[name].classes
    assert torch.equal(digits.test_images, torch.from_numpy(arrays()[2]))


# --- IDX files of one's own


NAMINGS = [
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    ("emnist-letters-train-images-idx3-ubyte", "emnist-letters-train-labels-idx1-ubyte",
     "emnist-letters-test-images-idx3-ubyte", "emnist-letters-test-labels-idx1-ubyte"),
    ("x_train.idx", "y_train.idx", "x_test.idx", "y_test.idx"),
    ("Train.x", "Train.y", "TEST.x", "TEST.y"),
]  # fmt: skip


@pytest.mark.parametrize("classes", [2, 11, 255])
@pytest.mark.parametrize("names", NAMINGS, ids=[names[0] for names in NAMINGS])
def test_any_four_idx_files_are_a_dataset(names: tuple[str, ...], classes: int, tmp_path: Path) -> None:
    content = arrays(classes)
    for file, values in zip(names, content, strict=True):
        path = write(tmp_path / file, values)
        path.with_name(f"{file}.gz").write_bytes(gzip.compress(path.read_bytes()))  # a second copy
    (tmp_path / "train.txt").write_text("no IDX file")
    digits = load_digits("auto", tmp_path, "idx")
    assert_equal(
        tensors(digits), [torch.from_numpy(values.astype("i8" if values.ndim == 1 else "u1")) for values in content]
    )
    assert digits.classes == tuple(map(str, range(classes)))
    assert digits.source == "files"


# --- wrong combinations


def with_values(index: int, values: NDArray[Any], name: str = "idx") -> Callable[[Path], None]:
    """Write a dataset whose file of this index has other values."""

    def write_changed(root: Path) -> None:
        content = arrays(len(DATASETS[name].classes) or 10)
        write_dataset(root, name, [*content[:index], values, *content[index + 1 :]])

    return write_changed


def without(index: int, name: str) -> Callable[[Path], None]:
    def write_rest(root: Path) -> None:
        (write_dataset(root, name, arrays()) / DATASETS[name].files[index].name).unlink()

    return write_rest


def with_all(name: str, content: Arrays) -> Callable[[Path], None]:
    return lambda root: (write_dataset(root, name, content), None)[1]


def with_two_candidates(root: Path) -> None:
    for name in ("a-train", "b-train"):
        write(root / name, arrays()[0])


IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = arrays()
LETTERS = arrays(26)
WRONG: list[tuple[str, str, Callable[[Path], None], list[str]]] = [
    ("47 classes", "emnist_digits", with_all("emnist_digits", arrays(47)), ["train_labels", "0 to 46", "0 to 9"]),
    ("47 classes in MNIST's files", "mnist", with_all("mnist", arrays(47)), ["0 to 46", "0 to 9", "data.name"]),
    ("labels from 1", "idx", with_all("idx", [LETTERS[0], LETTERS[1] + 1, LETTERS[2], LETTERS[3] + 1]),
     ["train_labels", "1 to 26", "0 to 25", "subtract 1"]),
    ("test labels from 1", "kmnist", with_values(3, TEST_LABELS + 1, "kmnist"), ["test_labels", "1 to 10", "subtract"]),
    ("256 classes", "idx", with_values(1, np.arange(20, dtype="u1") + np.uint8(236)), ["256 classes", "2 to 255"]),
    ("one class", "idx", with_all("idx", [IMAGES, LABELS * 0, TEST_IMAGES, TEST_LABELS * 0]), ["2 to 255"]),
    ("labels of others", "kmnist", with_values(1, LABELS[1:], "kmnist"), ["train_labels", "(19,)", "(20,)"]),
    ("32 x 32", "idx", with_values(0, np.zeros((20, 32, 32), "u1")), ["train-images", "28 x 28", "32 x 32"]),
    ("RGB", "idx", with_values(2, np.zeros((10, 28, 28, 3), "u1")), ["t10k-images", "dimensions: 3", "dimensions: 4"]),
    ("float images", "idx", with_values(0, (IMAGES / 255).astype("f4")), ["train-images", "uint8", "float32"]),
    ("float labels", "fashion_mnist", with_values(1, LABELS.astype("f4"), "fashion_mnist"), ["uint8", "float32"]),
    ("QMNIST's labels", "idx", with_values(1, np.zeros((20, 8), "i4")), ["train-labels", "int32"]),
    ("QMNIST with MNIST's labels", "qmnist", lambda root: (with_all("qmnist", arrays())(root), write(
        root / "QMNIST/raw/qmnist-test-labels-idx2-int", TEST_LABELS), None)[2], ["int32", "uint8"]),
    ("a file missing", "idx", without(2, "idx"), ["t10k-images-idx3-ubyte not in", "MNIST/raw", "data.root"]),
    ("a file missing, no network", "kmnist", without(1, "kmnist"), ["train-labels-idx1-ubyte not in", "KMNIST/raw"]),
    ("two candidates", "idx", with_two_candidates, ["a-train", "b-train", "train-images-idx3-ubyte"]),
    ("no such dataset", "mnits", lambda root: None, ["mnits", "mnist, fashion_mnist"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "prepare", "words"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
@pytest.mark.usefixtures("_no_network")
def test_a_wrong_combination_is_one_line_that_says_what_is_wrong(
    name: str, prepare: Callable[[Path], None], words: list[str], tmp_path: Path
) -> None:
    prepare(tmp_path)
    message = error("auto", tmp_path, name)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("asked", ["mnist", "kmnist", "idx"])
def test_a_file_of_another_dataset_among_the_four_is_found_by_its_content(
    asked: str, index: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretend_official(monkeypatch, "mnist", arrays(), tmp_path)
    fashion = pretend_official(monkeypatch, "fashion_mnist", arrays(seed=1), tmp_path)
    if asked == "kmnist":  # whose official content is unknown
        folder = write_dataset(tmp_path, "kmnist", arrays(seed=2))
    name = DATASETS[asked].files[index].name
    (folder / name).write_bytes((fashion / name).read_bytes())
    assert f"{folder / name} is {name} of Fashion-MNIST" in error("files", tmp_path, asked)


@pytest.mark.parametrize("name", FAMILY[1:])
def test_the_sample_is_mnist_only(name: str) -> None:
    assert "data.source=sample" in error("sample", name=name)
    with pytest.raises(UserError, match=r"data\.source=sample .*data\.name=mnist"):
        Config(data=DataConfig(name=name, source="sample"))


@pytest.mark.usefixtures("_no_network")
def test_no_other_dataset_falls_back_to_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "download failed" in error("auto", "./data", "kmnist")
    assert "data.source=sample" not in error("auto", "./data", "kmnist")


# --- downloads


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, list[str]]]:
    """A local server: its address, the folder that it serves, the files that were requested."""
    folder, requests = tmp_path_factory.mktemp("served"), list[str]()

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *arguments: object) -> None:
            requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/", folder, requests
        httpd.shutdown()
        thread.join()


def serve(name: str, server: tuple[str, Path, list[str]], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Serve the files of a folder, compressed, at the addresses in torchvision's class."""
    address, served, _ = server
    publisher = getattr(published, DATASETS[name].folder)
    if publisher is published.EMNIST:
        with zipfile.ZipFile(served / "gzip.zip", "w") as archive:
            for path in folder.iterdir():
                for split in ("balanced", "digits"):  # the archive has all splits
                    renamed = path.name.replace(name.removeprefix("emnist_"), split)
                    archive.writestr(f"gzip/{renamed}.gz", gzip.compress(path.read_bytes()))
        monkeypatch.setattr(publisher, "url", f"{address}gzip.zip")
        monkeypatch.setattr(publisher, "md5", hashlib.md5((served / "gzip.zip").read_bytes()).hexdigest())
        return
    resources = []
    for file in DATASETS[name].files:
        content = gzip.compress((folder / file.name).read_bytes())
        (served / f"{file.name}.gz").write_bytes(content)
        resources.append((f"{file.name}.gz", hashlib.md5(content).hexdigest()))
    if publisher is published.QMNIST:
        resources = [(f"{address}{file}", md5) for file, md5 in resources]
        monkeypatch.setattr(publisher, "resources", {"train": resources[:2], "test": resources[2:]})
    else:
        monkeypatch.setattr(publisher, "resources", resources)
        monkeypatch.setattr(publisher, "mirrors", [address])


@pytest.mark.parametrize("name", FAMILY)
def test_a_download_leaves_the_four_files_that_torchvision_reads(
    name: str, server: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(name, server, monkeypatch, write_dataset(tmp_path / "original", name))
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 30_000)  # less than EMNIST's archive
    digits = load_digits("auto", tmp_path / "root", name)
    assert_equal(tensors(digits), by_torchvision(name, tmp_path / "root"))
    files = {path.name for path in (tmp_path / "root").rglob("*") if path.is_file()}
    assert files == {file.name for file in DATASETS[name].files}
    server[2].clear()
    read_digits.cache_clear()
    load_digits("auto", tmp_path / "root", name)
    assert server[2] == []


@pytest.mark.parametrize("fault", ["wrong checksum", "too large", "not found"])
@pytest.mark.parametrize("name", ["kmnist", "qmnist", "emnist_balanced"])
def test_a_failed_download_is_one_line_and_leaves_nothing(
    name: str, fault: str, server: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(name, server, monkeypatch, write_dataset(tmp_path / "original", name))
    (tmp_path / "root").mkdir()
    if fault == "too large":
        monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 1_000)
        monkeypatch.setattr(download, "MAX_ARCHIVE_BYTES", 1_000)
    for path in server[1].iterdir():
        if fault == "wrong checksum":
            path.write_bytes(path.read_bytes() + b"\0")
        elif fault == "not found":
            path.unlink()
    expected = {"wrong checksum": "not the official file", "too large": "1,000 bytes", "not found": "404"}[fault]
    assert expected in error("auto", tmp_path / "root", name)
    assert list((tmp_path / "root").iterdir()) == []


# --- whole runs, and the real Fashion-MNIST


def test_a_run_on_another_dataset_records_it_and_warns_only_of_unofficial_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path, "kmnist")
    config = Config(
        data=DataConfig(name="kmnist", root=tmp_path, val_size=0, batch_size=10),
        model=ModelConfig(hidden_layers=1, hidden_units=[4]),
        trainer=TrainerConfig(max_epochs=1, accelerator="cpu", progress=False),
    )
    result = fit(config, tmp_path / "a")
    assert result.data["classes"] == published.KMNIST.classes
    pixels = arrays()[0] / 255
    assert (result.data["mean"], result.data["std"]) == pytest.approx((pixels.mean(), pixels.std()), abs=5e-5)
    assert "NOT the official KMNIST" in capsys.readouterr().out
    counts = [file._replace(items=20 if "train" in file.name else 10) for file in DATASETS["kmnist"].files]
    monkeypatch.setitem(DATASETS, "kmnist", replace(DATASETS["kmnist"], files=tuple(counts)))
    fit(config, tmp_path / "b")
    assert "NOT" not in capsys.readouterr().out


@needs_fashion
def test_debians_fashion_mnist_is_the_official_one(tmp_path: Path) -> None:
    digits = load_digits("auto", FASHION, "fashion_mnist")
    assert is_official(digits, "fashion_mnist")
    assert digits.statistics == (0.2860, 0.3530)  # as in the literature
    assert digits.digest == Digits(*tensors(digits)).digest
    assert digits.train_labels.bincount().tolist() == [6000] * 10
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(FASHION)
    for root in (FASHION, tmp_path):
        assert "data.name=fashion_mnist" in error("auto", root, "mnist")
    assert load_digits("auto", tmp_path, "fashion_mnist").digest == digits.digest
