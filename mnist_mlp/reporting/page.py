"""The comparison page: any set of run folders as one self-contained HTML file."""

import base64
import gzip
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mnist_mlp.compare.collect import Summary, summarize
from mnist_mlp.compare.load import Job, find_jobs
from mnist_mlp.errors import UserError
from mnist_mlp.reporting import sections_charts as charts
from mnist_mlp.reporting import sections_run as run
from mnist_mlp.reporting import sections_tables as tables
from mnist_mlp.reporting.data import (
    PageContext,
    best_job,
    caveats,
    data_warning,
    facts,
    json_block,
    lead,
    runs_data,
    title_of,
)
from mnist_mlp.reporting.elements import Section, render
from mnist_mlp.reporting.sections_answer import answer
from mnist_mlp.reporting.sections_digits import digit_browser, digits_section
from mnist_mlp.reporting.sections_study import claim_verdicts, pair_section, question, reference_sections
from mnist_mlp.runs.files import read_content, write_text
from mnist_mlp.runs.folder import is_held

LIBRARY = Path(__file__).resolve().parent / "templates" / "vendor" / "echarts.min.js"
STYLES, SCRIPTS = ("style.css", "tables.css"), ("state.js", "page.js", "tabs.js", "tables.js", "paper.js")
"""Included in every page; sections add their own."""


def write_page(
    paths: Sequence[Path], target: Path, jobs: Sequence[Job] = (), summary: Summary | None = None, status: str = ""
) -> Path:  # fmt: skip
    """Write the comparison page of the runs in these folders.

    Args:
        paths: Run folders, or folders that contain runs.
        target: The HTML file, or an existing folder, in which report.html is written.
        jobs: The jobs in `paths`, if already loaded.
        summary: The summary of `jobs`, if already computed.
        status: Progress of a sweep that is running; the page then reloads itself until it is written without one.

    Returns:
        The path of the HTML file.

    Raises:
        UserError: The folders contain no runs.
    """
    jobs = jobs or find_runs(paths)
    if target.is_dir():
        target = target / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, render_page(jobs, title_of(paths, jobs), target.parent, summary, status))
    return target


def is_page(path: Path) -> bool:
    """Whether a file is a comparison page."""
    return b'id="runs-data"' in (read_content(path) or b"")


def find_runs(paths: Sequence[Path]) -> list[Job]:
    """Load the runs in these folders; unfinished runs locked by a live process get the status "running".

    Raises:
        UserError: The folders contain no runs.
    """
    jobs = find_jobs(paths)
    if not jobs:
        raise UserError(f"no runs in {', '.join(map(str, paths))}: pass run folders, or folders that contain runs")
    return [
        replace(job, status="running") if job.status == "unfinished" and is_held(job.folder) else job for job in jobs
    ]


def render_page(
    jobs: Sequence[Job], title: str, base: Path | None = None, summary: Summary | None = None, status: str = ""
) -> str:
    """Render the page as HTML. base: the folder that it is written to, from which links to run folders start."""
    context = PageContext(summarize(jobs) if summary is None else summary, base)
    pair = pair_section(jobs[0], jobs[1], context.names_of(jobs)) if len(jobs) == 2 else None
    sections = list(_build_sections(jobs, context, pair))
    styles = [*STYLES, *(name for section in sections for name in section.styles)]
    scripts, library = [name for section in sections for name in section.scripts], ""
    if kinds := [section.chart.kind for section in sections if section.chart]:
        scripts = ["charts.js", *(f"{kind}.js" for kind in kinds), *scripts]
        # gzip in base64: less than half the size, and parsed only after the first paint
        library = base64.b64encode(gzip.compress(LIBRARY.read_bytes(), mtime=0)).decode()
    return render(
        "report.html", title=title, warning=data_warning(jobs), facts=list(facts(jobs)),
        lead=[] if pair else lead(context), caveats=caveats(context.summary), question=question(context.summary),
        claims=claim_verdicts(context.summary), sections=sections, styles=dict.fromkeys(styles), library=library,
        scripts=dict.fromkeys([*SCRIPTS, *scripts, "reload.js"]), data=json_block("runs-data", runs_data(context)),
        status=status,
    )  # fmt: skip


def _build_sections(jobs: Sequence[Job], context: PageContext, pair: Section | None) -> Iterator[Section]:
    """The answer first, then what explains it; the rest in tabs."""
    summary = context.summary
    if len(context.jobs) == 1 and (job := context.jobs[0]).result is not None:
        yield run.key_metrics(job, context.curves[job.folder])
        shown = charts.learning_curves(context), run.classification_report(job), digit_browser(context)
        yield from filter(None, shown)
        yield from _tabs("More about this run", [run.mistakes(job), run.provenance(job, context)])
        return
    first = next((job for job in context.jobs if job.folder == jobs[0].folder and job.result), None)
    yield from filter(None, [pair or charts.search(context) or answer(context)])
    yield from _tabs("Published results", reference_sections(summary))
    yield from charts.two_factors(context)
    shown = charts.learning_curves(context), tables.comparison(context), tables.without_result(context)
    yield from filter(None, [*shown, digit_browser(context, first if len(jobs) == 2 else None)])
    for title, part in summary.by_dataset.items():
        on, own = f" on {title}" * bool(title), PageContext(part, context.base) if title else context
        yield from _tabs(f"Best run{on}", _dataset_sections(part, own), on)
    builds = charts.scatter_plot, charts.effects, charts.parallel, tables.diagnoses, tables.all_runs
    yield from _tabs("More about all runs", (build(context) for build in builds))


def _tabs(group: str, sections: Iterable[Section | None], dataset: str = "") -> Iterator[Section]:
    for section in filter(None, sections):
        name, colon, rest = section.title.partition(": ")
        yield replace(section, group=group, title=f"{name}{dataset}{colon}{rest}")


def _dataset_sections(summary: Summary, context: PageContext) -> Iterator[Section | None]:
    """The best run of one dataset, and its test images across all runs."""
    if best := best_job(summary):
        yield run.best_run(best, context)
        yield run.mistakes(best)
        yield run.classification_report(best)
    yield digits_section(summary)
