import argparse
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

import mnist_mlp
from mnist_mlp.cli.compose import run_folder
from mnist_mlp.cli.help import completions, help_text, likely_key, other_names
from mnist_mlp.config import Config, conf_folder
from mnist_mlp.options import options, to_dict
from mnist_mlp.runs.settings import flatten
from mnist_mlp.train import main

Refusal = Callable[..., str]


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Refusal]:
    """Return the error message of `train` for invalid overrides; checks that nothing else is printed or written."""

    def run(*overrides: str) -> str:
        monkeypatch.setattr(sys, "argv", ["train", *overrides])
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as caught:
            main()
        assert capsys.readouterr() == ("", "")
        assert list(tmp_path.iterdir()) == []
        assert isinstance(caught.value.code, str)  # Python prints a string on stderr and exits with 1
        assert re.fullmatch("error: .+", caught.value.code)
        return caught.value.code

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # restored after the test, because run() sets it
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:] = handlers  # Hydra's handler would write to a stream that capsys closes
    root.setLevel(level)
    GlobalHydra.instance().clear()


def test_a_current_folder_whose_path_hydra_cannot_read_is_reported(
    refusal: Refusal, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here") / "a${x"
    here.mkdir()
    monkeypatch.chdir(here)
    assert "current folder contains ${" in refusal("seed=1")


def test_hydras_help_is_accepted_where_argparse_requires_strings_and_argparse_is_restored(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.14 formats help when an argument is added; simulated in earlier versions."""
    if not hasattr(argparse._ActionsContainer, "_check_help"):
        add = argparse._ActionsContainer.add_argument

        def check_help(self: Any, action: Any) -> None:
            if action.help and not isinstance(action.help, str):
                raise ValueError("badly formed help string")

        def add_argument(self: Any, *arguments: Any, **options: Any) -> argparse.Action:
            action = add(self, *arguments, **options)
            self._check_help(action)
            return action

        monkeypatch.setattr(argparse._ActionsContainer, "_check_help", check_help, raising=False)
        monkeypatch.setattr(argparse._ActionsContainer, "add_argument", add_argument)
    assert "unknown key zzz" in refusal("zzz=1")
    with pytest.raises(ValueError, match="badly formed"):
        argparse.ArgumentParser().add_argument("-x", help=object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=5", r"unknown key epochs: did you mean trainer\.max_epochs\?"),
        ("optim.learning_rate=1", r"unknown key optim\.learning_rate: did you mean optim\.lr\?"),
        ("trainer.gpus=1", r"unknown key trainer\.gpus: did you mean trainer\.accelerator\?"),
        ("hidden_layer_sizes=[8]", r"unknown key hidden_layer_sizes: did you mean model\.hidden_units\?"),
        ("validation_split=0.1", r"unknown key validation_split: did you mean data\.val_size\?"),
        ("random_state=1", r"unknown key random_state: did you mean seed\?"),
        ("model.num_layers=1", r"unknown key model\.num_layers: did you mean model\.hidden_layers\?"),
        ("learnign_rate=1", r"unknown key learnign_rate: did you mean optim\.lr\?"),
        ("zzz=1", r"unknown key zzz: --help lists every key"),
        (
            "optim.schedule=cos",
            r"optim\.schedule=cos is not a valid choice: did you mean cosine\? .*constant, cosine",
        ),
        ("optim.name=Adam", r"optim\.name=Adam is not a valid choice: did you mean adam\? .*sgd, adam"),
        ("seed=range(3)", r"seed=range\(3\) .*add -m to sweep"),
        ("seed=1,2", r"seed=1,2 .*add -m to sweep"),
        ("experiment=glob(nope_*)", r"experiment=glob\(nope_\*\) .*add -m to sweep"),
        ("optim.lrr=1", r"unknown key optim\.lrr: did you mean optim\.lr\?.* --help lists every key"),
        ("lr=0.1", r"unknown key lr: did you mean optim\.lr\?.* --help lists every key"),
        ("+optim.foo=1", r"unknown key optim\.foo: .*--help lists every key"),
        ("++foo=1", r"unknown key foo: .*--help lists every key"),
        ("optim.lr=abc", r"optim\.lr=abc .*expected float > 0"),
        ("optim.lr=-1", r"optim\.lr=-1\.0 .*expected float > 0"),
        ("optim.lr=nan", r"optim\.lr=nan .*expected float > 0"),
        ("optim.lr=", r"optim\.lr= .*expected float > 0"),
        ("data.subset=1.5", r"data\.subset=1\.5 .*expected full, half or a fraction in \(0, 1\]"),
        ("data.val_size=60000", r"data\.val_size=60000 .*expected int >= 0 and < 60000"),
        ("model.hidden_layers=1.5", r"model\.hidden_layers=1\.5 .*expected int >= 0"),
        ("model.hidden_units=[256,abc]", r"model\.hidden_units=.*abc.* expected n for every layer"),
        ("model.hidden_units=x", r"model\.hidden_units='x' .* expected n for every layer"),
        ("trainer.precision=16", r"trainer\.precision=16 .*expected 32-true, bf16-mixed, "),
        ("trainer.progress=maybe", r"trainer\.progress=maybe .*expected true, false"),
        ("optim.name=adm", r"optim\.name=adm .*use one of sgd, adam, adamw"),
        ("optim=adm", r"optim=adm .*did you mean adam\?.* adam, adamw, .*sgd"),
        ("experiment=foo", r"experiment=foo .*debug"),
        ("name=a/b", r"name='a/b' .*use letters, digits"),
        ("resume=nonexistent/folder", r"resume=nonexistent/folder .*use auto, never or a run folder"),
        ("resume=/nonexistent/folder", r"resume=/nonexistent/folder .*use auto, never or a run folder"),
        ("foo", r"'foo' is not of the form KEY=VALUE; --help lists every key"),
        ("=3", r"'=3' is not of the form KEY=VALUE; --help lists every key"),
        ("'seed=range(3)'", r"'seed=range\(3\)' .*use double quotes"),
        ("model.activation=swish", r"model\.activation=swish .*did you mean silu\?"),
        ("trainer.accelerator=cuda", r"trainer\.accelerator=cuda .*did you mean gpu\?"),
        ("trainer.logger=true", r"trainer\.logger=True .*csv, .*TensorBoard"),
        ("optimizer=adam", r"unknown key optimizer: did you mean optim=adam "),
        ("--lr=0.1", r"--lr=0\.1 .* optim\.lr=0\.1\b"),
        ("data.subset=0,5", r"data\.subset=0,5.* data\.subset=0\.5\b"),
        ("optim.lr=[0.01,0.02]", r"optim\.lr=\[0\.01, 0\.02\] .*without brackets"),
        ("optim.lr=0.1)", r"""optim\.lr=0\.1\) .*"optim\.lr='0\.1\)'\""""),
    ],
)
def test_a_mistake_on_the_command_line_is_explained_in_one_line(refusal: Refusal, override: str, message: str) -> None:
    assert re.match(f"error: {message}", refusal(override))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=glob(nope_*)"], r"experiment=glob\(nope_\*\) has no values: use better, debug, "),
        (["seed=range(0)"], r"seed=range\(0\) has no values: use at least one$"),
        (["seed=1,2", "seed=3"], r"seed is set 2 times: .*seed=A,B$"),
        (["name=a,b"], r"name=a,b has several names: a sweep has only one$"),
        (["optim.lr=0.1,-1"], r"job 2: optim\.lr=-1\.0 is out of range: expected float > 0\.0$"),
        (["optim.lr=0.1,-1", "seed=0,1", "data.batch_size=0"], r"data\.batch_size=0 .*; jobs 3, 4: optim\.lr=-1\.0 is"),
        (
            ["optim.lr=-1", "data.val_size=0,5000", "trainer.early_stopping=2"],
            r"optim\.lr=-1\.0 .*; job 1: trainer\.ea",
        ),
        (["hydra/launcher=basic", "optim.lr=0.1,-1"], r"job 2: optim\.lr=-1\.0 "),
        (["trainer.devices=1,2"], r"job 2: trainer\.devices=2 is for single runs"),
    ],
)
def test_a_sweep_with_a_mistake_is_rejected_before_anything_is_written(
    refusal: Refusal, overrides: list[str], message: str
) -> None:
    assert re.match(f"error: {message}", refusal("-m", *overrides))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epochs", "5"], r"--epochs .* trainer\.max_epochs=5\b"),
        (["--batch-size", "32", "seed=1"], r"--batch-size .* data\.batch_size=32\b"),
        (["-m", "optim.lr=0.01,", "0.02"], r"optim\.lr=0\.01, .*without spaces"),
    ],
)
def test_a_mistake_in_several_words_is_explained_in_one_line(refusal: Refusal, words: list[str], message: str) -> None:
    assert re.match(f"error: {message}", refusal(*words))


