"""A network of 47 named classes is evaluated, exported, used on pictures and reported by their names."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_idx
from numpy.typing import NDArray
from PIL import Image
from reporting.pages import faults, opened, press, texts

import mnist_mlp
from mnist_mlp import predict
from mnist_mlp.datasets import DATASETS, class_noun
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.page import write_page
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.serve.evaluate import disagreements_with, evaluate_run
from mnist_mlp.serve.nets import load_classifier
from mnist_mlp.serve.predict import predict_pictures

LETTERS = DATASETS["emnist_balanced"].classes
READY = "const page = document.querySelector('.digits'); return page.dataset.ready === 'true'"


def letters(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images without black pixels, and labels from 0 to 46: a fixed random pattern per class, with noise."""
    patterns = np.random.default_rng(0).random((47, 28, 28)) < 0.3
    labels = np.arange(count) % 47
    noise = np.random.default_rng(seed).integers(40, 100, (count, 28, 28))
    return np.uint8(150 * patterns[labels] + noise), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def letters_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("letters")
    for split, count, seed in (("train", 600, 1), ("test", 188, 2)):
        images, labels = letters(count, seed)
        write_idx(root / f"emnist-balanced-{split}-images-idx3-ubyte", images)
        write_idx(root / f"emnist-balanced-{split}-labels-idx1-ubyte", labels)
    options: dict[str, Any] = {
        "data.name": "emnist_balanced", "data.root": str(root), "data.val_size": 94, "model.hidden_layers": 1,
        "model.hidden_units": 32, "optim.name": "adam", "optim.lr": 0.01, "trainer.max_epochs": 3,
        "trainer.progress": False, "trainer.figures": False, "trainer.accelerator": "cpu",
    }  # fmt: skip
    return mnist_mlp.fit(options, root / "run").path


def test_evaluation_reproduces_the_result_and_names_the_classes(letters_run: Path) -> None:
    evaluation, result = evaluate_run(letters_run), RunFolder(letters_run).result()
    assert result is not None
    assert evaluation.classes == tuple(result.classes) == LETTERS
    assert disagreements_with(result, evaluation) == []
    assert np.shape(evaluation.confusion_matrix) == (47, 47)
    named = [line.split()[0] for line in mnist_mlp.load_run(letters_run).report().splitlines()[2:49]]
    assert named == [name for name, support in zip(LETTERS, result.per_class["support"], strict=True) if support]


def test_a_checkpoint_is_not_evaluated_on_images_of_other_classes(
    letters_run: Path, tmp_path: Path, idx_root: Path
) -> None:
    checkpoint = Path(shutil.copy(RunFolder(letters_run).best_checkpoint, tmp_path / "net.ckpt"))
    with pytest.raises(UserError, match="other classes"):
        evaluate_run(checkpoint, data_root=str(idx_root))


def test_pictures_are_predicted_by_name(letters_run: Path, tmp_path: Path) -> None:
    images, _ = letters(47, 3)
    model = load_classifier(RunFolder(letters_run).best_checkpoint)
    small = predict_pictures(model, list(images))
    assert [item.digit for item in small] == model.predict(images).tolist()
    enlarged = np.kron(255 - images, np.ones((10, 10), np.uint8))
    pages = np.pad(enlarged, ((0, 0), (30, 90), (60, 10)), constant_values=255)
    large = predict_pictures(model, list(pages))
    assert all((item.pixels == image).all() for item, image in zip([*small, *large], [*images, *images], strict=True))
    for name, image in (("small", images[5]), ("large", pages[7]), ("white", np.full((90, 90), 255, np.uint8))):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    table, values = tmp_path / "table.csv", tmp_path / "values.json"
    pictures = [str(tmp_path / f"{name}.png") for name in ("small", "large", "white")]
    with pytest.raises(SystemExit) as exit_code:
        predict.main([str(letters_run), *pictures, "--csv", str(table), "--json", str(values)])
    assert exit_code.value.code == predict.SOME_FAILED
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert [row["class"] for row in rows] == [small[5].class_name, large[7].class_name, ""]
    assert "blank" in rows[2]["error"]
    written = json.loads(values.read_text())[0]
    assert list(written["probabilities"]) == list(LETTERS)
    assert (
        written["probabilities"][written["class"]] == written["probability"] == float(rows[0][f"p_{written['class']}"])
    )
    assert written["probabilities"][written["runner_up"]] == sorted(written["probabilities"].values())[-2]


def test_exports_have_an_output_per_class_and_their_names(letters_run: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    export = mnist_mlp.load_run(letters_run).export("onnx", tmp_path / "net.onnx")
    assert (export.other_digits, export.source) == (0, "EMNIST Balanced")
    model = onnx.load(export.path)
    assert model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 47
    assert json.loads({item.key: item.value for item in model.metadata_props}["classes"]) == list(LETTERS)


@pytest.mark.browser
@pytest.mark.integration
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_run_page_has_a_row_and_column_per_class(
    browser: Any, letters_run: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    with opened(browser, write_page([letters_run], tmp_path / "page.html"), width, dark):
        WebDriverWait(browser, 20).until(lambda driver: driver.execute_script(READY))
        assert texts(browser, ".confusion tbody th") == list(LETTERS)
        browser.execute_script("document.querySelector('.confusion tbody td').click()")
        browser.execute_script("document.querySelector('.confusion tbody td').focus()")
        press(browser, *["ARROW_DOWN"] * 12, "END", "ENTER")
        assert texts(browser, ".panel .head")[0].startswith("true C, predicted t: ")
        shown = texts(browser, ".bars tbody th")
        assert len(shown) in (0, 10)
        assert faults(browser) == []


@pytest.mark.browser
@pytest.mark.integration
def test_the_draw_page_has_a_bar_per_class(browser: Any, letters_run: Path, tmp_path: Path) -> None:
    export = mnist_mlp.load_run(letters_run).export("html", tmp_path / "draw.html")
    browser.get_log("browser")
    browser.get(export.path.as_uri())
    assert texts(browser, "#bars .name") == list(LETTERS)
    browser.execute_script("strokes.push([[100, 100], [400, 450]]); redraw(); update();")
    assert texts(browser, "#digit")[0] in LETTERS
    assert texts(browser, "#bars .first .name") == texts(browser, "#digit")
    assert browser.get_log("browser") == []


def test_only_the_digits_are_called_digits() -> None:
    assert class_noun([str(digit) for digit in range(10)]) == "digit"
    assert class_noun(LETTERS) == class_noun([str(n) for n in range(9)]) == "class"
