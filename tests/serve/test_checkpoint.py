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
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.path,)


def write_hostile(case: str, valid: Path, target: Path, mark: Path) -> None:
    import torch

    checkpoint: Any = torch.load(valid, weights_only=True)
    content = valid.read_bytes()
    if case == "code as a torch file":
        torch.save({**checkpoint, "callbacks": Payload(mark)}, target)
    elif case == "code as a plain pickle":
        target.write_bytes(pickle.dumps(Payload(mark)))
    elif case == "code in an old torch file":
        torch.save(Payload(mark), target, _use_new_zipfile_serialization=False)
    elif case == "code in a valid archive":
        with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as archive:
            for item in source.infolist():
                is_pickle = item.filename.endswith("data.pkl")
                content = pickle.dumps(Payload(mark), protocol=2) if is_pickle else source.read(item)
                archive.writestr(item.filename, content)
    elif case == "truncated":
        target.write_bytes(content[: len(content) // 2])
    elif case == "empty":
        target.write_bytes(b"")
    elif case == "text":
        target.write_text("not a checkpoint")
    elif case == "of another project":
        torch.save({"state_dict": {"conv.weight": torch.zeros(3)}, "hyper_parameters": {"lr": 0.1}}, target)
    elif case == "a bare tensor":
        torch.save(torch.zeros(3), target)
    elif case == "without hyper-parameters":
        torch.save({"state_dict": checkpoint["state_dict"]}, target)
    elif case == "a user-defined network":
        checkpoint["hyper_parameters"]["model"]["network"] = "CNN@0123456789ab"
        torch.save(checkpoint, target)
    elif case == "missing weights":
        checkpoint["state_dict"].pop("mlp.layers.0.weight")
        torch.save(checkpoint, target)
    elif case == "a net of terabytes":
        checkpoint["hyper_parameters"]["model"]["hidden_units"] = [10**7, 10**7]
        torch.save(checkpoint, target)
    else:
        raise AssertionError(case)


CASES = {
    "code as a torch file": "could be code; none of it was executed",
    "code as a plain pickle": "could be code; none of it was executed",
    "code in an old torch file": "could be code; none of it was executed",
    "code in a valid archive": "could be code; none of it was executed",
    "truncated": "is damaged or not a checkpoint",
    "empty": "is damaged or not a checkpoint",
    "text": "was rejected: it is not a checkpoint",
    "of another project": "is not an mnist_mlp checkpoint",
    "a bare tensor": "is damaged or not a checkpoint",
    "without hyper-parameters": "is not an mnist_mlp checkpoint",
    "missing weights": "is not an mnist_mlp checkpoint",
    "a net of terabytes": "100,007,940,000,000 weights",
    "a user-defined network": r"CNN@0123456789ab.*Classifier\.load_from_checkpoint\('.*net\.ckpt', network=",
}


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_checkpoint_is_a_one_line_error_and_none_of_its_code_is_executed(
    case: str, trained: Path, tmp_path: Path
) -> None:
    target, mark = tmp_path / "net.ckpt", tmp_path / "executed"
    write_hostile(case, RunFolder(trained).best_checkpoint, target, mark)
    with pytest.raises(UserError, match=CASES[case]) as error:
        load_classifier(target)
    assert "\n" not in str(error.value)
    assert not mark.exists()


def test_unpickling_the_payload_executes_it(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "executed")))
    assert (tmp_path / "executed").is_dir()


def test_every_command_rejects_code(trained: Path, tmp_path: Path) -> None:
    target, mark = tmp_path / "net.ckpt", tmp_path / "executed"
    write_hostile("code as a torch file", RunFolder(trained).best_checkpoint, target, mark)
    for main, arguments in ((evaluate.main, []), (predict.main, ["x.png"]), (export.main, ["--format", "html"])):
        with pytest.raises(SystemExit, match=r"^error: .*none of it was executed"):
            main([str(target), *arguments])
    assert not mark.exists()


def test_a_checkpoint_is_unpickled_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    loads, load = [], torch.load

    def load_and_record(*arguments: Any, **options: Any) -> Any:
        loads.append(options["weights_only"])
        return load(*arguments, **options)

    monkeypatch.setattr(torch, "load", load_and_record)
    load_classifier(RunFolder(trained).best_checkpoint)
    assert loads == [True]


def test_loading_a_network_leaves_the_global_random_state_unchanged(trained: Path) -> None:
    """A notebook may load a network between two steps of its own training."""
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_classifier(RunFolder(trained).best_checkpoint)
    assert torch.equal(torch.rand(3), expected)
