"""fit and sweep inside a program that has settings, threads, signal handlers or a Hydra application of its own."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import mnist_mlp

SMALL: dict[str, Any] = {
    "model.hidden_layers": 1,
    "model.hidden_units": 8,
    "model.dropout": 0.3,
    "data.val_size": 60,
    "data.batch_size": 32,
    "trainer.max_epochs": 2,
    "trainer.figures": False,
    "trainer.accelerator": "cpu",
    "trainer.threads": 1,
}


@pytest.fixture
def small(idx_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnist_mlp.reporting.page.write_page", lambda folders, page: page.write_text("page"))
    return {"data.root": idx_root, **SMALL}


@contextmanager
def settings_of_another_program() -> Iterator[None]:
    """Change every global setting of PyTorch that would change a run, and check that they are still changed."""
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        for context in (torch.device("meta"), torch.autocast("cpu", torch.bfloat16), torch.inference_mode()):
            stack.enter_context(context)
        yield
        assert (torch.get_default_dtype(), torch.get_default_device().type) == (torch.float64, "meta")
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()
        assert torch.get_float32_matmul_precision() == "medium"


def test_global_settings_of_torch_change_neither_a_run_nor_its_evaluation(small: dict[str, Any]) -> None:
    expected = mnist_mlp.fit(small, "expected")
    with settings_of_another_program():
        run = mnist_mlp.fit(small, "run")
        metrics = run.evaluate().metrics
        model = run.model()
    assert run.result.fingerprint == expected.result.fingerprint
    assert run.metrics == expected.metrics
    assert metrics == expected.evaluate().metrics
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_run_leaves_disabled_gradients_and_random_generators_as_they_were(small: dict[str, Any]) -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        expected = torch.rand(2)
        torch.manual_seed(1)
        mnist_mlp.fit(small, "run")
        assert not torch.is_grad_enabled()
        assert torch.equal(torch.rand(2), expected)


class OtherRun(pl.Callback):
    """Trains another network in the middle of an epoch."""

    affects_result = False

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 1:
            mnist_mlp.fit(self.settings, "other", seed=9)


def test_runs_of_one_process_do_not_affect_each_other(small: dict[str, Any]) -> None:
    alone = [mnist_mlp.fit(small, f"alone{seed}", seed=seed).metrics for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda seed: mnist_mlp.fit(small, f"thread{seed}", seed=seed), range(2)))
    assert [run.metrics for run in runs] == alone
    assert mnist_mlp.fit(small, "outer", callbacks=OtherRun(small)).metrics == alone[0]


class CtrlC(pl.Callback):
    affects_result = False

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_raises_keyboard_interrupt_that_says_how_to_resume_and_works_again(small: dict[str, Any]) -> None:
    stdin = sys.stdin
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt, match=r"epoch 2 of 2.*fit\(\.\.\., 'run'\)") as stop:
            mnist_mlp.fit(small, "run", callbacks=CtrlC())
        assert stop.type is KeyboardInterrupt  # with a subclass, Python would not exit with SIGINT's code
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert sys.stdin is stdin
    assert not stdin.closed
    assert mnist_mlp.fit(small, "run").status == "finished"


SWEEP = """
import mnist_mlp, os
settings = {"data.root": os.environ["ROOT"], "trainer.max_epochs": 10_000, "trainer.figures": False, "seed": range(3)}
mnist_mlp.sweep({**settings, "data.val_size": 60, "model.hidden_units": 8}, "sweep", n_jobs=2)
"""


@pytest.mark.integration
@pytest.mark.skipif(os.name != "posix", reason="SIGINT cannot be sent to one process")
def test_an_interrupted_sweep_ends_its_workers_and_says_how_to_resume(idx_root: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP], cwd=tmp_path, env={**os.environ, "ROOT": str(idx_root)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not list(tmp_path.glob("sweep/*/metrics.csv")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # the pipes close when the last worker has ended
    last = errors.strip().splitlines()[-1]
    assert last.startswith("KeyboardInterrupt: ")
    assert "0 of 3 jobs" in last
    assert "sweep(..., 'sweep')" in last
    assert "run_jobs" not in errors  # no traceback of the package's own calls
    assert process.returncode == -signal.SIGINT


def test_objects_on_several_devices_need_a_launcher_and_launched_processes_a_folder(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(mnist_mlp.UserError, match=r"trainer.devices=2 .*callbacks= .*torchrun --nproc-per-node=2"):
        mnist_mlp.fit(small, "run", callbacks=CtrlC(), **{"trainer.devices": 2})
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(mnist_mlp.UserError, match="same folder"):
        mnist_mlp.fit(small, **{"trainer.devices": 2})
    assert not Path("run").exists()
    assert not Path("outputs").exists()


@pytest.mark.integration
def test_a_run_on_two_devices_prints_its_epochs_and_returns_its_result(
    small: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # an interactive session
    two = {**small, "trainer.devices": 2}
    run = mnist_mlp.fit(two)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "%" in line] == ["1/2", "2/2"]
    assert list(Path("outputs/train").iterdir()) == [run.path]
    assert mnist_mlp.fit(two, run.path).result == run.result
    with pytest.raises(mnist_mlp.UserError, match="other settings"):
        mnist_mlp.fit(two, run.path, seed=5)


def test_a_daemonic_process_is_told_that_it_cannot_start_a_sweep(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(multiprocessing.current_process())["_config"], "daemon", True)  # as in a Pool
    with pytest.raises(mnist_mlp.UserError, match="ProcessPoolExecutor"):
        mnist_mlp.sweep({**small, "seed": [0, 1]}, "sweep")


def test_names_in_the_registries_of_hydra_and_omegaconf_keep_their_meaning() -> None:
    store, schema = ConfigStore.instance(), {"lr": 1.0}
    store.store(name="schema", node=schema)
    names = ("run_folder", "sweep_folder", "job_name")
    try:
        for name in names:
            OmegaConf.register_new_resolver(name, lambda: "mine", replace=True)
        assert mnist_mlp.compose(["optim=adam"]).optim.name == "adam"
        assert store.load("schema.yaml").node == schema
        assert [OmegaConf.create({"x": f"${{{name}:}}"}).x for name in names] == ["mine"] * len(names)
    finally:
        del store.repo["schema.yaml"]
        for name in names:
            OmegaConf.clear_resolver(name)


@pytest.mark.integration
def test_a_multirun_of_another_application_works_after_a_preset_was_composed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import hydra, mnist_mlp\n"
        "mnist_mlp.compose(['optim=adam'])\n"
        "@hydra.main(version_base=None, config_path='.', config_name='app')\n"
        "def main(cfg):\n"
        "    print(cfg.lr, mnist_mlp.compose(['experiment=better']).optim.name)\n"
        "main()\n"
    )
    (tmp_path / "app.yaml").write_text("lr: 1\nout: ${hydra.runtime.output_dir}/x\n")
    done = subprocess.run(
        [sys.executable, "app.py", "-m", "lr=1,2", "hydra/hydra_logging=none", "hydra/job_logging=none"],
        cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2"]
