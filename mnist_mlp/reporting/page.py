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
from mnist_mlp.reporting import sections_charts as charts
from mnist_mlp.reporting import sections_run as single
from mnist_mlp.reporting import sections_tables as tables
from mnist_mlp.reporting.data import Compared, as_block, best_job, facts, lead, runs_data, sample_warning, title_of
from mnist_mlp.reporting.elements import Section
from mnist_mlp.reporting.sections_digits import digit_browser, digits_section
from mnist_mlp.reporting.sections_study import pair_section, reference_sections
from mnist_mlp.runs.files import write_text
from mnist_mlp.runs.folder import is_held

TEMPLATES = Path(__file__).resolve().parent / "templates"
STYLES, PRINT_STYLE = ("style.css", "tables.css"), "print.css"
SCRIPTS = ("page.js", "tables.js", "paper.js")
"""What every page needs; sections bring what they need beyond that."""
CHART_SCRIPT, LIBRARY = "charts.js", "echarts"
"""What pages with charts need."""


def write_page(
    paths: Sequence[Path], target: Path, jobs: Sequence[Job] = (), summary: Summary | None = None
) -> Path:  # fmt: skip
    """Write the page of the runs in these folders.

    Args:
        paths: Run folders, or folders that hold some.
        target: The page, or a folder that gets report.html.
        jobs: Of these folders, if they have been read already.
        summary: Of these jobs, likewise.

    Returns:
        The page.

    Raises:
        UserError: There is no run.
    """
    jobs = jobs or find_runs(paths)
    if target.is_dir():
        target = target / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, page(jobs, title_of(paths, jobs), target.parent, summary))
    return target


def find_runs(paths: Sequence[Path]) -> list[Job]:
    """The runs in these folders; UserError if one is not a folder, or if there is no run.

    An unfinished run whose folder a living process has locked has the status "running".
    """
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is not a folder: give run folders, or folders that hold some")
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
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    sections = list(_sections(jobs, compared))
    scripts = [name for section in sections for name in section.scripts]
    libraries = {}
    if kinds := [section.chart.kind for section in sections if section.chart]:
        scripts = [CHART_SCRIPT, *(f"{kind}.js" for kind in kinds), *scripts]
        # as gzip in base64: less than half as large, and not read before the page is painted
        content = (TEMPLATES / "vendor" / f"{LIBRARY}.min.js").read_bytes()
        libraries[LIBRARY] = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return environment.get_template("report.html").render(
        title=title,
        warning=sample_warning(jobs),
        facts=list(facts(jobs)),
        lead=lead(compared),
        sections=sections,
        data=as_block("runs-data", runs_data(compared)),
        styles=_sources([*STYLES, *(name for section in sections for name in section.styles)]),
        print_style=_sources([PRINT_STYLE])[0],
        libraries=libraries,
        scripts=_sources([*SCRIPTS, *scripts]),
    )


def _sources(names: Iterable[str]) -> list[Markup]:
    """The content of these files, each once; they are ours, so nothing in them is escaped."""
    return [Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in dict.fromkeys(names)]


def _sections(jobs: Sequence[Job], compared: Compared) -> Iterator[Section]:
    summary = compared.summary
    if len(compared.jobs) == 1 and (job := compared.jobs[0]).result is not None:
        yield single.headline(job, compared.curves[job.folder])
        optional = [charts.learning_curves(compared), digit_browser(compared), single.mistakes(job)]
        yield from filter(None, [*optional, single.scores(job), single.origin(job)])
        return
    yield tables.comparison(compared)
    a = next((job for job in compared.jobs if job.folder == jobs[0].folder and job.result), None)
    browser = digit_browser(compared, a if len(jobs) == 2 else None)
    if len(jobs) == 2:
        yield from filter(None, (pair_section(jobs[0], jobs[1], compared.names_of(jobs)), browser))
    yield from reference_sections(compared.jobs)
    for make in (
        charts.search, charts.learning_curves, charts.effects, charts.two_factors, charts.explorer, charts.parallel,
        tables.diagnoses, tables.not_finished, tables.every_run,
    ):  # fmt: skip
        if section := make(compared):
            yield section
    yield from filter(None, (browser if len(jobs) != 2 else None, digits_section(summary)))
    if best := best_job(summary):
        yield single.best_run(best, compared.names_of([best])[0], compared.path(best.folder))
        yield from filter(None, (single.mistakes(best, "Its most confident mistakes"), single.scores(best)))
