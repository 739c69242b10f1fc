"""What the adapter uses of torch beyond its public interface, and what happens without it."""

import pytest
import torch
from small_steps import classifier, epochs

from mnist_mlp.training import torch_adapter
from mnist_mlp.training.compile import CompiledStep
from mnist_mlp.training.runner import run_eager

CHANGED = "torch changed: adapt mnist_mlp/training/torch_adapter.py"


def test_torch_still_has_what_the_adapter_uses() -> None:
    assert torch_adapter.can_compile_backward(), f"{CHANGED} (torch._dynamo.config.trace_autograd_ops)"
    assert hasattr(torch._dynamo.config, "recompile_limit"), f"{CHANGED} (torch._dynamo.config.recompile_limit)"
    assert hasattr(torch._dynamo, "reset_code"), f"{CHANGED} (torch._dynamo.reset_code)"
    assert torch_adapter.default_compile_cache(), f"{CHANGED} (torch._inductor's default_cache_dir)"


def test_settings_of_torch_are_as_before_outside_of_compiling() -> None:
    before = (torch._dynamo.config.trace_autograd_ops, torch._dynamo.config.recompile_limit)
    with torch_adapter.compiling_whole_steps():
        assert torch._dynamo.config.trace_autograd_ops
    assert (torch._dynamo.config.trace_autograd_ops, torch._dynamo.config.recompile_limit) == before


def test_a_torch_that_cannot_compile_a_whole_step_runs_it_eagerly_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_adapter, "can_compile_backward", lambda: False)
    eager = epochs(run_eager(classifier()[1]), 1)
    with pytest.warns(UserWarning, match="cannot compile a whole step: it runs eagerly"):
        step = CompiledStep(classifier()[1])
    for theirs, ours in zip(eager, epochs(run_eager(step), 1), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_without_a_way_to_forget_one_function_everything_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = []
    monkeypatch.delattr(torch._dynamo, "reset_code")
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append("all"))
    torch_adapter.forget_compiled(epochs)
    assert forgotten == ["all"]
