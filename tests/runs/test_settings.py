"""Text forms and fingerprints of settings."""

from dataclasses import replace

import pytest

from mnist_mlp.config import Config, DataConfig, ModelConfig, OptimConfig
from mnist_mlp.options import to_dict
from mnist_mlp.runs.settings import describe, label_prefixes, short_values


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([0.0123456789, 0.5], ["0.0123", "0.5"]),
        ([0.0123456789, 0.0123456, 0.4], ["0.0123457", "0.0123456", "0.4"]),
        ([0.12341, 0.12349, 0.2], ["0.1234", "0.1235", "0.2"]),
        ([1e-05, 100.0, 256], ["1e-05", "100.0", "256"]),
        (["relu", None, True, [64, 32]], ["relu", "-", "True", "64-32"]),
    ],
)
def test_numbers_have_the_fewest_digits_that_distinguish_them(values: list[object], shown: list[str]) -> None:
    assert list(short_values(values).values()) == shown


def test_different_values_have_different_texts() -> None:
    values = [0.1 + n * 1e-7 for n in range(200)]
    assert len(set(short_values(values).values())) == 200


@pytest.mark.parametrize(
    ("config", "earlier"),
    [
        (Config(), "06b9ebd617577c74"),
        (
            Config(seed=3, optim=OptimConfig(name="adam", lr=0.001), model=ModelConfig(hidden_units=[256, 128])),
            "0170ce042fd1edad",
        ),
    ],
)
def test_a_new_option_at_its_default_keeps_the_fingerprint(config: Config, earlier: str) -> None:
    """Fingerprints before model.network was added. If this fails, add the new option to NEWER_OPTIONS."""
    data = {"digest": "digest"}
    assert describe(to_dict(config), [], data)["fingerprint"] == earlier
    now = {**data, "classes": list("0123456789"), "mean": 0.1307, "std": 0.3081}
    assert describe(to_dict(config), [], now)["fingerprint"] == earlier
    for changed in ({"classes": list("abcdefghij")}, {"mean": 0.2}, {"digest": "other"}):
        assert describe(to_dict(config), [], now | changed)["fingerprint"] != earlier
    for options in (ModelConfig(network="mine.Net@0123"), DataConfig(name="qmnist")):
        changed_config = replace(config, **{type(options).__name__.removesuffix("Config").lower(): options})
        assert describe(to_dict(changed_config), [], now)["fingerprint"] != earlier


@pytest.mark.parametrize(
    ("texts", "prefixes"),
    [
        ({"data.normalization": ["standard", "raw"], "data.subset": ["half", "full"]}, ["", ""]),
        ({"optim.lr": ["0.1", "1e-05"], "seed": ["0", "1"]}, ["lr=", "seed "]),
        ({"data.subset": ["half", "0.1"], "model.batch_norm": ["True", "False"]}, ["subset=", "batch_norm="]),
        ({"data.name": ["mnist", "fashion_mnist"], "data.source": ["mnist", "files"]}, ["data.name=", "source="]),
        ({"trainer.accelerator": ["auto", "cpu"], "model.hidden_units": ["256-64"]}, ["accelerator=", "hidden_units="]),
    ],
)
def test_only_words_that_no_other_setting_has_lose_their_key(texts: dict[str, list[str]], prefixes: list[str]) -> None:
    assert list(label_prefixes(texts).values()) == prefixes
