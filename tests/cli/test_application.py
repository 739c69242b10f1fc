import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from mnist_mlp.cli.compose import run_folder
from mnist_mlp.cli.help import OTHER_NAMES, completions, help_text, likely_key
from mnist_mlp.config import Config, conf_folder
from mnist_mlp.options import options, to_dict
from mnist_mlp.runs.settings import flatten
from mnist_mlp.train import main

Refusal = Callable[..., str]


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Refusal]:
    """What `train` says to these overrides, refused; holds that it says no more and leaves nothing behind."""

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
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # unset for us, and restored: launch() sets it
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield run
    root.handlers[:] = handlers  # Hydra's handler would write to a stream that capsys closes
    root.setLevel(level)
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("override", "says"),
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
            r"optim\.schedule=cos is not a valid choice: did you mean cosine\? allowed is constant, cosine",
        ),
        ("optim.name=Adam", r"optim\.name=Adam is not a valid choice: did you mean adam\? allowed is sgd"),
        ("seed=range(3)", r"seed=range\(3\) gives several values: add -m to sweep over them"),
        ("seed=1,2", r"seed=1,2 gives several values: add -m to sweep"),
        ("experiment=glob(nope_*)", r"experiment=glob\(nope_\*\) gives several values: add -m"),
        ("optim.lrr=1", r"unknown key optim\.lrr: did you mean optim\.lr\?.* --help lists every key"),
        ("lr=0.1", r"unknown key lr: did you mean optim\.lr\?.* --help lists every key"),
        ("+optim.foo=1", r"unknown key optim\.foo: .*--help lists every key"),
        ("++foo=1", r"unknown key foo: .*--help lists every key"),
        ("optim.lr=abc", r"optim\.lr=abc .*allowed is float > 0"),
        ("optim.lr=-1", r"optim\.lr=-1\.0 .*allowed is float > 0"),
        ("optim.lr=nan", r"optim\.lr=nan .*allowed is float > 0"),
        ("optim.lr=", r"optim\.lr= .*allowed is float > 0"),
        ("data.subset=1.5", r"data\.subset=1\.5 .*allowed is full, half or a fraction in \(0, 1\]"),
        ("data.val_size=60000", r"data\.val_size=60000 .*allowed is int >= 0 and < 60000"),
        ("model.hidden_layers=1.5", r"model\.hidden_layers=1\.5 .*allowed is int >= 0"),
        ("model.hidden_units=[256,abc]", r"model\.hidden_units=.*abc.* allowed is n or \[n\] for every layer"),
        ("model.hidden_units=x", r"model\.hidden_units='x' .* allowed is n or \[n\] for every layer"),
        ("trainer.precision=16", r"trainer\.precision=16 .*allowed is 32-true, bf16-mixed, "),
        ("trainer.progress=maybe", r"trainer\.progress=maybe .*allowed is true, false"),
        ("optim.name=adm", r"optim\.name=adm .*allowed is sgd, adam, adamw"),
        ("optim=adm", r"optim=adm: did you mean adam\?.* adam, adamw, sgd"),
        ("experiment=foo", r"experiment=foo: .*debug"),
        ("name=a/b", r"name='a/b' .*use letters, digits"),
        ("resume=nonexistent/folder", r"resume=nonexistent/folder .*give auto, never or a run folder"),
        ("resume=/nonexistent/folder", r"resume=/nonexistent/folder .*give auto, never or a run folder"),
        ("foo", r"'foo' is not of the form KEY=VALUE; --help lists every key"),
        ("=3", r"'=3' is not of the form KEY=VALUE; --help lists every key"),
    ],
)
def test_a_mistake_on_the_command_line_is_explained_in_one_line(refusal: Refusal, override: str, says: str) -> None:
    assert re.match(f"error: (no )?{says}", refusal(override))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["experiment=glob(nope_*)"], r"experiment=glob\(nope_\*\) matches nothing: there is better, debug, "),
        (["seed=range(0)"], r"seed=range\(0\) gives no value$"),
        (["seed=1,2", "seed=3"], r"seed is given 2 times: give its values together, as seed=A,B$"),
        (["name=a,b"], r"name=a,b gives several names: a sweep has one$"),
    ],
)
def test_a_sweep_that_would_ignore_something_is_refused(refusal: Refusal, overrides: list[str], says: str) -> None:
    assert re.match(f"error: {says}", refusal("-m", *overrides))


