"""Compiled steps against the eager ones."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from small_steps import CHOICES, assert_equal_training, classifier, epochs

from mnist_mlp.errors import UserError
from mnist_mlp.training.compile import (
    COMPILED_FOLDER,
    CXX,
    CompiledStep,
    check_compiler,
    compile_once,
    default_compile_cache,
    forget_compiled,
)
from mnist_mlp.training.fast import run_eagerly


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("name", ["linear classifier", "no momentum", "adam", "virtual adversarial", "all"])
def test_the_step_is_one_graph_whatever_is_chosen(name: str) -> None:
    assert_equal_training(CHOICES[name], lambda step, state: run_eagerly(CompiledStep(step)))


@pytest.mark.integration
@pytest.mark.skipif(shutil.which(CXX[0]) is None, reason="needs a C++ compiler: apt install g++")
def test_compiled_agrees_with_eager_within_rounding() -> None:
    settings = {
        "model.hidden_layers": 1, "model.hidden_units": [8], "optim.name": "adamw", "model.dropout": 0.2,
        "model.batch_norm": True,
    }  # fmt: skip
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):  # spares six seconds of trying the compiler
        assert_equal_training(settings, lambda step, state: run_eagerly(CompiledStep(step)))


@pytest.mark.usefixtures("traced_only")
def test_nets_of_one_shape_share_the_compiled_step_and_nothing_else() -> None:
    first = CompiledStep(classifier(**{"model.dropout": 0.3})[1])
    assert first.seconds == 0
    epochs(run_eagerly(first), 1)
    took = first.seconds
    assert took > 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert_equal_training({"model.dropout": 0.3}, lambda step, state: run_eagerly(CompiledStep(step)))
    epochs(run_eagerly(first), 1)
    assert first.seconds == took


@pytest.mark.usefixtures("traced_only")
def test_a_sweep_may_have_more_nets_than_are_kept_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_mlp.training.compile.MAX_SHAPES", 2)
    monkeypatch.setattr("mnist_mlp.training.compile._runs", itertools.count())
    for width in (3, 4, 5, 6):
        step = CompiledStep(classifier(**{"model.hidden_layers": 1, "model.hidden_units": [width]})[1])
        epochs(run_eagerly(step), 1)
        assert step.seconds > 0


def test_what_is_compiled_is_kept_where_a_restart_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    CompiledStep(classifier()[1])
    assert os.environ[name] == str(tmp_path / "mnist_mlp" / "compiled")
    monkeypatch.setenv(name, str(tmp_path / "mine"))
    CompiledStep(classifier()[1])
    assert os.environ[name] == str(tmp_path / "mine")


@pytest.mark.parametrize(("accelerator", "missing"), [("cpu", CXX[0]), ("gpu", "gcc or clang")])
def test_without_a_compiler_there_is_one_clear_line(
    accelerator: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    message = rf"trainer\.compile=true on {accelerator} needs a compiler, but {re.escape(missing)} was not found"
    with pytest.raises(UserError, match=message):
        check_compiler(accelerator)


def test_a_compiler_that_was_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="no-such-compiler was not found: install"):
        check_compiler("cpu")


def test_one_of_two_compiles_a_kind_and_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPILED_FOLDER, str(tmp_path))
    order, begun = [], threading.Event()

    def second() -> None:
        begun.set()
        with compile_once("kind"):
            order.append("second")

    other = threading.Thread(target=second)
    with compile_once("kind"), compile_once("another kind"):
        other.start()
        begun.wait()
        time.sleep(0.3)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    with compile_once("kind"), compile_once("kind"):
        pass  # what is there already is loaded side by side


def test_a_kind_that_could_not_be_compiled_is_left_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPILED_FOLDER, str(tmp_path))
    with pytest.raises(RuntimeError), compile_once("kind"):
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "steps"]
    with compile_once("kind"):
        assert not list(tmp_path.rglob("compiled"))
    assert [path.name for path in tmp_path.rglob("*")] == ["steps", "kind", "compiled"]


@pytest.mark.integration
def test_a_process_that_ends_while_it_compiles_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPILED_FOLDER, str(tmp_path))
    code = """
import sys, time
from mnist_mlp.training.compile import compile_once
with compile_once("kind"):
    print("compiling", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "compiling\n"
        process.kill()
    with compile_once("kind"):
        pass


def test_where_nothing_can_be_kept_everyone_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps").write_text("no folder")
    monkeypatch.setenv(COMPILED_FOLDER, str(tmp_path))
    with compile_once("kind"), compile_once("kind"):
        pass


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("model.hidden_units", [9]), ("model.activation", "tanh"), ("model.dropout", 0.1), ("optim.name", "adam")),
        *(("optim.momentum", 0.5), ("optim.weight_decay", 0.1), ("optim.label_smoothing", 0.1)),
        *(("augment.rotation", 5.0), ("optim.ema", 0.9), ("model.noise", 0.1), ("optim.vat", 1.0)),
        ("optim.teacher", "two nets"),
    ],
)
def test_what_the_compiled_code_depends_on_makes_another_kind(setting: str, value: object) -> None:
    def kind(**settings: object) -> str:
        return classifier(**settings)[1].description()

    assert kind() == kind(**{"optim.lr": 0.7, "seed": 3})
    assert kind() != kind(**{setting: value})


def test_torch_still_has_what_is_used_beyond_its_public_interface() -> None:
    changed = "torch changed: adapt mnist_mlp/training/compile.py"
    for name in ("trace_autograd_ops", "recompile_limit"):
        assert hasattr(torch._dynamo.config, name), f"{changed} (torch._dynamo.config.{name})"
    assert hasattr(torch._dynamo, "reset_code"), f"{changed} (torch._dynamo.reset_code)"
    assert default_compile_cache(), f"{changed} (torch._inductor's default_cache_dir)"


def test_without_a_way_to_forget_one_function_everything_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = []
    monkeypatch.delattr(torch._dynamo, "reset_code")
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append("all"))
    forget_compiled(epochs)
    assert forgotten == ["all"]
