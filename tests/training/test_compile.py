"""Compiled steps equal eager steps."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

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
@pytest.mark.parametrize(
    "name",
    [
        "linear classifier",
        *(
            pytest.param(name, marks=pytest.mark.integration)
            for name in ("no momentum", "adam", "nesterov", "rmsprop, clipped", "virtual adversarial", "all")
        ),
    ],
)
def test_the_step_is_one_graph_for_any_options(name: str) -> None:
    if name == "virtual adversarial" and torch.__version__.startswith("2.11."):
        pytest.skip("needs torch > 2.11, whose compiler does not know requires_grad_")
    assert_equal_training(CHOICES[name], lambda step, state: run_eagerly(CompiledStep(step)))


@pytest.mark.integration
@pytest.mark.skipif(shutil.which(CXX[0]) is None, reason="needs a C++ compiler: apt install g++")
def test_compiled_agrees_with_eager_within_rounding() -> None:
    settings = {
        "model.hidden_layers": 1, "model.hidden_units": [8], "optim.name": "adamw", "model.dropout": 0.2,
        "model.batch_norm": True,
    }  # fmt: skip
    with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):  # saves six seconds of compiler checks
        assert_equal_training(settings, lambda step, state: run_eagerly(CompiledStep(step)))


@pytest.mark.usefixtures("traced_only")
def test_networks_of_equal_shape_share_only_the_compiled_step() -> None:
    first = CompiledStep(classifier(**{"model.dropout": 0.3})[1])
    assert first.seconds == 0
    epochs(run_eagerly(first), 1)
    seconds = first.seconds
    assert seconds > 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert_equal_training({"model.dropout": 0.3}, lambda step, state: run_eagerly(CompiledStep(step)))
    epochs(run_eagerly(first), 1)
    assert first.seconds == seconds


@pytest.mark.usefixtures("traced_only")
@pytest.mark.integration
def test_a_sweep_may_have_more_shapes_than_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_mlp.training.compile.MAX_SHAPES", 2)
    monkeypatch.setattr("mnist_mlp.training.compile._runs", itertools.count())
    for width in (3, 4, 5, 6):
        step = CompiledStep(classifier(**{"model.hidden_layers": 1, "model.hidden_units": [width]})[1])
        epochs(run_eagerly(step), 1)
        assert step.seconds > 0


def test_compiled_code_is_cached_across_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    CompiledStep(classifier()[1])
    assert os.environ[name] == str(tmp_path / "mnist_mlp" / "compiled")
    monkeypatch.setenv(name, str(tmp_path / "other"))
    CompiledStep(classifier()[1])
    assert os.environ[name] == str(tmp_path / "other")


@pytest.mark.parametrize(("accelerator", "missing"), [("cpu", CXX[0]), ("gpu", "gcc or clang")])
def test_a_missing_compiler_is_a_one_line_error(
    accelerator: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    for variable in ("CC", "CXX"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    message = rf"trainer\.compile=true on {accelerator} needs a compiler, but {re.escape(missing)} was not found"
    with pytest.raises(UserError, match=message):
        check_compiler(accelerator)


def test_a_long_message_of_the_compiler_is_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("no such header " + "line " * 1000)

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch, "compile", lambda *arguments, **options: fail)
    with pytest.raises(UserError, match=r"no such header .*trainer\.compile=false") as caught:
        epochs(run_eagerly(CompiledStep(classifier()[1])), 1)
    assert len(str(caught.value)) < 600


def test_a_compiler_named_by_a_variable_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match="no-such-compiler was not found: install"):
        check_compiler("cpu")


@pytest.mark.parametrize("command", ["'{}' -O1", '"{}" g++', "{} g++"])
def test_a_compiler_may_be_preceded_by_a_wrapper_or_followed_by_options(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", command.format(sys.executable))
    check_compiler("cpu")


@pytest.mark.parametrize("command", ["no-such-wrapper g++", "g++ 'unbalanced", ""])
def test_a_wrapper_of_a_compiler_must_exist(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", command)
    with pytest.raises(UserError, match=re.escape(f"needs a compiler, but {command} was not found")):
        check_compiler("cpu")


def test_one_thread_compiles_a_step_while_the_other_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPILED_FOLDER, str(tmp_path))
    order, started = [], threading.Event()

    def second() -> None:
        started.set()
        with compile_once("kind"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with compile_once("kind"), compile_once("another kind"):
        waiting.start()
        started.wait()
        time.sleep(0.3)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    with compile_once("kind"), compile_once("kind"):
        pass  # cached code is loaded concurrently


def test_a_step_that_failed_to_compile_is_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPILED_FOLDER, str(tmp_path))
    with pytest.raises(RuntimeError), compile_once("kind"):
        raise RuntimeError
    assert list(tmp_path.rglob("*")) == [tmp_path / "steps"]
    with compile_once("kind"):
        assert not list(tmp_path.rglob("compiled"))
    assert [path.name for path in tmp_path.rglob("*")] == ["steps", "kind", "compiled"]


@pytest.mark.integration
def test_a_process_that_is_killed_releases_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_without_a_cache_every_process_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps").write_text("not a folder")
    monkeypatch.setenv(COMPILED_FOLDER, str(tmp_path))
    with compile_once("kind"), compile_once("kind"):
        pass


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("model.hidden_units", [9]), ("model.activation", "tanh"), ("model.dropout", 0.1), ("optim.name", "adam")),
        *(("optim.momentum", 0.5), ("optim.weight_decay", 0.1), ("optim.label_smoothing", 0.1)),
        *(("augment.rotation", 5.0), ("optim.ema", 0.9), ("model.noise", 0.1), ("optim.vat", 1.0)),
        *(("optim.teacher", "two nets"), ("optim.nesterov", True), ("optim.gradient_clip_val", 1.0)),
    ],
)
def test_the_description_of_a_step_depends_on_all_that_is_compiled(setting: str, value: object) -> None:
    def describe(**settings: object) -> str:
        return classifier(**settings)[1].description()

    assert describe() == describe(**{"optim.lr": 0.7, "seed": 3})
    assert describe() != describe(**{setting: value})


def test_torch_still_has_the_private_names_in_use() -> None:
    changed = "torch changed: adapt mnist_mlp/training/compile.py"
    for name in ("trace_autograd_ops", "recompile_limit"):
        assert hasattr(torch._dynamo.config, name), f"{changed} (torch._dynamo.config.{name})"
    assert hasattr(torch._dynamo, "reset_code"), f"{changed} (torch._dynamo.reset_code)"
    assert default_compile_cache(), f"{changed} (torch._inductor's default_cache_dir)"


def test_without_reset_code_all_compiled_code_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    resets = []
    monkeypatch.delattr(torch._dynamo, "reset_code")
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append("all"))
    forget_compiled(epochs)
    assert resets == ["all"]
