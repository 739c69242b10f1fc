"""Compose configurations from Python: presets, nested settings, and inside another Hydra application."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import OmegaConf

import mnist_mlp
from mnist_mlp.api.training import configuration
from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig


def run_code(code: str, cwd: Path, *arguments: str) -> str:
    """Run code in a process and return its stdout; asserts exit code 0 and an empty stderr."""
    process = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout


@pytest.fixture
def presets(tmp_path: Path) -> Path:
    """A folder with experiment=mine and a name that needs quoting."""
    folder = tmp_path / "it's mine, [really]"
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optim: adamw\nmodel:\n  hidden_units: [32, 16]\n"
    )
    return folder


def test_presets_and_settings_compose_as_on_the_command_line() -> None:
    config = mnist_mlp.compose(["experiment=better", "optim.lr=0.01", "model.hidden_units=[8,4]"])
    assert (config.optim.name, config.optim.lr, config.model.hidden_layers) == ("adamw", 0.01, 2)
    assert mnist_mlp.compose() == Config()


@pytest.mark.parametrize("root", ["~/mnist", "/data/mnist (1)", "/o'neil/mnist", "3.10", "'/quoted (1)'", "a[1]"])
def test_a_folder_may_have_any_name(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    expected = root.replace("~", "/home/me") if root[0] == "~" else root.strip("'")
    assert mnist_mlp.compose([f"data.root={root}"]).data.root == expected
    assert mnist_mlp.compose([f"optim.teacher={root}"]).optim.teacher == expected
    assert Config(data=DataConfig(root=expected)).data.root == expected


def test_user_presets_are_used_alongside_those_of_the_package(presets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = mnist_mlp.compose(["experiment=mine", "trainer.max_epochs=2"], config_dir=presets)
    assert (config.optim, config.model) == (
        mnist_mlp.compose(["optim=adamw"]).optim,
        ModelConfig(hidden_units=[32, 16]),
    )
    monkeypatch.chdir(presets.parent)
    assert mnist_mlp.compose(["experiment=mine", "trainer.max_epochs=2"], config_dir=presets.name) == config
    assert mnist_mlp.compose(["experiment=better"], config_dir=presets) == mnist_mlp.compose(["experiment=better"])


@pytest.mark.parametrize(
    ("overrides", "config_dir", "message"),
    [
        (["optim.lrr=1"], None, r"unknown key optim\.lrr: did you mean optim\.lr\?"),
        (["+foo=1"], None, "unknown key foo"),
        (["optim.lr=-1"], None, r"optim\.lr=-1\.0 .*expected float > 0"),
        (["optim.name=adm"], None, r"optim\.name=adm .*did you mean adam\?"),
        (["seed=1,2"], None, "seed=1,2 has several values"),
        (["experiment=mine"], None, r"experiment=mine .*better, debug"),
        (["experiment=3"], None, r"experiment=3 .*better, debug"),
        ("optim.lr=1", None, r"overrides='optim\.lr=1' is .* use a list"),
        (["foo"], None, "'foo' is not of the form KEY=VALUE"),
        (["name=${nope}"], None, "nope"),
        (["seed=1"], "nowhere", r"config_dir=nowhere is not a folder"),
    ],
)
def test_a_mistake_is_a_one_line_error(overrides: list[str] | str, config_dir: str | None, message: str) -> None:
    with pytest.raises(mnist_mlp.UserError, match=message) as error:
        mnist_mlp.compose(overrides, config_dir)
    assert "\n" not in str(error.value)
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "# @package _global_\noptim:\n  lrr: 1\n",
            r"In 'experiment/mine': unknown key optim\.lrr: did you mean optim\.lr",
        ),
        ("# @package _global_\noptim:\n  lr: abc\n", r"optim\.lr=abc .*expected float > 0"),
        ("# @package _global_\ndefaults:\n  - override /optim: adm\n", r"optim=adm .*did you mean adam\?"),
        ("optim:\n  lr: 1\n", r"In 'experiment/mine': # @package _global_ is missing"),
        ("optim: [", r"mine\.yaml"),
    ],
)
def test_a_mistake_in_a_user_preset_is_explained(presets: Path, content: str, message: str) -> None:
    (presets / "experiment" / "mine.yaml").write_text(content)
    with pytest.raises(mnist_mlp.UserError, match=message) as error:
        mnist_mlp.compose(["experiment=mine"], presets)
    assert "\n" not in str(error.value)


def test_compose_leaves_an_initialized_hydra_unchanged(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("a: 1\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.2"):
        shared, loader = GlobalHydra.instance(), GlobalHydra.instance().config_loader()
        assert mnist_mlp.compose(["optim=adam"]).optim.name == "adam"
        with pytest.raises(mnist_mlp.UserError):
            mnist_mlp.compose(["optim=adm"])
        assert GlobalHydra.instance() is shared
        assert GlobalHydra.instance().config_loader() is loader
        assert str(VersionBase.instance().getbase()) == "1.2"
        assert hydra.compose("other") == {"a": 1}


@pytest.mark.integration
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Hydra 1.3's own hydra.main requires Python < 3.14")
def test_compose_works_inside_another_hydra_application(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("lr: 0.5\nmnist:\n  optim:\n    name: adam\n")
    code = """
