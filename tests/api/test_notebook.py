"""What IPython displays of figures, comparisons and errors, and of a sweep while it runs."""

import re
import sys
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.formatters import HTMLFormatter, PNGFormatter
from IPython.core.interactiveshell import InteractiveShell
from made_up_runs import write_curves, write_run

import mnist_mlp
from mnist_mlp.api.notebook import NotebookSweepProgress
from mnist_mlp.config import Config, TrainerConfig
from mnist_mlp.errors import keyboard_interrupt
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.sweeps.jobs import Job, JobEnd


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setattr("IPython.core.history.HistoryManager.enabled", False)
    hook = sys.excepthook
    yield InteractiveShell(colors="nocolor")
    assert sys.excepthook is hook


@pytest.mark.parametrize("error", [mnist_mlp.UserError("optim.lr=-1"), keyboard_interrupt("in epoch 2 of 3")])
def test_ipython_shows_a_mistake_or_an_interruption_in_one_line(
    error: BaseException, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    shell.user_ns["fail"] = fail
    shell.run_cell("fail()")
    assert capsys.readouterr().out.strip() == f"{type(error).__name__}: {error}"


def test_completion_offers_the_public_names(shell: InteractiveShell) -> None:
    shell.run_cell("import mnist_mlp")
    with provisionalcompleter():
        offered = {name.text for name in shell.Completer.completions("mnist_mlp.", len("mnist_mlp."))}
    assert {"fit", "sweep", "load_run"} <= offered <= set(mnist_mlp.__all__)


def test_a_running_sweep_shows_counts_running_jobs_and_the_best_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a Jupyter kernel
    monkeypatch.setattr("mnist_mlp.api.notebook.updatable", lambda content: shown.append)
    config = Config(trainer=TrainerConfig(max_epochs=4))
    jobs = [
        Job(RunFolder(tmp_path / f"lr-{lr}"), tmp_path, number, 3, [f"optim.lr={lr}"], {}, config)
        for number, lr in enumerate((0.1, 0.2, 0.4), 1)
    ]
    progress = NotebookSweepProgress(jobs, time.time())
    for job in jobs[:2]:
        job.folder.path.mkdir()
        progress.started(job)
    jobs[1].folder.metrics_file.write_text("epoch,val/accuracy,elapsed_seconds\n1,0.91,10\n")
    progress.ended(jobs[0], JobEnd("lr-0.1: outcome", 0.97))
    progress._last_read = 0.0
    progress.tick()
    text = unescape(re.sub("<.*?>", "", shown[-1]))
    for part in ("1 of 3 done, 1 running", "epoch 1/4", "91.00 %", "97.00 %", " left"):
        assert part in text
    print("output of a job")
    progress.close()
    assert not any("outcome" in view or "\x1b" in view for view in shown)
    assert capsys.readouterr().out == "output of a job\n"


@pytest.fixture
def sweep(tmp_path: Path) -> mnist_mlp.Sweep:
    for lr, wrong in ((0.1, (1, 2)), (0.2, (1, 2, 3, 4)), (0.4, range(90))):
        for seed in range(3):
            folder = write_run(tmp_path / f"{lr}_{seed}", wrong=[*wrong, 95 + seed], optim__lr=lr, seed=seed)
            write_curves(folder, [2.0, 1.0])
    return mnist_mlp.load_sweep(tmp_path)


def test_the_plot_of_a_sweep_has_each_setting_at_its_difference_to_the_best_and_its_verdict(
    sweep: mnist_mlp.Sweep,
) -> None:
    figure = sweep.plot()
    (axes,) = figure.axes
    dots = {-line.get_ydata()[0]: line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert dots == {0: 0.0, 1: pytest.approx(-2.0)}
    texts = [text.get_text() for text in axes.texts]
    assert any(text.startswith("-88") for text in texts)  # drawn at the edge
    verdicts = [text.split()[0] for text in texts if text[0] != "-"]
    assert (len(verdicts), verdicts[0], verdicts[-1]) == (3, "best", "worse")
    assert "<img" in HTMLFormatter()(sweep)


def test_the_plot_of_a_run_has_its_curves_and_its_confusion_matrix(sweep: mnist_mlp.Sweep) -> None:
    run = sweep.best()
    figure = run.plot()
    accuracy, loss, confusion = figure.axes
    assert list(loss.lines[0].get_ydata()) == list(run.curves["train/loss"])
    counts = sorted(int(text.get_text()) for text in confusion.texts if text.get_text().isdecimal())
    assert counts == sorted(run.confusion_matrix[run.confusion_matrix > 0].tolist())
    assert accuracy.get_title() != loss.get_title()
    assert PNGFormatter()(figure).startswith(b"\x89PNG")


def test_curves_are_a_frame_by_epoch_or_lists_without_pandas(
    sweep: mnist_mlp.Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep.runs[0].path
    frame = mnist_mlp.load_run(path).curves
    assert frame.loc[2, "train/loss"] == 1.0
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    lists: Any = mnist_mlp.load_run(path).curves
    assert {name: frame[name].tolist() for name in frame} == {name: pytest.approx(lists[name]) for name in lists}


def test_a_comparison_names_both_settings(sweep: mnist_mlp.Sweep) -> None:
    difference = sweep.compare({"optim.lr": 0.2}, {"optim.lr": 0.1})
    for shown in (repr(difference), HTMLFormatter()(difference)):
        assert all(part in shown for part in ("optim.lr=0.2", "optim.lr=0.1", "-2.00", difference.verdict))


def test_runs_and_sweeps_load_by_name_and_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train/mine", "sweeps/lr/a", "sweeps/lr/b"):
        folder = write_run(Path("outputs", name), seed=len(name))
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints/best.ckpt").touch()
    assert mnist_mlp.load_run("mine").path == Path("outputs/train/mine")
    assert mnist_mlp.load_run("latest").path == Path("outputs/sweeps/lr/b")
    assert mnist_mlp.load_sweep("lr").path == mnist_mlp.load_sweep("latest").path == Path("outputs/sweeps/lr")
    assert len(mnist_mlp.load_sweep("lr")) == 2
    for load in (mnist_mlp.load_run, mnist_mlp.load_sweep):
        with pytest.raises(mnist_mlp.UserError, match=r"nothere.*outputs.*latest"):
            load("nothere")
    with pytest.raises(mnist_mlp.UserError, match="load_sweep"):
        mnist_mlp.load_run("lr")
