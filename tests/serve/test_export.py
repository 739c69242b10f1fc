import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mnist_mlp import export
from mnist_mlp.config import Activation, AugmentConfig, ModelConfig, OptimConfig
from mnist_mlp.data.mnist import load_digits
from mnist_mlp.errors import UserError
from mnist_mlp.model import ACTIVATIONS, MLP
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.serve import export as serving
from mnist_mlp.serve.export import MAX_PAGE_BYTES, draw_page, run_onnx, run_page, write_onnx
from mnist_mlp.serve.nets import dense_net
from mnist_mlp.training.classifier import DigitClassifier

METADATA = {"name": "a net", "net": "MLP", "input": "images", "output": "probabilities"}


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return load_digits("sample", "").test_images[:200].numpy()


def make_classifier(**options: Any) -> DigitClassifier:
    """A classifier with varied predictions, and batch norm statistics other than the initial ones."""
    torch.manual_seed(0)
    model = ModelConfig(hidden_units=[24], **options)
    classifier = DigitClassifier(
        MLP(**model.mlp_arguments()),
        model=model,
        normalization="symmetric",
        optim=OptimConfig(),
        augment=AugmentConfig(),
        seed=0,
    )
    for layer in classifier.mlp.layers:
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=2 / layer.in_features**0.5)
        if isinstance(layer, torch.nn.BatchNorm1d):
            for values in (layer.running_mean, layer.running_var, layer.weight.data, layer.bias.data):
                assert values is not None
                values.uniform_(0.3, 1.5)
    return classifier.eval()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_onnx_and_page_compute_the_probabilities_of_the_network(
    activation: str, batch_norm: bool, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    import onnxruntime

    noisy = {"noise": 0.3} if batch_norm else {}  # in training only
    model = make_classifier(
        activation=Activation(activation), hidden_layers=2, batch_norm=batch_norm, dropout=0.3, **noisy
    )
    expected = model.probabilities(torch.from_numpy(images)).numpy()
    net = dense_net(model)
    write_onnx(net, METADATA, tmp_path / "net.onnx")
    np.testing.assert_allclose(run_onnx(tmp_path / "net.onnx", images), expected, atol=2e-5)
    runtime = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(runtime.run(None, {"images": images})[0], expected, atol=2e-5)
    np.testing.assert_allclose(runtime.run(None, {"images": images[:1]})[0], expected[:1], atol=2e-5)
    for weight_type, tolerance in (("float16", 0.02), ("int8", 0.2)):
        (tmp_path / "net.html").write_text(draw_page(net, METADATA, weight_type))
        np.testing.assert_allclose(run_page(tmp_path / "net.html", images), expected, atol=tolerance)


def test_a_network_without_hidden_layers_is_exported(images: NDArray[np.uint8], tmp_path: Path) -> None:
    model = make_classifier(hidden_layers=0)
    write_onnx(dense_net(model), METADATA, tmp_path / "net.onnx")
    expected = model.probabilities(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(run_onnx(tmp_path / "net.onnx", images), expected, atol=2e-5)


def test_each_format_is_written_to_the_run_folder_and_reports_its_difference(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    target, page = run_folder / "exports.json", run_folder / "report.html"
    page.write_text('<script id="runs-data">')
    export.main([str(run_folder), "--format", "onnx", "--format", "torch", "--format", "html", "--json", str(target)])
    out = capsys.readouterr().out
    assert out.startswith(f"{run_folder}: test accuracy ")
    assert "Reproduce this run" in page.read_text(), "not written anew, to link the draw page"
    assert out.count("same predictions on 1,000 test images (sample)") == 3
    rows = json.loads(target.read_text())["exports"]
    assert [Path(row["path"]).name for row in rows] == ["model.onnx", "model.pt2", "draw.html"]
    assert all(row["images"] == 1000 and row["other_digits"] == 0 for row in rows)
    assert max(row["largest_difference"] for row in rows[:2]) < 1e-5
    result = RunFolder(run_folder).result()
    assert result is not None
    metadata = {item.key: item.value for item in onnx.load(run_folder / "model.onnx").metadata_props}
    assert metadata["fingerprint"] == result.fingerprint
    assert "on 1,000 images (sample)" in metadata["test accuracy"]
    extra = {"metadata.json": ""}
    program = torch.export.load(run_folder / "model.pt2", extra_files=extra).module()
    assert json.loads(extra["metadata.json"]) == metadata
    for count in (1, 3, 700):
        assert program(torch.zeros(count, 28, 28, dtype=torch.uint8)).shape == (count, 10)
    assert sorted(path.name for path in run_folder.iterdir() if path.name.startswith(".")) == []


def test_an_incorrect_file_is_discarded_and_the_earlier_one_kept(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_folder / "model.onnx").write_text("the earlier one")
    original = dense_net

    def extract_incorrectly(model: DigitClassifier) -> Any:
        net = original(model)
        net.layers[-1].biases[3] += 0.5
        return net

    monkeypatch.setattr(serving, "dense_net", extract_incorrectly)
    with pytest.raises(UserError, match=r"the onnx file was discarded: on 1,000 images its probabilities differ"):
        serving.export_run(run_folder, "onnx")
    assert (run_folder / "model.onnx").read_text() == "the earlier one"
    assert not list(run_folder.glob(".model*"))


def test_a_diverged_network_is_an_error(run_folder: Path) -> None:
    checkpoint = torch.load(RunFolder(run_folder).best_checkpoint, weights_only=True)
    checkpoint["state_dict"]["mlp.layers.0.weight"][0, 0] = float("nan")
    torch.save(checkpoint, RunFolder(run_folder).best_checkpoint)
    with pytest.raises(UserError, match="diverged run, with probabilities that are not finite"):
        serving.export_run(run_folder, "onnx")


def test_a_page_is_below_1_mb_by_storing_int8_weights_if_needed() -> None:
    torch.manual_seed(0)
    for units, weight_type in (([256], "float16"), ([400], "int8")):
        model = ModelConfig(hidden_layers=3, hidden_units=units)
        classifier = DigitClassifier(
            MLP(**model.mlp_arguments()),
            model=model,
            normalization="standard",
            optim=OptimConfig(),
            augment=AugmentConfig(),
            seed=0,
        )
        page = draw_page(dense_net(classifier), METADATA)
        assert len(page.encode()) < MAX_PAGE_BYTES
        assert f"<dd>{weight_type}</dd>" in page


def test_markup_in_a_name_is_escaped() -> None:
    page = draw_page(dense_net(make_classifier()), {"name": "<script>alert(1)</script>", "net": "MLP"})
    assert "<script>alert" not in page


def test_missing_onnx_is_a_one_line_error(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UserError, match=r"format=onnx needs the package onnx: run pip install 'mnist_mlp\[export\]'"):
        serving.export_run(run_folder, "onnx")


def test_a_checkpoint_without_run_folder_is_exported_without_accuracy(trained: Path, tmp_path: Path) -> None:
    shutil.copy(RunFolder(trained).best_checkpoint, tmp_path / "net.ckpt")
    export = serving.export_run(tmp_path / "net.ckpt", "html")
    assert export.path == tmp_path / "draw.html"
    assert "test accuracy" not in export.path.read_text()


def test_output_needs_a_single_format(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="error: --output needs a single --format"):
        export.main([str(trained), "--format", "onnx", "--format", "html", "--output", str(tmp_path / "x")])
