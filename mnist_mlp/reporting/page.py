"""The report page of any set of run folders: one self-contained HTML file."""

import base64
import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mnist_mlp.compare.collect import Job, Summary, find_jobs, summarize
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.data import (
    Compared,
    as_block,
    best_job,
    best_run,
    facts,
    lead,
    runs_data,
    sample_warning,
    title_of,
)
from mnist_mlp.reporting.elements import Section
from mnist_mlp.reporting.sections_charts import (
    digit_scores,
    effects,
    explorer,
    learning_curves,
    parallel,
    search,
    two_factors,
)
from mnist_mlp.reporting.sections_digits import digit_browser, digits_section
from mnist_mlp.reporting.sections_run import headline, mistakes, network, origin, scores
from mnist_mlp.reporting.sections_study import pair_section, reference_sections
from mnist_mlp.reporting.sections_tables import comparison, diagnoses, every_run, not_finished
from mnist_mlp.runs.files import write_text
from mnist_mlp.runs.folder import is_held

TEMPLATES = Path(__file__).resolve().parent / "templates"
STYLES = ("style.css", "tables.css")
PRINT_STYLE = "print.css"
SCRIPTS = ("page.js", "tables.js", "paper.js")
"""What every page needs; sections bring what they need beyond that."""


def write_page(
    paths: Sequence[Path], target: Path, jobs: Sequence[Job] = (), summary: Summary | None = None
) -> Path:  # fmt: skip
    """Write the page of the runs in these folders to `target` and return it; UserError where there is no run.

    target: a folder gets report.html. jobs, summary: of these folders, where they have been read already.
    """
    jobs = jobs or find_runs(paths)
    if target.is_dir():
        target = target / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, page(jobs, title_of(paths, jobs), target.parent, summary))
    return target


def find_runs(paths: Sequence[Path]) -> list[Job]:
    """The runs in these folders; UserError where one is no folder, or where there is no run.

    An unfinished run whose folder a living process has locked has the status "running".
    """
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is no folder: give run folders, or folders that hold some")
    jobs = find_jobs(paths)
    if not jobs:
        raise UserError(f"no runs in {', '.join(map(str, paths))}: give run folders, or folders that hold some")
    return [
        replace(job, status="running") if job.status == "unfinished" and is_held(job.folder) else job for job in jobs
    ]


def page(jobs: Sequence[Job], title: str, base: Path | None = None, summary: Summary | None = None) -> str:
    """The page as HTML. base: the folder it will be in, for links to the run folders; summary: of these runs."""
    compared = Compared(summarize(jobs) if summary is None else summary, base)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = list(_sections(jobs, compared))
    return environment.get_template("report.html").render(
        title=title,
        warning=sample_warning(jobs),
        facts=list(facts(jobs)),
        lead=lead(compared),
        sections=sections,
        data=as_block("runs-data", runs_data(compared)),
        styles=_sources([*STYLES, *(name for section in sections for name in section.styles)]),
        print_style=_sources([PRINT_STYLE])[0],
        libraries=dict(_packed(name for section in sections for name in section.libraries)),
        scripts=_sources([*SCRIPTS, *(name for section in sections for name in section.scripts)]),
    )


def _sources(names: Iterable[str]) -> list[Markup]:
    """The content of these files, each once; they are ours, so nothing in them is escaped."""
    return [Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in dict.fromkeys(names)]


def _packed(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Libraries as gzip in base64, by name: less than half as large, and not read before the page is painted."""
    for name in dict.fromkeys(names):
        content = gzip.compress((TEMPLATES / "vendor" / f"{name}.min.js").read_bytes(), mtime=0)
        yield name, base64.b64encode(content).decode()


def _sections(jobs: Sequence[Job], compared: Compared) -> Iterator[Section]:
    summary = compared.summary
    if len(compared.jobs) == 1 and compared.jobs[0].result is not None:
        yield from _single(compared.jobs[0], compared)
        return
    yield comparison(compared)
    a = next((job for job in compared.jobs if job.folder == jobs[0].folder and job.result), None)
    browser = digit_browser(compared, a if len(jobs) == 2 else None)
    if len(jobs) == 2:
        yield from filter(None, (pair_section(jobs[0], jobs[1], compared.names_of(jobs)), browser))
    yield from reference_sections(compared.jobs)
    made = (search, learning_curves, effects, two_factors, explorer, parallel, diagnoses, not_finished, every_run)
    yield from filter(None, (make(compared) for make in made))
    if len(summary.rows) > 1 and (by_digit := digit_scores(compared)):
        yield by_digit
    if browser and len(jobs) != 2:
        yield browser
    if digits := digits_section(summary):
        yield digits
    if best := best_job(summary):
        shown = best_run(best, compared.names_of([best])[0], compared.path(best.folder))
        yield from filter(None, (shown, mistakes(best, "Its most confident mistakes"), scores(best)))


def _single(job: Job, compared: Compared) -> Iterator[Section]:
    """The sections on one finished run."""
    yield headline(job, compared.curves[job.folder])
    found = (learning_curves(compared), digit_browser(compared), mistakes(job), scores(job), network(job), origin(job))
    yield from filter(None, found)