def test_every_name_of_other_libraries_leads_to_a_key_of_ours_and_to_one_alone() -> None:
    ours = {key for key, _, _ in options(Config())}
    names = [name for theirs in OTHER_NAMES.values() for name in theirs]
    assert set(OTHER_NAMES) <= ours | {"experiment"}
    assert len(names) == len(set(names))
    assert not set(names) & {key.rpartition(".")[2] for key in ours}
    for key, theirs in OTHER_NAMES.items():
        assert {likely_key(name) for name in theirs} == {key}


def test_all_mistakes_in_values_are_named_at_once(refusal: Refusal) -> None:
    assert re.search(r"optim\.lr=-1\.0 .*; trainer\.max_epochs=0 ", refusal("optim.lr=-1", "trainer.max_epochs=0"))


def test_a_subset_without_images_is_refused_by_its_key(refusal: Refusal) -> None:
    message = refusal("data.source=sample", "data.subset=0.00001")
    assert re.match(r"error: data\.subset=1e-05 keeps none of \d+ training images: choose a larger", message)


def test_a_gpu_that_is_not_there_is_refused_by_its_key(refusal: Refusal) -> None:
    import torch  # costs seconds, and no other test here needs it

    if torch.cuda.is_available():
        pytest.skip("torch.cuda.is_available(): this machine has the GPU that the test wants missing")
    message = refusal("data.source=sample", "trainer.accelerator=gpu")
    assert re.match(r"error: trainer\.accelerator=gpu .*PyTorch sees 0 GPUs: .*trainer\.accelerator=cpu", message)


def test_help_names_every_knob_with_its_default_in_columns_of_100() -> None:
    lines = help_text().splitlines()
    assert max(map(len, lines)) <= 100
    defaults = flatten(to_dict(Config()))
    assert len(defaults) > 30
    columns = set()
    for key, value in defaults.items():
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
    assert len(list(groupby(starts))) == len(set(starts)), "options of a group stand together"


def test_help_names_every_choice_of_every_group() -> None:
    lines = help_text().splitlines()
    groups = [path for path in conf_folder().iterdir() if path.is_dir() and path.name != "hydra"]
    assert {path.name for path in groups} >= {"experiment", "model", "optim"}
    for group in groups:
        for path in group.glob("*.yaml"):
            (shown,) = [line for line in lines if line.split()[:1] == [f"{group.name}={path.stem}"]]
            assert len(shown.split()) > 3, "a word on what it does"


@pytest.mark.parametrize(
    ("flags", "shows"),
    [
        (["--help"], "  optim.lr  "),
        (["-m", "optim=adam,sgd", "-h"], "  optim.lr  "),
        (["--cfg", "job"], "\n  lr: 0.01\n"),
        (["--hydra-help"], "--multirun"),
        (["--version"], "mnist_mlp 0."),
    ],
    ids=["help", "help-of-sweep", "cfg", "hydra-help", "version"],
)
def test_what_trains_nothing_imports_no_torch(flags: list[str], shows: str, tmp_path: Path) -> None:
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
    assert shows in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_bash_completes_the_keys(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("mnist-mlp-train")  # not there in an editable install from before it
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
    assert all(offer.startswith("optim.l") for offer in done.stdout.split())


@pytest.mark.parametrize(
    ("word", "offers"),
    [
        ("optim.name=a", {"optim.name=adam", "optim.name=adamw"}),
        ("model.activation=relu,g", {"model.activation=relu,gelu"}),
        ("model.batch_norm=", {"model.batch_norm=true", "model.batch_norm=false"}),
        ("optim=sg", {"optim=sgd"}),
        ("trainer.logger=w", {"trainer.logger=wandb"}),
    ],
)
def test_bash_completes_the_values(word: str, offers: set[str]) -> None:
    assert set(completions(word)) == offers


def test_a_run_without_a_name_is_named_after_the_time_and_no_two_are_alike() -> None:
    folders = [run_folder(None, "auto") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(re.fullmatch(r"outputs/train/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", folder) for folder in folders)


def test_a_name_and_a_folder_to_resume_say_where_a_run_goes() -> None:
    assert run_folder("mine", "auto") == run_folder("mine", "never") == "outputs/train/mine"
    assert run_folder("mine", "some/folder") == "some/folder"
