"""Windows and macOS, pretended on Linux: training, sweeps and their interruption."""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pretended_system
import pytest
from forks import in_a_fork
from sweeps_in_process import TINY, quick_page

import mnist_mlp.training.fit  # noqa: F401  # the forks import torch only once

Train = Callable[..., str]


def pretend(system: str, folder: Path, work: Callable[[], None]) -> str:
    """Call a function in a fork that pretends to be a system, where mnist_mlp is imported again; return its output."""

    def pretending() -> None:
        os.chdir(folder)
        os.environ[pretended_system.VARIABLE] = system
        pretended_system.install()
        for name in [name for name in sys.modules if name.startswith("mnist_mlp")]:
            del sys.modules[name]
        encoding = "cp1252" if system == "windows" else "utf-8"
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
        work()

    code, output = in_a_fork(pretending)
    assert code == 0, output
    return output


@pytest.fixture
def train(idx_root: Path, tmp_path: Path) -> Train:
    """Runs commands one after another on a pretended system; returns their output."""

    def run(system: str, *commands: tuple[str, ...]) -> str:
        def work() -> None:
            from hydra.core.global_hydra import GlobalHydra

            from mnist_mlp.reporting import page
            from mnist_mlp.train import main

            page.write_page = quick_page
            for overrides in commands:
                sys.argv = ["train", f"data.root={idx_root}", *TINY, *overrides]
                GlobalHydra.instance().clear()
                main()

        return pretend(system, tmp_path, work)

    return run


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_every_module_can_be_imported(system: str, tmp_path: Path) -> None:
    def work() -> None:
        import mnist_mlp

        package = Path(mnist_mlp.__file__).parent
        files = [path.relative_to(package.parent).with_suffix("") for path in package.rglob("*.py")]
        for file in files:
            import_module(".".join(file.parts).removesuffix(".__init__"))
        print(len(files))

    assert int(pretend(system, tmp_path, work).split()[-1]) > 80


def test_a_run_on_windows_finishes_and_is_found_again(train: Train, tmp_path: Path) -> None:
    output = train("windows", ("name=x",), ("name=x",), ("name=x", "seed=1", "resume=never"))
    assert output.count("This run is already finished") == 1
    folder = tmp_path / "outputs/train/x"
    assert json.loads((folder / "result.json").read_text())["config"]["seed"] == 1
    assert not list(tmp_path.rglob(".lock"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_run_on_macos_finishes_and_is_found_under_its_name_in_any_case(train: Train, tmp_path: Path) -> None:
    assert train("macos", ("name=x",), ("name=X",)).count("This run is already finished") == 1
    assert [path.name for path in (tmp_path / "outputs/train").iterdir()] == ["x"]
