"""The section on one run: settings, confusion matrix, classification report, digits."""

from mnist_mlp.analysis.collect import EXCLUDED_KEYS, Job, Summary
from mnist_mlp.config import Config, non_result_keys, to_dict
from mnist_mlp.reporting.elements import Section, Table
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.settings import flatten, value_text
from mnist_mlp.runs.tables import decimal, percent


def best_job(summary: Summary) -> Job | None:
    """The best run of the best row, by the measure that ranks the rows; None where nothing finished."""
    column = summary.ranked_by.replace("_", "/", 1)
    rows = [row for row in summary.rows if row.best]
    done = [job for row in rows for job in row.jobs if job.result is not None]
    return max(done, key=lambda job: job.result.metrics.get(column) or 0.0 if job.result else 0.0) if done else None


def best_run(job: Job, name: str, path: str) -> Section:
    """The best run of several: its figures and its settings. path: of its folder, as seen from the page."""
    assert job.result is not None
    result, metrics = job.result, job.result.metrics
    facts = [
        f"test accuracy {percent(metrics['test/accuracy'])}",
        f"macro F1 {decimal(metrics['test/f1_macro'])}",
        f"loss {decimal(metrics['test/loss'])}",
        f"{result.parameters:,} parameters",
        f"checkpoint of epoch {result.best_epoch} of {result.epochs}",
        f"{result.timing['fit_seconds']:.1f} s",
    ]
    return Section(
        f"The best run: {name}",
        [", ".join(facts) + f", in {path}."],
        Table(["setting (other than default)", "value"], changed(job.settings)),
        folded={"All settings": all_settings(job)},
    )


def all_settings(job: Job) -> Table:
    """Every setting of a run but where its digits lay, since pages are passed on."""
    shown = {key: value for key, value in job.settings.items() if key != "data.root"}
    return Table(["setting", "value"], [[key, value_text(value)] for key, value in shown.items()])


def changed(settings: JSON) -> list[list[str]]:
    """The settings that affect the result and differ from the default, as [key, value]."""
    left_out = non_result_keys() | {"trainer.accelerator", "data.digest"}
    default = flatten(to_dict(Config()))
    told = {key: value for key, value in settings.items() if key not in left_out and not EXCLUDED_KEYS.fullmatch(key)}
    return [[key, value_text(value)] for key, value in told.items() if key not in default or default[key] != value]
