import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_mlp import evaluate, export, predict
from mnist_mlp.errors import UserError
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.serve.nets import load_classifier


class Payload:
    """Unpickled, it makes the folder that it was given."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def hostile(kind: str, good: Path, target: Path, mark: Path) -> None:
    import torch

    checkpoint: Any = torch.load(good, weights_only=True)
    content = good.read_bytes()
    if kind == "code as a torch file":
        torch.save({**checkpoint, "callbacks": Payload(mark)}, target)
    elif kind == "code as a plain pickle":
        target.write_bytes(pickle.dumps(Payload(mark)))
    elif kind == "code in an old torch file":
        torch.save(Payload(mark), target, _use_new_zipfile_serialization=False)
    elif kind == "code put into our archive":
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
            for item in old.infolist():
                forged = (
                    pickle.dumps(Payload(mark), protocol=2) if item.filename.endswith("data.pkl") else old.read(item)
                )
                new.writestr(item.filename, forged)
    elif kind == "cut off":
        target.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        target.write_bytes(b"")
    elif kind == "text":
        target.write_text("no checkpoint at all")
    elif kind == "of another project":
        torch.save({"state_dict": {"conv.weight": torch.zeros(3)}, "hyper_parameters": {"lr": 0.1}}, target)
    elif kind == "a bare tensor":
        torch.save(torch.zeros(3), target)
    elif kind == "without hyper-parameters":
        torch.save({"state_dict": checkpoint["state_dict"]}, target)
    elif kind == "a network of one's own":
        checkpoint["hyper_parameters"]["model"]["network"] = "CNN@0123456789ab"
        torch.save(checkpoint, target)
    elif kind == "other weights":
        checkpoint["state_dict"].pop("mlp.layers.0.weight")
        torch.save(checkpoint, target)
    elif kind == "a net of terabytes":
        checkpoint["hyper_parameters"]["model"]["hidden_units"] = [10**7, 10**7]
        torch.save(checkpoint, target)
    else:
        raise AssertionError(kind)


KINDS = {
    "code as a torch file": "could be code; nothing in it was run",
    "code as a plain pickle": "could be code; nothing in it was run",
    "code in an old torch file": "could be code; nothing in it was run",
    "code put into our archive": "could be code; nothing in it was run",
    "cut off": "is broken or not a checkpoint",
    "empty": "is broken or not a checkpoint",
    "text": "is not a checkpoint",
    "of another project": "is not a checkpoint of this package",
    "a bare tensor": "is broken or not a checkpoint",
    "without hyper-parameters": "is not a checkpoint of this package",
    "other weights": "is not a checkpoint of this package",
    "a net of terabytes": "100,007,940,000,000 weights",
    "a network of one's own": r"CNN@0123456789ab.*Classifier\.load_from_checkpoint\('.*net\.ckpt', network=",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_from_elsewhere_is_refused_in_a_line_and_nothing_in_it_runs(
    kind: str, trained: Path, tmp_path: Path
) -> None:
    target, mark = tmp_path / "net.ckpt", tmp_path / "executed"
    hostile(kind, RunFolder(trained).best_checkpoint, target, mark)
    with pytest.raises(UserError, match=KINDS[kind]) as error:
        load_classifier(target)
    assert "\n" not in str(error.value)
    assert not mark.exists()


def test_the_payload_would_run_where_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").is_dir()


def test_every_command_refuses_it(trained: Path, tmp_path: Path) -> None:
    target, mark = tmp_path / "net.ckpt", tmp_path / "executed"
    hostile("code as a torch file", RunFolder(trained).best_checkpoint, target, mark)
    for main, rest in ((evaluate.main, []), (predict.main, ["x.png"]), (export.main, ["--format", "html"])):
        with pytest.raises(SystemExit, match=r"^error: .*nothing in it was run"):
            main([str(target), *rest])
    assert not mark.exists()


def test_a_checkpoint_is_unpickled_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    loads, load = [], torch.load

    def counting(*arguments: Any, **options: Any) -> Any:
        loads.append(options["weights_only"])
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", counting)
    load_classifier(RunFolder(trained).best_checkpoint)
    assert loads == [True]


def test_loading_a_net_draws_nothing_from_the_callers_random_state(trained: Path) -> None:
    """A notebook that looks at a net between two steps of its own training goes on as if it had not."""
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_classifier(RunFolder(trained).best_checkpoint)
    assert torch.equal(torch.rand(3), expected)
