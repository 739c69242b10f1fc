"""Any text for an option is either a valid value or rejected with a one-line message."""

import string

import pytest
from hostile_input import cases
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from mnist_mlp.cli.compose import NAME_LENGTH, job_name, to_config
from mnist_mlp.cli.grid import register
from mnist_mlp.cli.help import explain
from mnist_mlp.config import Config, conf_folder
from mnist_mlp.options import options

keys = st.sampled_from([key for key, _, _ in options(Config())])
texts = st.text(max_size=20) | st.text(string.ascii_letters + string.digits + "[]{}$:,.'\"\\=~+- \n", max_size=30)
odd = st.sampled_from([
    "null", "[]", "{}", "nan", "inf", "-inf", "-1", "0", "1e400", "9" * 400, "9" * 5000, "true", "[1,[2]]", "${seed}",
    "${oc.env:NOWHERE}", "???", "'", '"', "a\nb", "\\", "range(3)", "[null]", "[1e999]", "{a:1}", "0x10", "1_000",
])  # fmt: skip


@cases(10, 2500)
@given(key=keys, value=texts | odd | st.floats().map(str) | st.integers().map(str))
def test_an_override_is_valid_or_rejected_in_one_line(key: str, value: str) -> None:
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        try:
            config = to_config(compose("config", [f"{key}={value}"]))
        except Exception as error:
            line = explain(error)
            assert line
            assert "\n" not in line
            assert "Traceback" not in line
        else:
            assert isinstance(config, Config)


@cases(30, 1500)
@given(overrides=st.lists(st.builds("{}={}".format, keys, texts), max_size=5))
def test_the_name_of_a_job_is_short_and_a_valid_folder_name(overrides: list[str]) -> None:
    name = job_name(overrides)
    assert 0 < len(name) <= NAME_LENGTH + 60
    assert not set(name) & set("/\\=\0\n ")
    assert name not in (".", "..")


@pytest.mark.parametrize("name", ["a/b", "..", "", "a\0b", "x" * 300])
def test_an_invalid_folder_name_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="not a valid folder name"):
        Config(name=name)
