"""The installed wheel works like the checkout. Slow: builds, installs and trains."""

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


def call(command: Sequence[str | Path], cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, ""), process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy because setuptools leaves a build folder behind."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("mnist_mlp", "conf"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    process = subprocess.run(build, cwd=copy, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


def test_the_wheel_contains_every_module_and_every_yaml(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = [*(CHECKOUT / "conf").rglob("*.yaml"), CHECKOUT / "conf" / "__init__.py"]
    presets = {f"mnist_mlp/{path.relative_to(CHECKOUT)}" for path in conf}
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "mnist_mlp").rglob("*.py")}
    assert "mnist_mlp/conf/config.yaml" in presets
    assert len(presets) >= 10
    assert len(modules) >= 50
    templates = {str(path.relative_to(CHECKOUT)) for path in CHECKOUT.glob("mnist_mlp/*/templates/*.*")}
    assert {path.split("/")[1] for path in templates} == {"cli", "reporting", "serve"}
    assert presets | modules | templates | {"mnist_mlp/py.typed"} <= names


@pytest.mark.integration
def test_the_installed_wheel_trains_in_another_folder(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:  # installing a pure wheel, except for its scripts
        archive.extractall(packages)
    # dependencies of this environment without its .pth files, which would add the editable checkout
    site_packages = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    (packages / "dependencies.pth").write_text("\n".join(dict.fromkeys(site_packages)) + "\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    imported = call([python, "-c", "import mnist_mlp; print(mnist_mlp.__file__)"], elsewhere).strip()
    assert Path(imported).is_relative_to(packages)
    notebook = "import hydra\nwith hydra.initialize_config_module('mnist_mlp.conf', version_base='1.3'):\n"
    notebook += "    print(hydra.compose('config', overrides=['experiment=better']).optim.name)"
    assert call([python, "-c", notebook], elsewhere) == "adamw\n"
    small = ["data.source=sample", "trainer.max_epochs=1", "model.hidden_layers=1", "trainer.accelerator=cpu"]
    call([python, "-m", "mnist_mlp.train", *small], elsewhere)
    (result,) = elsewhere.glob("outputs/train/*/result.json")
    assert json.loads(result.read_text())["data"]["source"] == "sample"
