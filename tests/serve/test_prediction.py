import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import dark_on_light
from PIL import Image

from mnist_mlp import predict
from mnist_mlp.data.mnist import load_digits
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.serve.nets import load_classifier
from mnist_mlp.serve.predict import predict_pictures, predict_run

RANDOM = np.random.default_rng(0)


def png_with_side(side: int, png: bytes) -> bytes:
    """A small PNG whose header claims side x side pixels."""
    header = b"IHDR" + struct.pack(">II", side, side) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures, one per digit, named after it."""
    digits = load_digits("sample", "")
    path = tmp_path / "pictures"
    path.mkdir()
    for digit in range(10):
        image = digits.test_images[(digits.test_labels == digit).nonzero()[3, 0]].numpy()
        Image.fromarray(dark_on_light(image, RANDOM)).save(path / f"{digit}.png")
    return path


def test_pictures_of_digits_are_classified_correctly(trained: Path, folder: Path) -> None:
    model = load_classifier(RunFolder(trained).best_checkpoint)
    predictions = predict_pictures(model, sorted(folder.iterdir()))
    assert sum(item.digit == digit for digit, item in enumerate(predictions)) >= 9
    assert [item.digit for item in predict_run(trained, [folder / "3.png"])] == [predictions[3].digit]
    for item in predictions:
        assert sum(item.probabilities) == pytest.approx(1)
        assert item.pixels is not None
        import torch

        np.testing.assert_allclose(
            model.probabilities(torch.from_numpy(item.pixels[None]))[0], item.probabilities, atol=1e-6
        )


def test_unreadable_files_are_reported_and_the_others_are_predicted(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no picture")
    Image.new("RGB", (60, 60), "white").save(folder / "white.png")
    valid = (folder / "3.png").read_bytes()
    (folder / "cut.png").write_bytes(valid[: len(valid) // 2])
    (folder / "bomb.png").write_bytes(png_with_side(60_000, valid))
    (folder / "large.png").write_bytes(png_with_side(11_000, valid))
    target = tmp_path / "predictions.json"
    with pytest.raises(SystemExit) as exit_code:
        predict.main([str(trained), str(folder), str(tmp_path / "none.png"), "--json", str(target)])
    assert exit_code.value.code == predict.SOME_FAILED
    rows = json.loads(target.read_text())
    errors = {Path(row["file"]).name: row["error"] for row in rows if "error" in row}
    expected = {
        "empty.png": "the file is empty", "text.png": "not a supported image file", "white.png": "no digit found",
        "cut.png": "damaged", "bomb.png": "more than 100,000,000 pixels",
        "large.png": "more than 100,000,000 pixels",
        "none.png": "cannot be read (No such file",
    }  # fmt: skip
    assert errors.keys() == expected.keys()
    for name, message in expected.items():
        assert message in errors[name]
    predictions = [row for row in rows if "digit" in row]
    assert len(predictions) == 10
    for row in predictions:
        assert {"file", "digit", "probability", "probabilities"} <= row.keys()
        assert len(row["probabilities"]) == 10
        assert row["probability"] == max(row["probabilities"])
    _, *errors_shown = capsys.readouterr().err.splitlines()  # the first line names the net
    assert len(errors_shown) == 7
    assert all(line.startswith("error: ") for line in errors_shown)


def test_closed_images_are_reported_and_the_others_are_predicted(trained: Path, folder: Path) -> None:
    with Image.open(folder / "3.png") as image, open(folder / "4.png", "rb") as file:
        pass
    closed, closed_file, predicted = predict_run(trained, [image, file, Image.open(folder / "5.png")])
    assert closed.file.endswith("3.png")
    assert closed.error is not None
    assert "closed" in closed.error
    assert "closed" in str(closed_file.error)
    assert predicted.digit in range(10)
    for read in (lambda: closed.digit, lambda: closed.probability, lambda: closed.runner_up):
        with pytest.raises(ValueError, match=r"3\.png .*closed"):
            read()


def test_the_first_line_names_the_net_and_its_accuracy(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, checkpoint = str(folder / "3.png"), RunFolder(trained).best_checkpoint
    accuracy = json.loads((trained / "result.json").read_text())["metrics"]["test/accuracy"]
    predict.main([str(trained), picture])
    assert capsys.readouterr().err == f"{trained}: test accuracy {100 * accuracy:.2f} % (sample)\n"
    alone = shutil.copy(checkpoint, tmp_path / "net.ckpt")
    predict.main([str(alone), picture])
    assert "net.ckpt: test accuracy unknown" in capsys.readouterr().err
    predict.main([str(RunFolder(trained).last_checkpoint), picture])  # another epoch than the tested one
    assert "last.ckpt: test accuracy unknown" in capsys.readouterr().err


def test_hidden_files_of_a_folder_are_skipped(trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "._3.png").write_bytes(b"\0\5\26\7")
    predict.main([str(trained), str(folder)])
    assert len(capsys.readouterr().out.splitlines()) == 11


def test_table_csv_and_figure_are_written(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv, figure = tmp_path / "predictions.csv", tmp_path / "predictions.png"
    predict.main([str(trained), str(folder), "--csv", str(csv), "--figure", str(figure)])
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["file", "digit", "probability", "runner-up"]
    assert len(out) == 11
    lines = csv.read_text().splitlines()
    assert lines[0] == "file,digit,probability,runner_up,p0,p1,p2,p3,p4,p5,p6,p7,p8,p9,error"
    assert [line.split(",")[1] for line in lines[1:]] == [line.split()[1] for line in out[1:]]
    with Image.open(figure) as image:
        assert image.width > 1000
        assert image.height > 800


def test_a_picture_is_read_from_stdin(
    trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((folder / "0.png").read_bytes())))
    predict.main([str(trained), "-"])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["-", "0"]


def test_a_folder_or_figure_without_pictures_is_an_error(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"error: .*empty contains no pictures"):
        predict.main([str(trained), str(tmp_path / "empty")])
    with pytest.raises(SystemExit, match=r"error: .*none of the files is a picture of a digit"):
        predict.main([str(trained), str(tmp_path / "none.png"), "--figure", str(tmp_path / "figure.png")])
    with pytest.raises(SystemExit, match=r"error: - \(stdin\) is one picture"):
        predict.main([str(trained), "-", "-"])


def test_a_run_predicts_evaluates_and_exports(run_folder: Path, folder: Path) -> None:
    import mnist_mlp

    run = mnist_mlp.load_run(run_folder)
    assert run.evaluate("val").metrics["accuracy"] == pytest.approx(run.metrics["val/accuracy"])
    images = load_digits("sample", "").test_images[:5].numpy()
    predicted = [item.digit for item in run.predict(images)]
    assert predicted == [run.predict(image)[0].digit for image in images]
    assert predicted == run.model().probabilities(load_digits("sample", "").test_images[:5]).argmax(1).tolist()
    assert run.predict(str(folder / "7.png"))[0].file.endswith("7.png")
    assert len(run.predict([folder / "1.png", folder / "none.png"])) == 2
    assert run.export("onnx").path == run_folder / "model.onnx"
    assert (mnist_mlp.prepare(images[0]) == images[0]).all()


def test_the_sample_picture_of_the_docs_is_a_small_five(trained: Path) -> None:
    picture = Path(__file__).resolve().parents[2] / "examples" / "digit.png"
    assert picture.stat().st_size < 10_000
    assert predict_run(trained, [picture])[0].digit == 5
