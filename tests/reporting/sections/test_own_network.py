"""The page of a run with a custom network."""

from dataclasses import replace
from pathlib import Path

from made_up_runs import write_run

from mnist_mlp.compare.load import load_job
from mnist_mlp.reporting.elements import command
from mnist_mlp.reporting.sections_run import key_metrics


def test_a_custom_network_is_named_and_has_no_command(tmp_path: Path) -> None:
    job = load_job(write_run(tmp_path / "run"))
    assert job is not None
    custom = replace(job, settings={**job.settings, "model.network": "CNN@0123456789ab"})
    assert "3 hidden layers, units 256; trained on" in key_metrics(job, {}).markup
    assert "CNN@0123456789ab; trained on" in key_metrics(custom, {}).markup
    assert command(job)
    assert command(custom) == ""
