import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_mlp import evaluate
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_predictions
from mnist_mlp.serve.evaluate import disagreements_with, evaluate_ensemble, evaluate_run
from mnist_mlp.serve.export import export_run
from mnist_mlp.serve.nets import locate


@pytest.fixture
def members(run_folder: Path) -> list[Path]:
    """Three different networks: the trained one, and two with noise added to its weights."""
    import torch

    paths = [run_folder]
    for number in (1, 2):
        path = Path(shutil.copytree(run_folder, run_folder.parent / f"noisy_{number}"))
        checkpoint = torch.load(RunFolder(path).best_checkpoint, weights_only=True)
        noise = torch.Generator().manual_seed(number)
        for name, value in checkpoint["state_dict"].items():
            if name.endswith("weight"):
                value += 0.06 * torch.randn(value.shape, generator=noise)
        torch.save(checkpoint, RunFolder(path).best_checkpoint)
        paths.append(path)
    return paths


def test_evaluating_a_run_on_test_reproduces_its_result(trained: Path) -> None:
    evaluation, result = evaluate_run(trained), RunFolder(trained).result()
    assert result is not None
    assert evaluation.confusion_matrix == result.confusion_matrix
    assert evaluation.metrics["accuracy"] == result.metric("test/accuracy")
    assert disagreements_with(result, evaluation) == []
    predictions = read_predictions(RunFolder(trained))
    assert predictions is not None
    np.testing.assert_allclose(evaluation.probabilities, predictions.probabilities, atol=1e-5)


@pytest.mark.parametrize("split", ["val", "train"])
def test_the_checkpoint_of_another_run_is_not_evaluated_on_images_that_it_may_have_seen(
    run_folder: Path, split: str
) -> None:
    run = RunFolder(run_folder).run_file
    run.write_text(run.read_text().replace('"split_seed": 0', '"split_seed": 1'))
    assert '"split_seed": 1' in run.read_text()
    with pytest.raises(UserError, match=r"is of another run \(data.split_seed: 0 -> 1\)"):
        evaluate_run(run_folder, split)


