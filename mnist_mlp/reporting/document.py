"""The report for programs: the page's tables, intervals, verdicts and paths as one JSON document."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from mnist_mlp.compare.collect import Summary, row_label
from mnist_mlp.compare.consistency import choices
from mnist_mlp.compare.diagnosis import verdicts
from mnist_mlp.compare.effects import importances, main_effect
from mnist_mlp.compare.load import Job
from mnist_mlp.compare.tables import summary_rows, tested
from mnist_mlp.reporting.data import PageContext, caveats, lead
from mnist_mlp.reporting.elements import Table, command
from mnist_mlp.reporting.sections_study import reference_sections
from mnist_mlp.runs.files import JSON
from mnist_mlp.runs.folder import RunFolder

SCHEMA_VERSION = 1
FILES = ("report.html", "summary.csv", "summary.md", "runs.csv", "digits.csv", "means")


def report_document(paths: Sequence[Path], summary: Summary) -> JSON:
    """Return the document that docs/report.md describes; accuracies and differences are fractions."""
    context = PageContext(summary)
    judged = zip(context.run_ids, summary_rows(summary), verdicts(summary, context.curves), strict=True)
    return {
        "schema_version": SCHEMA_VERSION,
        "paths": [str(path) for path in paths],
        "files": [str(path / name) for path in paths for name in FILES if (path / name).exists()],
        "lead": " ".join(filter(None, [*chain(*lead(context)), caveats(summary)])),
        "notes": summary.notes,
        "ranked_by": summary.ranked_by,
        "varying": summary.keys,
        "cross_fitted_accuracy": summary.cross_fitted,
        "settings": [
            {
                "name": row_label(summary, verdict.row), "settings": verdict.row.settings, **columns,
                "diagnosis": verdict.verdict, "exceptions": verdict.exceptions, "runs": ids,
            }
            for ids, columns, verdict in judged
        ],
        "runs": [_run(job, name) for job, name in zip(context.jobs, context.run_names, strict=True)],
        "main_effects": [
            {"key": key, "dataset": title, "accuracies": main_effect(part.jobs, key, summary.ranked_by)}
            for title, part in summary.by_dataset.items()
            for key in part.keys
        ],
        "choices": [
            {
                "key": choice.key, "first": choice.first, "second": choice.second, "text": choice.text,
                "outcome": choice.outcome, "verdict": choice.verdict, "depends_on": choice.depends_on,
                "differences": [{"dataset": title, **tested(pair)} for title, pair in choice.differences.items()],
            }
            for choice in choices(summary)
        ],
        "importance": [vars(importance) for importance in importances(summary.jobs, summary.ranked_by)],
        "published": [
            {"title": part.title, "sentences": part.sentences, "header": table.header, "rows": table.rows}
            for part in reference_sections(summary)
            for table in [part.table or Table([], [])]
        ],
    }  # fmt: skip


def _run(job: Job, name: str) -> JSON:
    return {
        "name": name, "folder": str(job.folder), "status": job.status, "reason": job.reason,
        "note": RunFolder(job.folder).note(), "command": command(job), "result": job.result and job.result.to_json(),
    }  # fmt: skip
