import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from settings import config_with

from mnist_mlp import config as config_module
from mnist_mlp.cli.compose import compose
from mnist_mlp.config import (
    PRECISIONS,
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    Optimizer,
    ReferenceConfig,
    TrainerConfig,
    choices,
    conf_folder,
    layer_sizes,
    non_result_keys,
    note_one_layer,
    subset_fraction,
)
from mnist_mlp.errors import UserError
from mnist_mlp.options import StrEnum, from_dict, options, to_dict
from mnist_mlp.runs.settings import flatten

PRESETS = sorted(
    path.relative_to(conf_folder())
    for path in conf_folder().glob("*/*.yaml")
    if path.parent.name not in ("hydra", "search")
)
BOUNDS = [
    (key, value, name, limit)
    for key, value, metadata in options(Config())
    for name, limit in metadata["bounds"].items()
    if value is not None
]


def composed(*overrides: str) -> Config:
    return compose(overrides)


def next_value(bound: float, default: float, direction: float) -> float:
    """The next number of the option's type in this direction."""
    return int(bound + direction) if isinstance(default, int) else math.nextafter(bound, direction * math.inf)


def test_there_are_presets_to_check() -> None:
    assert {path.parent.name for path in PRESETS} >= {"optim", "model", "experiment"}
    assert len(PRESETS) >= 8


@pytest.mark.parametrize("preset", PRESETS, ids=str)
def test_every_preset_sets_what_its_file_contains(preset: Path) -> None:
    content = OmegaConf.to_container(OmegaConf.load(conf_folder() / preset))
    assert isinstance(content, dict)
    content.pop("defaults", None)
    expected = flatten(content if preset.parent.name in ("experiment", "study") else {preset.parent.name: content})
    if isinstance(width := expected.get("model.hidden_units"), int):
        expected["model.hidden_units"] = [width]
    actual = flatten(to_dict(composed(f"{preset.parent.name}={preset.stem}")))
    assert expected
    assert {key: actual[key] for key in expected if not key.startswith("hydra.")} == {
        key: value for key, value in expected.items() if not key.startswith("hydra.")
    }


def test_the_dataclasses_are_the_only_source_of_defaults() -> None:
    assert composed() == Config()


def test_an_experiment_overrides_a_group_and_the_command_line_overrides_both() -> None:
    experiment = OmegaConf.load(conf_folder() / "experiment" / "debug.yaml")
    assert composed("optim=adam", "experiment=debug").optim.lr == experiment.optim.lr != composed("optim=adam").optim.lr
    assert composed("optim=adam", "experiment=debug", "optim.lr=0.5").optim.lr == 0.5


def test_the_augmentation_of_an_experiment_can_be_replaced() -> None:
    assert composed("experiment=record_small").augment == composed("augment=strong").augment
    assert composed("experiment=record_small", "augment=fine").augment == composed("augment=fine").augment


def test_the_ensemble_has_five_different_augmentations() -> None:
    ensemble = OmegaConf.load(conf_folder() / "experiment" / "record_ensemble.yaml")
    swept = ensemble.hydra.sweeper.params.augment.split(",")
    assert set(swept) <= set(choices("augment"))
    assert len({str(composed("experiment=record_ensemble", f"augment={choice}").augment) for choice in swept}) == 5


@pytest.mark.parametrize("name", choices("study"))
def test_the_claims_of_a_study_are_about_settings_that_it_trains(name: str) -> None:
    study = OmegaConf.load(conf_folder() / "study" / f"{name}.yaml")
    values = {key: str(text).split(",") for key, text in study.hydra.sweeper.params.items()}
    assert study.name == name
    assert study.reference.question
    for claim in study.reference.get("claims", []):
        sides = [dict(pair.split("=") for pair in claim[side].split()) for side in ("better", "worse")]
        assert sides[0].keys() == sides[1].keys()
        assert all(value in values[key] for side in sides for key, value in side.items())


def test_every_numeric_option_has_a_bound() -> None:
    numeric = {
        key for key, value, _ in options(Config()) if isinstance(value, (int, float)) and type(value) is not bool
    }
    assert numeric == {key for key, *_ in BOUNDS}
    assert len(numeric) >= 20


