"""Published figures against measured ones: the sections of a report on runs that repeat a study. Imports no torch."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from mnist_mlp.compare import Interval, paired_difference
from mnist_mlp.section import Section, Table
from mnist_mlp.summary import interval_text
from mnist_mlp.sweeps import Job

POINT = 0.01
NOTHING_LEARNT = 0.2
"""Test accuracy under which a net has learnt next to nothing; guessing has 0.1."""
Runs = Mapping[str, Sequence[Job]]


def published(jobs: Sequence[Job]) -> Iterator[Section]:
    """Sections on the runs whose settings name a published result; none where there is no such run."""
    runs: dict[str, list[Job]] = {}
    for job in jobs:
        if (name := job.settings.get("reference.id")) and job.result is not None:
            runs.setdefault(name, []).append(job)
    if not runs:
        return
    yield _accuracies(runs)
    scored = {name: members for name, members in runs.items() if members[0].settings.get("reference.f1_per_class")}
    if scored:
        yield _class_scores(scored)
    for name, members in runs.items():
        if members[0].settings.get("reference.precision_per_class"):
            yield _report(name, members)
    verdicts = [sentence for claim in CLAIMS if (sentence := claim(runs))]
    if verdicts:
        yield Section("The study's claims, decided by these runs", sentences=verdicts)


def agreement(measured: Sequence[float], published: float) -> str:
    """How near the mean of the measured accuracies comes to a published one."""
    gap = abs(statistics.fmean(measured) - published)
    if len(measured) > 1 and gap <= statistics.stdev(measured):
        return "within one standard deviation"
    return "within 1 point" if gap <= POINT else "off"


def accuracies(jobs: Sequence[Job]) -> dict[int, float]:
    """Test accuracy by seed."""
    return {job.seed: job.result["metrics"]["test/accuracy"] for job in jobs if job.result is not None}


def _accuracies(runs: Runs) -> Section:
    header = ["result", "published %", "measured %", "n", "difference", "agreement", "inferred settings"]
    rows, marks = [], []
    for name, jobs in runs.items():
        settings, own = jobs[0].settings, list(accuracies(jobs).values())
        stated = settings.get("reference.test_accuracy")
        verdict = "no number published" if stated is None else agreement(own, stated)
        gap = "-" if stated is None else f"{100 * (statistics.fmean(own) - stated):+.2f}"
        inferred = ", ".join(f"{key}={settings.get(key)}" for key in settings.get("reference.inferred") or [])
        known = "-" if stated is None else f"{100 * stated:.2f}"
        rows.append([name, known, _spread(own), str(len(own)), gap, verdict, inferred])
        marks.append("bad" if verdict == "off" else "")
    sources = dict.fromkeys(str(jobs[0].settings.get("reference.source")) for jobs in runs.values())
    notes = [
        f"Published in: {'; '.join(sources)}. Test accuracy: mean ± standard deviation over n seeds;"
        " differences in points.",
        "Inferred settings are not stated in the publication.",
    ]
    return Section("Published against measured", table=Table(header, rows, marks, frozenset({1, 2, 3, 4})), notes=notes)


def _class_scores(runs: Runs) -> Section:
    rows = []
    for name, jobs in runs.items():
        stated, own = jobs[0].settings["reference.f1_per_class"], _per_class(jobs, "f1")
        rows.append([name, "published", *(f"{value:.4f}" for value in stated)])
        rows.append(["", "measured", *(f"{value:.4f}" for value in own)])
        rows.append(["", "difference", *(f"{mine - its:+.4f}" for mine, its in zip(own, stated, strict=True))])
    table = Table(["result", "F1", *map(str, range(10))], rows, numeric=frozenset(range(2, 12)))
    return Section("F1 of each digit, published against measured", table=table, notes=["Measured: mean over seeds."])


def _report(name: str, jobs: Sequence[Job]) -> Section:
    header = ["digit"] + [
        f"{score} {kind}" for score in ("precision", "recall", "F1") for kind in ("published", "measured")
    ]
    columns = []
    for score in ("precision", "recall", "f1"):
        stated = jobs[0].settings[f"reference.{score}_per_class"]
        columns += [[f"{value:.2f}" for value in stated], [f"{value:.2f}" for value in _per_class(jobs, score)]]
    rows = [[str(digit), *(column[digit] for column in columns)] for digit in range(10)]
    title = f"Classification report of {name}, published against measured"
    return Section(
        title, table=Table(header, rows, numeric=frozenset(range(1, 7))), notes=["Measured: mean over seeds."]
    )


def _per_class(jobs: Sequence[Job], score: str) -> list[float]:
    runs = [job.result["per_class"][score] for job in jobs if job.result is not None]
    return [statistics.fmean(column) for column in zip(*runs, strict=True)]


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * statistics.fmean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def _against(claim: str, better: str, worse: str) -> Callable[[Runs], str | None]:
    """A claim that one result beats another, decided by the paired interval of their test accuracies."""

    def decide(runs: Runs) -> str | None:
        if better not in runs or worse not in runs:
            return None
        gap = paired_difference(accuracies(runs[better]), accuracies(runs[worse]))
        if gap is None:
            return None
        return f"{claim}: {_decision(gap)} ({better} against {worse}: {interval_text(gap)} points, n={gap.n})."

    return decide


def _decision(gap: Interval) -> str:
    if gap.low is None:
        return (
            "one seed cannot tell, but it points that way"
            if gap.mean > 0
            else "one seed cannot tell, and it points the other way"
        )
    if gap.covers_zero:
        return "not confirmed, the interval covers zero"
    return "confirmed" if gap.mean > 0 else "contradicted"


def _too_high(runs: Runs) -> str | None:
    if "too_high" not in runs:
        return None
    best = max(accuracies(runs["too_high"]).values())
    decision = "confirmed" if best < NOTHING_LEARNT else "contradicted"
    return f"Too high a learning rate learns nothing: {decision} (too_high: at most {100 * best:.2f} % over its seeds)."


def _depth_costs_time(runs: Runs) -> str | None:
    depths = {name: jobs for name, jobs in runs.items() if name.startswith("depth_")}
    if len(depths) < 2:
        return None
    cost = {
        int(jobs[0].settings["model.hidden_layers"]): statistics.median(
            job.result["timing"]["epoch_seconds"] for job in jobs if job.result is not None
        )
        for jobs in depths.values()
    }
    ordered = [cost[depth] for depth in sorted(cost)]
    decision = "confirmed" if ordered == sorted(ordered) else "not confirmed: the times do not rise steadily"
    shown = ", ".join(f"{depth} layers {cost[depth]:.2f} s" for depth in sorted(cost))
    return f"More layers cost time: {decision} (median time to train an epoch: {shown})."


def _device_time(runs: Runs) -> str | None:
    seconds: dict[str, list[float]] = {}
    for jobs in runs.values():
        for job in jobs:
            if job.result is not None:
                kind = str(job.settings["trainer.accelerator"])
                seconds.setdefault(kind, []).append(job.result["timing"]["epoch_seconds"])
    shown = ", ".join(f"{kind} {statistics.median(values):.2f} s" for kind, values in seconds.items())
    only = "" if len(seconds) > 1 else "; the other kind of device was not at hand"
    return f"CPU against GPU, median time to train an epoch: {shown}{only}."


CLAIMS: tuple[Callable[[Runs], str | None], ...] = (
    _against("Normalising the inputs helps", "normalized", "raw"),
    _against("A higher learning rate and more epochs help", "fast", "slow"),
    _too_high,
    _against("Half the training data costs accuracy", "fast", "half"),
    _depth_costs_time,
    _device_time,
)