import hydra, mnist_mlp
from hydra.core.hydra_config import HydraConfig
from mnist_mlp.api.training import configuration

@hydra.main(version_base="1.2", config_path=CWD, config_name="other")
def main(cfg):
    config = mnist_mlp.compose(["experiment=better", f"optim.lr={cfg.lr}"])
    nested = configuration(None, {"optim": cfg.mnist.optim, "optim.lr": cfg.lr})
    print(config.optim.lr, nested.optim.name, nested.optim.lr, HydraConfig.get().job.config_name)

main()
""".replace("CWD", repr(str(tmp_path)))
    output = run_code(code, tmp_path, "hydra.run.dir=.", "hydra.output_subdir=null")
    assert output == "0.5 adam 0.5 other\n"


@pytest.mark.integration
def test_fit_accepts_what_hydra_compose_returns(tmp_path: Path) -> None:
    code = """
import hydra
with hydra.initialize_config_module("mnist_mlp.conf", version_base="1.3"):
    cfg = hydra.compose("config", overrides=["experiment=debug", "optim=adam", "model.hidden_units=[8,4]"])
import mnist_mlp
run = mnist_mlp.fit(cfg, "run", **{"data.source": "sample", "data.subset": 0.02, "trainer.progress": False})
print(run.config.optim.name, run.config.model.hidden_units, run.result.overrides)
"""
    output = run_code(code, tmp_path).splitlines()[-1]
    assert output.startswith("adam [8, 4] ")
    assert "optim.name=adam" in output
    assert "seed=" not in output, "defaults are not overrides"


@pytest.mark.parametrize(
    "settings",
    [
        {"optim.name": "adam", "optim.lr": 0.5, "model.hidden_units": [8, 4], "seed": 3},
        {"optim": {"name": "adam", "lr": 0.5}, "model": {"hidden_units": [8, 4]}, "seed": 3},
        {"optim": {"name": "adam"}, "optim.lr": 0.5, "model": ModelConfig(hidden_units=[8, 4]), "seed": 3},
        {"optim": OmegaConf.create({"lr": 0.5}), "optim.name": "adam", "model.hidden_units": (8, 4), "seed": 3},
        OmegaConf.create({"optim": {"name": "adam", "lr": 0.5}, "model": {"hidden_units": [8, "${seed}"]}, "seed": 4}),
        OmegaConf.structured(Config(optim=OptimConfig("adam", 0.5), model=ModelConfig(hidden_units=[8, 4]), seed=3)),
    ],
    ids=["dotted", "nested", "mixed", "DictConfig inside", "DictConfig", "structured"],
)
def test_nested_dotted_and_omegaconf_settings_are_equivalent(settings: Any) -> None:
    config = replace(configuration(None, settings), seed=3)
    assert config == Config(optim=OptimConfig("adam", 0.5), model=ModelConfig(hidden_units=[8, 4]), seed=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim": {"lrr": 1}}, r"unknown key optim\.lrr: did you mean optim\.lr\?"),
        ({"optim": {"lr": {"peak": 1}}}, r"unknown key optim\.lr\.peak"),
        ({"experiment": {"name": "better"}}, r"unknown key experiment\.name"),
        (
            OmegaConf.create({"optim": {"learning_rate": 1}}),
            r"unknown key optim\.learning_rate: did you mean optim\.lr",
        ),
        (OmegaConf.create({"optim": {"lr": "${nope}"}}), "nope"),
        (OmegaConf.create({"optim": {"lr": "???"}}), r"optim\.lr=.* has the wrong type"),
        ({"optim": 3}, r"optim=3 .*adam"),
        ({"optim": OptimConfig}, "optim"),
    ],
)
def test_nested_settings_are_checked(settings: Any, message: str) -> None:
    with pytest.raises(mnist_mlp.UserError, match=message) as error:
        configuration(None, settings)
    assert "\n" not in str(error.value)


def test_settings_take_precedence_over_a_preset() -> None:
    preset = mnist_mlp.compose(["experiment=better"])
    mixed = configuration(None, {"experiment": "better", "optim": {"lr": 0.5}, "model.hidden_units": [8, 4]})
    assert (mixed.optim.lr, mixed.optim.name, mixed.model.hidden_layers) == (0.5, preset.optim.name, 2)
    assert mixed == mnist_mlp.compose(["experiment=better", "optim.lr=0.5", "model.hidden_units=[8,4]"])


def test_a_list_of_widths_replaces_the_layers_of_a_configuration_and_a_number_keeps_them() -> None:
    base = Config(model=ModelConfig(hidden_layers=5))
    models = [configuration(base, {"model.hidden_units": units}).model for units in ([32], [32, 16], 32)]
    assert models == [ModelConfig(1, [32]), ModelConfig(2, [32, 16]), ModelConfig(5, [32])]
    assert configuration(base, {"model.hidden_units": [32], "model.hidden_layers": 3}).model == ModelConfig(3, [32])