@pytest.mark.parametrize(("key", "default", "name", "bound"), BOUNDS, ids=[f"{row[0]}-{row[2]}" for row in BOUNDS])
def test_a_value_just_beyond_a_bound_is_rejected_and_the_last_valid_one_is_not(
    key: str, default: float, name: str, bound: float
) -> None:
    outward = -1.0 if name in ("gt", "ge") else 1.0
    inclusive = name in ("ge", "le")
    bound = type(default)(bound)
    valid, invalid = (
        (bound, next_value(bound, default, outward)) if inclusive else (next_value(bound, default, -outward), bound)
    )
    sign = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}[name]
    with pytest.raises(UserError, match=rf"^{re.escape(f'{key}={invalid} is out of range')}.* {sign} {bound}\b"):
        config_with({key: invalid})
    assert flatten(to_dict(config_with({key: valid})))[key] == valid


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_float_option_rejects_numbers_that_are_not_finite(value: float) -> None:
    keys = [key for key, default, _ in options(Config()) if isinstance(default, float)]
    assert len(keys) >= 10
    for key in keys:
        with pytest.raises(UserError, match=re.escape(f"{key}={value} is out of range")):
            config_with({key: value})


def test_precision_is_one_of_lightnings_names() -> None:
    assert [config_with({"trainer.precision": name}).trainer.precision for name in PRECISIONS] == list(PRECISIONS)
    with pytest.raises(UserError, match=r"^trainer\.precision=16 is out of range: expected 32-true, "):
        config_with({"trainer.precision": "16"})


@pytest.mark.parametrize("units", [[256, 128], [1, 2, 3, 4]])
def test_the_number_of_widths_is_one_or_the_number_of_layers(units: list[int]) -> None:
    with pytest.raises(UserError, match=rf"model\.hidden_units=.* {len(units)} widths but model\.hidden_layers=3: use"):
        config_with({"model.hidden_units": units, "model.hidden_layers": 3})
    assert config_with({"model.hidden_units": units, "model.hidden_layers": len(units)}).model.hidden_units == units


@pytest.mark.parametrize(
    ("units", "layers", "widths"),
    [
        (64, 3, [64]),
        ([64], 1, [64]),
        ((8, 8, 8, 8), 4, [8] * 4),
        (np.array([8]), 1, [8]),
        (np.int64(8), 3, [8]),
        ("8-4", 2, [8, 4]),
    ],
)
def test_a_list_of_widths_determines_the_number_of_layers_and_a_number_does_not(
    units: Any, layers: int, widths: list[int]
) -> None:
    model = ModelConfig(hidden_units=units)
    assert (model.hidden_layers, model.hidden_units) == (layers, widths)
    assert ModelConfig(len(widths), units).hidden_units == widths
    assert from_dict(Config, to_dict(Config(model=model))).model == model


def test_the_command_line_accepts_widths_as_tables_show_them() -> None:
    for overrides in (["model.hidden_units=[256,128]"], ["model=wide", "model.hidden_units=256-128", "model=mlp"]):
        assert composed(*overrides).model == ModelConfig(hidden_units=[256, 128])
    assert composed("model.hidden_units=256").model == ModelConfig()
    assert composed("model.hidden_units=[256]").model == ModelConfig(1, 256)
    assert composed("model.hidden_units=[64]", "model.hidden_layers=3").model == ModelConfig(3, [64])


def test_a_run_of_an_earlier_version_with_one_width_in_a_list_keeps_its_three_layers() -> None:
    model = from_dict(Config, {"model": {"hidden_layers": 3, "hidden_units": [64]}}).model
    assert layer_sizes(model.hidden_layers, model.hidden_units) == [784, 64, 64, 64, 10]


