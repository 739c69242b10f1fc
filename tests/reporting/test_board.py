"""Runs under short names in TensorBoard, read back by its own reader."""

import errno
import os
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from made_up_runs import write_run
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from torch.utils.tensorboard import SummaryWriter

from mnist_mlp import tensorboard
from mnist_mlp.compare.collect import summarize
from mnist_mlp.compare.load import find_jobs
from mnist_mlp.reporting.tensorboard import MAX_TICKED, board_runs, link_runs, write_means


def run_with_events(folder: Path, wrong: int = 3, **settings: object) -> Path:
    write_run(folder, range(wrong), **settings)
    with SummaryWriter(folder / "tensorboard") as writer:
        writer.add_scalar("val/accuracy", 0.5, 1)
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two learning rates and two seeds, with means, and two single runs."""
    folder = tmp_path_factory.mktemp("outputs")
    for lr, wrong in ((0.1, 20), (0.2, 3)):
        for seed in (0, 1):
            name = f"batch_size-64_lr-{lr}_seed-{seed}"
            run_with_events(folder / "sweeps" / "rates" / name, wrong, optim__lr=lr, seed=seed)
    sweep = folder / "sweeps" / "rates"
    write_means(sweep, summarize(find_jobs([sweep])))
    for name in ("mine", "2026-11-24_12-00-00-123456"):
        run_with_events(folder / "train" / name, seed=5)
    return folder


def tensorboard_names(folder: Path) -> set[str]:
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    return set(multiplexer.Runs())


def test_runs_of_a_sweep_are_named_by_their_varying_settings(outputs: Path, tmp_path: Path) -> None:
    runs = board_runs(find_jobs([outputs / "sweeps" / "rates"]))
    link_runs(runs, tmp_path)
    names = {f"lr={lr}, seed {seed}" for lr in (0.1, 0.2) for seed in (0, 1, "mean")}
    assert tensorboard_names(tmp_path) == names
    assert list(runs)[:2] == ["lr=0.2, seed mean", "lr=0.1, seed mean"]
    assert list(runs)[2] == "lr=0.2, seed 0"  # best first, since a limit drops the last ones
    assert runs["lr=0.1, seed 1"].parent.name == "batch_size-64_lr-0.1_seed-1"


def test_runs_of_several_folders_include_the_folder_name(outputs: Path, tmp_path: Path) -> None:
    link_runs(board_runs(find_jobs([outputs])), tmp_path)
    runs = tensorboard_names(tmp_path)
    assert {"train/mine", "train/2026-11-24_12-00-00-123456", "rates/lr=0.1, seed 0", "rates/lr=0.2, seed mean"} <= runs
    assert len(runs) == 8


def test_a_single_run_keeps_its_name(outputs: Path) -> None:
    assert list(board_runs(find_jobs([outputs / "train" / "mine"]))) == ["mine"]


def test_the_limit_of_runs_includes_the_means(outputs: Path) -> None:
    jobs = find_jobs([outputs])
    assert len(board_runs(jobs, None)) == 8
    assert list(board_runs(jobs, 3))[:2] == ["rates/lr=0.2, seed mean", "rates/lr=0.1, seed mean"]
    assert len(board_runs(jobs, 3)) == 3


def test_links_are_updated_and_correct_links_are_kept(outputs: Path, tmp_path: Path) -> None:
    runs = board_runs(find_jobs([outputs]))
    link_runs(runs, tmp_path)
    before = {path: path.lstat().st_ino for path in tmp_path.rglob("*") if path.is_symlink()}
    kept = {name: path for name, path in runs.items() if "lr=0.1" in name}
    link_runs({**kept, "new": outputs / "train" / "mine" / "tensorboard"}, tmp_path)
    after = {path: path.lstat().st_ino for path in tmp_path.rglob("*") if path.is_symlink()}
    assert {str(path.relative_to(tmp_path)) for path in after} == {*kept, "new"}
    assert all(before[path] == inode for path, inode in after.items() if path.name != "new")
    link_runs({"rates": outputs / "train" / "mine" / "tensorboard"}, tmp_path)
    assert tensorboard_names(tmp_path) == {"rates"}


def test_invalid_characters_in_names_are_replaced(tmp_path: Path) -> None:
    for lr in (0.1, 0.2):
        run_with_events(tmp_path / "s" / str(lr), optim__lr=lr, data__root="a/b:c", name="x")
    runs = board_runs(find_jobs([tmp_path / "s"]))
    assert all(len(Path(name).parts) == 1 for name in runs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no folder nowhere, "),
        (["empty"], "no runs .* in empty: "),
    ],
)
def test_a_wrong_path_is_a_one_line_error(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"^error: {message}.*$"):
        tensorboard.main(arguments)


def start(sweep: Path, folder: Path) -> "subprocess.Popen[str]":
    """Start the command on a sweep, with `folder` for its temporary files."""
    command = [sys.executable, "-m", "mnist_mlp.tensorboard", str(sweep), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def test_without_symbolic_links_runs_are_shown_by_folder(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "A required privilege is not held by the client")

    class Board:
        def configure(self, argv: list[str]) -> None:
            folders.append(Path(argv[argv.index("--logdir") + 1]))

        def launch(self) -> str:
            return "http://localhost:6006/"

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    folders: list[Path] = []
    monkeypatch.setattr(Path, "symlink_to", refuse)  # as on Windows
    program = SimpleNamespace(TensorBoard=lambda plugins: Board(), TensorBoardServerException=RuntimeError)
    monkeypatch.setattr("tensorboard.program", program, raising=False)
    monkeypatch.setattr("tensorboard.default", SimpleNamespace(get_static_plugins=list), raising=False)
    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tensorboard.main([str(outputs / "sweeps" / "rates"), str(outputs / "train")])
    assert folders == [outputs]
    assert "not available (A required privilege" in capsys.readouterr().out


@pytest.mark.integration
def test_the_command_serves_the_runs_and_removes_its_links(outputs: Path, tmp_path: Path) -> None:
    server = start(outputs / "sweeps" / "rates", tmp_path)
    assert server.stdout is not None
    try:
        lines = list(takewhile(lambda line: "Ctrl-C" not in line, server.stdout))
        assert lines[0] == "4 runs and 2 means over seeds\n"
        (address,) = [line.split()[1] for line in lines if line.startswith("curves")]
        assert parse_qs(urlsplit(address).query) == {"smoothing": ["0"], "runColorGroup": ["regex:(.+), seed"]}
        with urlopen(address.partition("?")[0]) as response:
            assert response.status == 200
        assert len(list(tmp_path.glob("mnist_mlp-tensorboard-*/lr=*"))) == 6
    finally:
        server.terminate()
        assert server.wait(30) == 143
        server.stdout.close()
    assert list(tmp_path.glob("mnist_mlp-tensorboard-*")) == []


@pytest.mark.integration
def test_runs_over_the_limit_are_counted_separately_from_the_means(tmp_path: Path) -> None:
    for number in range(MAX_TICKED):
        run_with_events(tmp_path / "sweep" / str(number), optim__lr=0.1 * (1 + number % 2), seed=number // 2)
    write_means(tmp_path / "sweep", summarize(find_jobs([tmp_path / "sweep"])))
    server = start(tmp_path / "sweep", tmp_path)
    assert server.stdout is not None
    try:
        assert server.stdout.readline().startswith(f"the best {MAX_TICKED - 2} of {MAX_TICKED} runs and 2 means")
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()
