"""The runs as the page's scripts read them: settings that vary, measures and thinned curves, in one JSON block."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mnist_mlp.analysis.collect import Job
from mnist_mlp.reporting.compared import Compared
from mnist_mlp.runs.curves import Curves
from mnist_mlp.runs.files import JSON, finite
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import short_names, value_text

CURVE_BYTES, BYTES_PER_POINT = 1_500_000, 7
"""What the curves of all runs may take in the page, and what a number takes."""
MOST_POINTS, FEWEST_POINTS = 100, 12
MEASURES: dict[str, str] = {
    "test/accuracy": "test accuracy (%)",
    "val/accuracy": "validation accuracy (%)",
    "test/f1_macro": "test F1 (macro)",
    "test/loss": "test loss",
    "val/loss": "validation loss",
    "parameters": "parameters",
    "fit_seconds": "fit time (s)",
    "epochs": "epochs",
    "best_epoch": "best epoch",
}
"""What a run is measured by, as axes name it. Accuracies are in percent."""


def runs_data(compared: Compared) -> JSON:
    """The content of the block `runs-data`: runs as in `Summary.jobs`, by their places there; groups best first.

    curves: by column of metrics.csv, with the epochs of the points where some were left out.
    """
    summary = compared.summary
    keys = [*summary.keys, *(["seed"] if summary.over_seeds else [])]
    points = points_per_curve(list(compared.curves.values()))
    order = _order(compared.jobs)
    group_of = [group for group, ids in enumerate(compared.run_ids) for _ in ids]
    runs = [
        {
            "id": place,
            "name": compared.run_names[place],
            "group": group_of[place],
            "status": job.status,
            "order": order[place],
            "settings": {key: plain_value(job.settings.get(key)) for key in keys},
            "measures": _measures(job.result) if job.result is not None else {},
            **thinned(compared.curves[job.folder], points),
        }
        for place, job in enumerate(compared.jobs)
    ]
    groups = [
        {"name": name or "all runs", "runs": ids, "best": row.best}
        for name, ids, row in zip(compared.group_names, compared.run_ids, summary.rows, strict=True)
    ]
    known = {key for run in runs for key, value in run["measures"].items() if value is not None}
    return {
        "runs": runs,
        "groups": groups,
        "settings": short_names(keys),
        "measures": {key: name for key, name in MEASURES.items() if key in known},
        "ranked_by": summary.ranked_by.replace("_", "/", 1),
    }


def points_per_curve(curves: Sequence[Curves]) -> int:
    """How many points of each curve the page can hold."""
    columns = sum(len(_columns(one)) for one in curves)
    return max(FEWEST_POINTS, min(MOST_POINTS, CURVE_BYTES // (BYTES_PER_POINT * max(columns, 1))))


def thinned(curves: Curves, most: int) -> JSON:
    """Evenly chosen epochs, first and last among them; numbers with four significant digits."""
    columns = _columns(curves)
    length = max((len(curves[name]) for name in columns), default=0)
    places = range(length) if length <= most else sorted({round(n * (length - 1) / (most - 1)) for n in range(most)})
    shown = {name: [_rounded(curves[name][place]) for place in places] for name in columns}
    return {"curves": shown} | ({"epochs": [place + 1 for place in places]} if length > most else {})


def as_block(name: str, content: Mapping[str, Any]) -> Markup:
    """A JSON block of the page: whatever text is in it, it ends where the block ends."""
    text = json.dumps(finite(content), separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup('<script type="application/json" id="{}">{}</script>').format(name, Markup(safe))


def plain_value(value: Any) -> float | str | bool:
    """A setting as the scripts know it: numbers and truth values as such, all else as text."""
    return value if isinstance(value, (bool, int, float)) else value_text(value)


def _columns(curves: Curves) -> list[str]:
    names = [name for name in curves if "/" in name or name == "lr"]
    return [name for name in names if any(map(math.isfinite, curves[name]))]


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _measures(result: RunResult) -> JSON:
    found: JSON = {name: result.metrics.get(name) for name in MEASURES if "/" in name}
    for name in found:
        if found[name] is not None:
            found[name] = round(100 * found[name], 4) if name.endswith("accuracy") else _rounded(found[name])
    return {
        **found,
        "parameters": result.parameters,
        "fit_seconds": _rounded(result.timing["fit_seconds"]),
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
    }


def _order(jobs: Sequence[Job]) -> list[int]:
    """The place of each run in the order in which they were started."""
    started = [_started(job.folder) for job in jobs]
    order = sorted(range(len(jobs)), key=lambda place: (started[place], str(jobs[place].folder)))
    rank = {place: number for number, place in enumerate(order)}
    return [rank[place] for place in range(len(jobs))]


def _started(folder: Path) -> float:
    for path in (RunFolder(folder).run_file, RunFolder(folder).result_file, RunFolder(folder).failure_file):
        try:
            return path.stat().st_mtime
        except OSError:
            continue
    return math.inf