def test_a_result_that_is_not_reproduced_is_reported(members: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        evaluate.main([str(members[1]), "--no-figures"])
    assert exit_code.value.code == evaluate.DIFFERS
    assert "DIFFERS from result.json: the confusion matrix" in capsys.readouterr().out


def test_validation_and_training_images_are_those_of_the_run(trained: Path) -> None:
    result = RunFolder(trained).result()
    assert result is not None
    val, train = evaluate_run(trained, "val"), evaluate_run(trained, "train")
    assert val.metrics["accuracy"] == pytest.approx(result.metric("val/accuracy"))
    assert (len(val.truth), len(train.truth)) == (result.data["val"], result.data["train"])
    assert not set(val.indices) & set(train.indices)


def test_a_checkpoint_without_run_folder_is_evaluated_on_the_available_files(
    trained: Path, tmp_path: Path, idx_root: Path
) -> None:
    checkpoint = tmp_path / "copies" / "net.ckpt"
    checkpoint.parent.mkdir()
    shutil.copy(RunFolder(trained).best_checkpoint, checkpoint)
    assert len(evaluate_run(checkpoint, data_root=str(idx_root)).truth) == 100
    with pytest.raises(UserError, match="split=val needs the run folder"):
        evaluate_run(checkpoint, "val", str(idx_root))


def test_a_run_on_arrays_can_only_be_evaluated_in_python(run_folder: Path) -> None:
    file = RunFolder(run_folder).run_file
    run = json.loads(file.read_text())
    run["config"]["data"]["source"] = "arrays"
    file.write_text(json.dumps(run))
    with pytest.raises(UserError, match=r"sample_net was trained on arrays.*Trainer\.test.*mnist_mlp\.DigitData"):
        evaluate_run(run_folder)
    assert export_run(run_folder, "onnx").source == "sample"


def test_an_ensemble_is_the_mean_of_log_probabilities(members: list[Path]) -> None:
    evaluation = evaluate_ensemble(members)
    mean = np.mean([np.log(member.probabilities.astype(float)) for member in evaluation.members], axis=0)
    expected = np.exp(mean) / np.exp(mean).sum(1, keepdims=True)
    np.testing.assert_allclose(evaluation.ensemble.probabilities, expected, rtol=1e-3, atol=1e-6)
    ensemble, best = evaluation.ensemble, evaluation.best
    assert ensemble.metrics["accuracy"] == pytest.approx(np.mean(expected.argmax(1) == ensemble.truth))
    assert best.metrics["accuracy"] == max(member.metrics["accuracy"] for member in evaluation.members)
    test = evaluation.against_best
    assert test.only_second - test.only_first == ensemble.correct.sum() - best.correct.sum()


def test_members_and_ensemble_are_printed_in_one_table(members: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    target = members[0].parent / "ensemble.json"
    evaluate.main([*map(str, members), "--json", str(target)])
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines()[3:6]] == ["sample_net", "noisy_1", "noisy_2"]
    assert "ensemble of 3" in out
    assert "McNemar's exact test, ensemble vs best member" in out
    assert 0 <= json.loads(target.read_text())["mcnemar"]["p_value"] <= 1


def test_an_ensemble_on_different_validation_images_is_an_error(members: list[Path]) -> None:
    import torch

    file = RunFolder(members[1]).run_file
    run = json.loads(file.read_text())
    run["config"]["data"]["split_seed"] = 7
    file.write_text(json.dumps(run))
    checkpoint = torch.load(RunFolder(members[1]).best_checkpoint, weights_only=True)
    torch.save({**checkpoint, "run": run}, RunFolder(members[1]).best_checkpoint)
    with pytest.raises(UserError, match=r"different val images.*use --split test"):
        evaluate_ensemble(members, "val")


def test_figures_are_written_to_the_run_folder(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main([str(run_folder)])
    out = capsys.readouterr().out
    assert "Equal to result.json." in out
    assert "weighted avg" in out
    names = sorted(path.name for path in (run_folder / "evaluation" / "test").iterdir())
    assert names == ["calibration.png", "confusion_matrix.png", "f1_per_class.png", "mistakes.png"]


def test_a_run_is_located_by_folder_checkpoint_name_or_latest(run_folder: Path) -> None:
    outputs, checkpoint = run_folder.parents[1], RunFolder(run_folder).best_checkpoint
    for name in (run_folder, checkpoint, "sample_net", "train/sample_net", "latest"):
        net = locate(name, outputs)
        assert net.checkpoint.resolve() == checkpoint.resolve()
        assert net.folder is not None
        assert net.folder.path.resolve() == run_folder.resolve()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("nothing", r"no folder nothing, .*use a path"),
        ("samplenet", r"no folder samplenet, .*did you mean sample_net"),
        ("train", r"train is not a run folder: use a run in it, such as .*sample_net"),
        ("empty", r"empty is not a run folder: it has no checkpoints/best.ckpt"),
        ("started", r"started has no checkpoints/best.ckpt: its run has not finished an epoch"),
    ],
)
def test_a_path_that_is_not_a_run_is_a_one_line_error(run_folder: Path, run: str, message: str) -> None:
    outputs = run_folder.parents[1]
    (outputs / "empty").mkdir()
    (outputs / "started").mkdir()
    (outputs / "started" / "run.json").write_text("{}")
    with pytest.raises(UserError, match=message) as error:
        locate(run, outputs)
    assert "\n" not in str(error.value)


def test_latest_without_a_finished_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="latest: no finished run under"):
        locate("latest", tmp_path)


def test_help_imports_no_torch() -> None:
    for command in ("evaluate", "predict", "export"):
        code = f"import sys; from mnist_mlp import {command} as c; c.build_parser(); sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unwritable_json_file_is_an_error_before_the_evaluation(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .* cannot be written: there is no folder"):
        evaluate.main([str(trained), "--json", str(tmp_path / "none" / "x.json")])


def test_a_run_in_bfloat16_is_evaluated_as_it_was_tested(tmp_path: Path) -> None:
    from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig, Source, TrainerConfig
    from mnist_mlp.training.fit import fit

    result = fit(
        Config(
            data=DataConfig(source=Source.sample),
            model=ModelConfig(hidden_layers=2, hidden_units=[64]),
            optim=OptimConfig(lr=0.05),
            trainer=TrainerConfig(precision="bf16-mixed", max_epochs=1, progress=False, figures=False),
        ),
        tmp_path / "run",
    )
    assert disagreements_with(result, evaluate_run(tmp_path / "run")) == []
