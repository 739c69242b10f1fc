"""The comparison as a booktabs table and in Markdown."""

import re
from collections.abc import Sequence

from mnist_mlp.analysis.collect import Row, told_apart_by
from mnist_mlp.analysis.summary import interval_text, mean_and_deviation, reading_note
from mnist_mlp.reporting.publication.study import Study

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "★": r"$\star$",
}  # fmt: skip
MOST_KEYS = 3
"""Of more settings that vary, names and values share a column."""
PREVIEW = r"""\documentclass{article}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs}
\begin{document}
\input{table}
\end{document}
"""


def escape(text: str) -> str:
    """Text as LaTeX shows it, a minus sign before numbers; letters that plain LaTeX may lack become a question mark."""
    signs = "".join(SPECIAL.get(letter, letter if letter.isascii() else "?") for letter in text)
    return re.sub(r"(?<![\w.-])-(?=\d)", "$-$", signs)


def _columns(study: Study) -> dict[str, str]:
    """Name and key of a column for each setting that varies; where they are many, one column without a key."""
    named = told_apart_by(study.summary)
    return {name: key for key, name in named.items()} if 0 < len(named) <= MOST_KEYS else {"setting": ""}


def header(study: Study) -> list[str]:
    """Column names of the comparison."""
    return [*_columns(study), "n", *_validation(study), "test %", "seeds", "seeds and images", "verdict"]


def _validation(study: Study) -> list[str]:
    """The column of validation accuracy, where a run has one."""
    return ["validation %"] if any(row.values["val_accuracy"] for row in study.summary.rows) else []


def cells(study: Study, row: Row) -> list[str]:
    """A row of the comparison as text."""
    found = row.comparison
    return [
        *(study.summary.shown_value(row, key) for key in _columns(study).values() if key),
        *([] if all(_columns(study).values()) else [study.label(row)]),
        str(len(row.values["test_accuracy"])),
        *(mean_and_deviation(row.values["val_accuracy"]) for _ in _validation(study)),
        mean_and_deviation(row.values["test_accuracy"]),
        interval_text(found.seeds if found else None),
        interval_text(found.images if found else None),
        _verdict(row),
    ]


def _verdict(row: Row) -> str:
    if row.best:
        return "best"
    found = row.comparison
    if found is None or found.p_value is None:
        return "-"
    if found.distinct:
        return ("worse" if found.decisive.mean < 0 else "better") + f" ({_p(found.p_value)})"
    seen = found.resolvable
    return "not distinguishable" + (f" ({100 * seen:.2f})" if seen is not None and seen < 1 else "")


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.4f}"


def caption(study: Study) -> str:
    """What the table shows, and how to read it."""
    seeds = len(study.best_row.values["test_accuracy"])
    chosen = "validation" if study.summary.ranked_by == "val_accuracy" else "test"
    text = f"Accuracy in percent, mean ± standard deviation over n seeds; best (n = {seeds}) by {chosen} accuracy."
    compared = [row.comparison for row in study.summary.rows if row.comparison is not None]
    if not compared:
        return text
    family = max(one.comparisons for one in compared)
    return (
        f"{text} Differences to the best in points of test accuracy with single 95 % intervals over seeds, and over"
        f" seeds and images. Verdicts at the 5 % level, corrected by Holm's method for {family} comparisons; in"
        " brackets the corrected p-value, or the smallest difference that is resolved with power 0.8, in points."
    )


def as_latex(study: Study) -> str:
    """A table environment for booktabs; comments name the run folders behind each row."""
    before = len(_columns(study)) + 2 + len(_validation(study))
    longest = max(len(study.label(row)) for row in study.summary.rows)
    first = "l" * len(_columns(study)) if all(_columns(study).values()) or longest < 24 else "p{3.6cm}"
    lines = [
        "% needs \\usepackage{booktabs}", "\\begin{table}[htbp]",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{4pt}\\setlength{\\belowcaptionskip}{6pt}",
        f"\\caption{{{escape(caption(study))}}}", "\\label{tab:comparison}",
        f"\\begin{{tabular}}{{{first}{'r' * (before - len(_columns(study)) + 2)}l}}", "\\toprule",
        f"{' & ' * before}\\multicolumn{{2}}{{c}}{{difference to the best over}} & \\\\",
        f"\\cmidrule(lr){{{before + 1}-{before + 2}}}", _latex_row(header(study)), "\\midrule",
    ]  # fmt: skip
    for row in study.summary.rows:
        lines += [f"% {job.folder}" for job in row.jobs]
        text = [escape(cell) for cell in cells(study, row)]
        lines.append(" & ".join(f"\\textbf{{{cell}}}" if row.best else cell for cell in text) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _latex_row(texts: Sequence[str]) -> str:
    return " & ".join(map(escape, texts)) + " \\\\"


def as_markdown(study: Study) -> str:
    """The same table, with the run folders behind each row."""
    names = header(study)
    names[-3:-1] = ["difference over seeds", "difference over seeds and images"]
    rows = [[*cells(study, row), ", ".join(job.folder.name for job in row.jobs)] for row in study.summary.rows]
    lines = [[*names, "runs"], ["---"] * (len(names) + 1), *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table}\n\n{caption(study)}\n\n{reading_note(study.summary).replace('* best', 'Best', 1)}\n"
