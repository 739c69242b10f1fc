"""What the adapter uses of torch beyond its public interface, and what happens without it."""

import gc
import json
import subprocess
import sys

import jinja2
import pytest
import torch
from small_steps import classifier, epochs

from mnist_mlp.training import fast as torch_adapter
from mnist_mlp.training.fast import CompiledStep, run_eager

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


@pytest.mark.integration
def test_torchs_compiler_is_imported_without_making_templates_or_hashing_triton() -> None:
    code = """
import jinja2, json
made, whole = [], jinja2.Environment.from_string
jinja2.Environment.from_string = lambda self, *rest, **options: made.append(rest) or whole(self, *rest, **options)
from mnist_mlp.training import torch_adapter
with torch_adapter.quick_compiler():
    import torch._inductor.compile_fx
    from torch._inductor.codecache import triton_key
    from torch._inductor.select_algorithm import TritonTemplate
    key = triton_key()
templates, before = list(TritonTemplate.all_templates.values()), len(made)
templates[0].template.render
templates[0].template.render
print(json.dumps({"templates": len(templates), "before": before, "after": len(made), "key": key}))
"""
    said = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert (said["before"], said["after"]) == (0, 1), f"{CHANGED} (templates of torch._inductor)"
    assert said["templates"] > 0
    if not torch.cuda.is_available():
        assert len(said["key"] or "") < 20, f"{CHANGED} (torch._inductor.codecache.triton_key.set)"


def test_a_template_made_on_use_is_the_same_template() -> None:
    text, environment = "{{ name }}: {% for n in numbers %}{{ n }} {% endfor %}", jinja2.Environment()
    with torch_adapter.quick_compiler():
        assert not gc.isenabled()
        later = environment.from_string(text)
    now = environment.from_string(text)
    assert gc.isenabled()
    assert isinstance(later, torch_adapter.TemplateMadeOnUse)
    assert isinstance(now, jinja2.Template)
    assert later.render(name="n", numbers=[1, 2]) == now.render(name="n", numbers=[1, 2]) == "n: 1 2 "


def test_where_torch_names_its_triton_in_another_way_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    codecache = pytest.importorskip("torch._inductor.codecache")
    monkeypatch.setattr(codecache, "triton_key", lambda: "theirs")
    with torch_adapter.quick_compiler():
        assert codecache.triton_key() == "theirs"
    monkeypatch.delattr(codecache, "triton_key")
    with torch_adapter.quick_compiler():
        pass
