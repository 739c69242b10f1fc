"""The command that makes a run again."""

import shlex
from collections.abc import Sequence

from mnist_mlp.analysis.collect import Job
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.reading import UnreadableFileError

NOT_REPEATED = ("name", "resume", "data.root")
"""Overrides that say where a run is, not what it is."""


def command(job: Job) -> str:
    """The command line of a run, without what says where it was; empty where that is not known."""
    given = _given(job)
    if given is None:
        return ""
    kept = decisive(given)
    threads = job.settings.get("trainer.threads")
    if job.result is not None and threads and "trainer.threads" not in kept:  # a sweep gives it to its jobs
        kept["trainer.threads"] = f"trainer.threads={threads}"
    if job.result is not None and job.result.data["source"] == "sample":  # elsewhere, auto may find MNIST
        kept["data.source"] = "data.source=sample"
    return " ".join(map(shlex.quote, ["python", "-m", "mnist_mlp.train", *kept.values()]))


def decisive(given: Sequence[str]) -> dict[str, str]:
    """The overrides that say what a run is, by key."""
    keys = {override.lstrip("+~").partition("=")[0]: override for override in given}
    return {key: text for key, text in keys.items() if not key.startswith("hydra.") and key not in NOT_REPEATED}


def _given(job: Job) -> list[str] | None:
    if job.result is not None:
        return job.result.overrides
    folder = RunFolder(job.folder)
    try:
        found = folder.run() or folder.failure()
    except UnreadableFileError:
        return None
    return None if found is None else [str(one) for one in found["overrides"]]