def test_one_layer_where_earlier_versions_had_three_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for settings in ({"hidden_units": [37]}, {"hidden_units": [37]}, {"hidden_units": 37}):
        note_one_layer({"model": settings})
    note_one_layer({"model": {"hidden_units": [37], "hidden_layers": 3}})
    (line,) = capsys.readouterr().out.splitlines()
    assert "model.hidden_units=[37]" in line
    assert "model.hidden_units=37 " in line


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        (OptimConfig, {"lr": "0.1"}, "optim.lr='0.1' has the wrong type: expected float > 0.0"),
        (OptimConfig, {"name": "adm"}, "optim.name='adm' is not a valid choice: did you mean adam? use one of sgd,"),
        (OptimConfig, {"lr": True}, "optim.lr=True has the wrong type: expected float > 0.0"),
        (DataConfig, {"batch_size": 64.0}, "data.batch_size=64.0 has the wrong type: expected int >= 1"),
        (TrainerConfig, {"accelerator": "xla"}, "trainer.accelerator='xla' is not a valid choice: use one of auto,"),
        (TrainerConfig, {"figures": 1}, "trainer.figures=1 has the wrong type: expected true, false"),
        (
            ModelConfig,
            {"hidden_units": ["a"]},
            "model.hidden_units=['a'] has the wrong type: expected n for every",
        ),
        (ModelConfig, {"hidden_layers": 1.5}, "model.hidden_layers=1.5 has the wrong type: expected int >= 0"),
        (Config, {"optim": "adam"}, "optim='adam' has the wrong type: expected OptimConfig(...)"),
        (Config, {"seed": None}, "seed=None has the wrong type: expected int >= 0"),
    ],
)
def test_a_value_of_the_wrong_type_is_rejected_on_construction(
    group: type[Any], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        group(**values)


def test_equivalent_values_are_converted(tmp_path: Path) -> None:
    assert OptimConfig(name="adam", lr=1) == OptimConfig(name=Optimizer.adam, lr=1.0)
    assert type(OptimConfig(lr=1).lr) is float
    assert DataConfig(root=tmp_path, subset=0.5).root == str(tmp_path)
    assert config_with({"data.subset": 0.5}).data.subset == "half"
    assert json.dumps(OptimConfig(lr=np.float64(0.1)).lr) == "0.1"
    assert ModelConfig(hidden_units=np.array([8, 4])).hidden_units == [8, 4]


@pytest.mark.parametrize("units", [[], [0], [256, -1, 256]])
def test_a_width_is_at_least_one(units: list[int]) -> None:
    with pytest.raises(UserError, match=r"^model\.hidden_units=\[.*\] is out of range: expected one or more widths"):
        config_with({"model.hidden_units": units})


@pytest.mark.parametrize("layers", [0, 1, 5])
def test_the_number_of_layers_can_be_set_alone(layers: int) -> None:
    assert config_with({"model.hidden_layers": layers}).model.hidden_units == [256]


def test_early_stopping_needs_validation_images() -> None:
    with pytest.raises(
        UserError, match=r"trainer\.early_stopping=2 needs validation images but data\.val_size=0: raise"
    ):
        config_with({"trainer.early_stopping": 2, "data.val_size": 0})
    assert config_with({"trainer.early_stopping": 2, "data.val_size": 1}).trainer.early_stopping == 2


@pytest.mark.parametrize("subset", ["0", "1.5", "-0.5", "nan", "abc", ""])
def test_a_subset_outside_its_range_is_rejected(subset: str) -> None:
    with pytest.raises(UserError, match=rf"^data\.subset={subset} is out of range: expected full, half or a fraction"):
        config_with({"data.subset": subset})


@pytest.mark.parametrize(("subset", "fraction"), [("full", 1.0), ("half", 0.5), ("0.25", 0.25), ("1", 1.0)])
def test_a_subset_is_a_fraction(subset: str, fraction: float) -> None:
    assert subset_fraction(config_with({"data.subset": subset}).data.subset) == fraction


@pytest.mark.parametrize("name", ["a/b", "../a", "..", "", "a b", "a\n", "-a"])
def test_a_name_is_a_valid_folder_name(name: str) -> None:
    with pytest.raises(UserError, match=r"^name=.* is not a valid folder name: use letters"):
        Config(name=name)


def test_all_faults_are_reported_together_in_one_line() -> None:
    with pytest.raises(UserError) as caught:
        config_with({"seed": -1, "optim.lr": 0.0, "data.subset": "abc", "model.hidden_units": [0], "name": "a/b"})
    faults = str(caught.value).split("; ")
    assert [fault.split("=")[0] for fault in faults] == [
        "seed",
        "optim.lr",
        "data.subset",
        "model.hidden_units",
        "name",
    ]
    assert "\n" not in str(caught.value)


def test_choices_behave_like_strings_when_formatted_pickled_or_dumped() -> None:
    enums = [item for item in vars(config_module).values() if isinstance(item, type) and issubclass(item, StrEnum)]
    choices = [choice for enum in enums for choice in enum]
    assert len(choices) > 20
    for choice in choices:
        assert choice == choice.name == choice.value
        assert (str(choice), f"{choice:>12}", f"{choice}", json.dumps(choice)) == (
            choice.value, choice.value.rjust(12), choice.value, f'"{choice.value}"'
        )  # fmt: skip
        assert pickle.loads(pickle.dumps(choice)) is choice
    assert {type(value) for value in flatten(to_dict(Config(optim=OptimConfig(name="adam")))).values()} <= {
        str, int, float, bool, list, type(None)
    }  # fmt: skip
    assert OmegaConf.to_yaml(OmegaConf.structured(OptimConfig(name="adam"))).startswith("name: adam\n")


def test_every_option_is_described_and_has_a_unique_key() -> None:
    keys = [key for key, _, _ in options(Config())]
    assert all(metadata["meaning"] for _, _, metadata in options(Config()))
    assert len(set(keys)) == len(keys) > 30


def test_a_config_becomes_primitives_and_back() -> None:
    values = to_dict(Config())
    assert from_dict(Config, values) == from_dict(Config, {"unknown": 1, "optim": None}) == Config()
    assert json.loads(json.dumps(values)) == values
    assert list(flatten(values)) == [key for key, _, _ in options(Config())]
    assert {type(value) for value in flatten(values).values()} == {str, int, float, bool, list, type(None)}


def test_only_options_that_do_not_affect_the_result_are_excluded_from_the_fingerprint() -> None:
    excluded = {"name", "resume", "data.root", "trainer.strategy", "trainer.profiler", "trainer.progress"}
    included = {"seed", "optim.lr", "data.subset", "trainer.max_epochs", "trainer.precision", "trainer.accelerator"}
    keys = {key for key, _, _ in options(Config())}
    assert excluded | {"trainer.steps_per_execution"} <= non_result_keys() < keys
    assert included <= keys - non_result_keys()
    assert not {key for key in non_result_keys() if key.startswith(("model.", "optim.", "augment."))}


def test_an_environment_variable_sets_the_default_of_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_MLP_DATA", "/somewhere/else")
    assert Config().data.root == composed().data.root == "/somewhere/else"
    assert composed("data.root=here").data.root == "here"
    monkeypatch.delenv("MNIST_MLP_DATA")
    assert Config().data.root == composed().data.root == "./data"


def test_batch_norm_needs_more_than_one_image_per_step() -> None:
    with pytest.raises(UserError, match=r"^data\.batch_size=1 .* model\.batch_norm=true: .*2, or model\.batch_norm"):
        config_with({"data.batch_size": 1, "model.batch_norm": True})
    config_with({"data.batch_size": 1, "model.batch_norm": True, "model.hidden_layers": 0})  # has no batch norm


@pytest.mark.parametrize(
    "reference", [{"f1_per_class": [0.9]}, {"recall_per_class": [1.5] * 10}, {"precision_per_class": [math.nan] * 10}]
)
def test_published_scores_are_a_fraction_per_class(reference: dict[str, list[float]]) -> None:
    with pytest.raises(UserError, match=r"^reference\.\w+_per_class=.*\[0, 1\] for each of the 10 classes"):
        Config(reference=ReferenceConfig(**reference))


@pytest.mark.parametrize("accuracy", [-0.1, 98.0, math.nan])
def test_a_published_accuracy_is_a_fraction(accuracy: float) -> None:
    with pytest.raises(UserError, match=r"^reference\.test_accuracy=.*expected fraction in \[0, 1\], or null"):
        Config(reference=ReferenceConfig(test_accuracy=accuracy))


def test_control_characters_of_a_value_are_escaped_in_the_message() -> None:
    with pytest.raises(UserError) as caught:
        config_with({"data.subset": "a\nb\r\x1b[31m\u2028"})
    assert "data.subset=a\\nb\\r\\x1b[31m\\u2028 is" in str(caught.value)