def test_the_command_needs_no_arguments(refusal: Refusal, idx_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole run with the defaults takes too long; these images are too few for the default validation set."""
    monkeypatch.setenv("MNIST_MLP_DATA", str(idx_root))
    assert "data.val_size=5000" in refusal()


def test_a_python_without_the_environment_is_told_to_activate_it() -> None:
    checkout = Path(mnist_mlp.__file__).parents[1]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-S", "-m", "mnist_mlp.report", "x"]  # -S: without site-packages
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=checkout, env=environment)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*activate .*\n", done.stderr)


def test_the_presets_of_the_users_folder_count(refusal: Refusal, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("own")
    (folder / "experiment").mkdir()
    for name in ("mine_a", "mine_b"):
        (folder / "experiment" / f"{name}.yaml").write_text("# @package _global_\n")
    own = f"--config-dir={folder}"
    assert "experiment" not in refusal("-m", own, "experiment=glob(mine*)", "seed=range(0)")
    assert "fashion, mine_a, mine_b" in refusal("-m", own, "experiment=glob(nine*)")
    assert re.search("did you mean mine_b.*fashion, mine_a, mine_b", refusal(own, "experiment=mine_"))


@pytest.mark.parametrize("name", ["5e12345", "3.10", "1_000", "true"])
def test_a_name_that_looks_like_a_number_is_text(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", f"name={name}", "--cfg=job"])
    GlobalHydra.instance().clear()
    main()
    assert yaml.safe_load(capsys.readouterr().out)["name"] == name
    GlobalHydra.instance().clear()


def test_every_name_of_another_library_leads_to_exactly_one_key() -> None:
    keys = {key for key, _, _ in options(Config())}
    names = [name for aliases in other_names().values() for name in aliases]
    assert set(other_names()) <= keys | {"experiment", "optim"}
    assert len(names) == len(set(names))
    assert not set(names) & {key.rpartition(".")[2] for key in keys}
    for key, aliases in other_names().items():
        assert {likely_key(name) for name in aliases} == {key}


def test_all_invalid_values_are_reported_together(refusal: Refusal) -> None:
    assert re.search(r"optim\.lr=-1\.0 .*; trainer\.max_epochs=0 ", refusal("optim.lr=-1", "trainer.max_epochs=0"))


def test_a_subset_without_images_is_rejected_by_its_key(refusal: Refusal) -> None:
    message = refusal("data.source=sample", "data.subset=0.00001")
    assert re.match(r"error: data\.subset=1e-05 .*\d+ training images.*larger", message)


def test_a_missing_gpu_is_rejected_by_its_key(refusal: Refusal) -> None:
    import torch  # takes seconds, and no other test here needs it

    if torch.cuda.is_available():
        pytest.skip("torch.cuda.is_available(): the test needs a machine without a GPU")
    message = refusal("data.source=sample", "trainer.accelerator=gpu")
    assert re.match(r"error: trainer\.accelerator=gpu .*0 GPUs.*trainer\.accelerator=cpu", message)


def test_help_lists_every_option_with_its_default_within_100_columns() -> None:
    lines = help_text().splitlines()
    assert max(map(len, lines)) <= 100
    defaults = flatten(to_dict(Config()))
    assert len(defaults) > 30
    columns = set()
    for key, value in defaults.items():
        value = value[0] if key == "model.hidden_units" else value  # as it is written
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value) or '""'
        (line,) = [line for line in lines if line.startswith(f"  {key} ")]
        assert line.split()[1] == shown.split()[0]
        columns.add(line.index(shown, len(key) + 2))
    assert len(columns) == 1
    words = " ".join(help_text().split())
    for _, _, metadata in options(Config()):
        assert " ".join(metadata["meaning"].split()) in words
    starts = [
        line.split()[0].partition(".")[0] for line in lines if line.startswith("  ") and line.split()[0] in defaults
    ]
    assert len(list(groupby(starts))) == len(set(starts)), "options of a group are adjacent"


def test_help_lists_every_choice_of_every_group() -> None:
    lines = help_text().splitlines()
    groups = [path for path in conf_folder().iterdir() if path.is_dir() and path.name != "hydra"]
    assert {path.name for path in groups} >= {"experiment", "model", "optim"}
    for group in groups:
        for path in group.glob("*.yaml"):
            (shown,) = [line for line in lines if line.split()[:1] == [f"{group.name}={path.stem}"]]
            assert len(shown.split()) > 3, "a description"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--help"], "  optim.lr  "),
        (["-m", "optim=adam,sgd", "-h"], "  optim.lr  "),
        (["--cfg", "job"], "\n  lr: 0.01\n"),
        (["--hydra-help"], "--multirun"),
        (["--version"], "mnist_mlp 0."),
    ],
    ids=["help", "help-of-sweep", "cfg", "hydra-help", "version"],
)
def test_commands_that_do_not_train_do_not_import_torch(flags: list[str], text: str, tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = ["train", *{flags}]
try:
    runpy.run_module("mnist_mlp.train", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"torch", "pytorch_lightning", "torchmetrics", "matplotlib"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert text in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_bash_completes_the_keys(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("mnist-mlp-train")  # missing from old editable installs
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "mnist_mlp.train"]
    line = "mnist-mlp-train optim.l"
    done = subprocess.run(
        [*command, "-sc", "query=bash"],
        env={**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "optim.lr=" in done.stdout.split()
    assert all(word.startswith("optim.l") for word in done.stdout.split())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("optim.name=a", {"optim.name=adam", "optim.name=adamw"}),
        ("model.activation=relu,g", {"model.activation=relu,gelu"}),
        ("model.batch_norm=", {"model.batch_norm=true", "model.batch_norm=false"}),
        ("optim=sg", {"optim=sgd"}),
        ("trainer.logger=w", {"trainer.logger=wandb"}),
    ],
)
def test_bash_completes_the_values(word: str, expected: set[str]) -> None:
    assert set(completions(word)) == expected


def test_runs_without_a_name_are_named_after_the_time_and_unique() -> None:
    folders = [run_folder(None, "auto") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(re.fullmatch(r"outputs/train/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", folder) for folder in folders)


def test_the_name_or_the_folder_to_resume_determines_the_run_folder() -> None:
    assert run_folder("mine", "auto") == run_folder("mine", "never") == "outputs/train/mine"
    assert run_folder("mine", "some/folder") == "some/folder"
