"""Command: evaluate a trained network on test, validation or training images, or several as an ensemble."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from mnist_mlp import __version__
from mnist_mlp.console import command, error_line
from mnist_mlp.datasets import QMNIST_TESTS
from mnist_mlp.runs.files import JSON, refuse_unwritable, write_json
from mnist_mlp.runs.result import classification_report, decimal, occurring_classes, percent
from mnist_mlp.startup import quick_start

if TYPE_CHECKING:
    from mnist_mlp.serve.evaluate import EnsembleEvaluation, Evaluation

DIFFERS = 3
"""Exit code if the evaluation of a run on test differs from its result.json."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.evaluate` and of the script `mnist-mlp-evaluate`."""
    options = build_parser().parse_args(arguments)
    with command() as output:
        output.announce_start()
        refuse_unwritable(options.json)
        content, is_reproduced = _evaluate_ensemble(options) if len(options.runs) > 1 else _evaluate_run(options)
        if options.json:
            write_json(options.json, content)
            print(options.json)
    if not is_reproduced:
        raise SystemExit(DIFFERS)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mnist_mlp.evaluate",
        description="Evaluate a trained network, or several and their ensemble (mean of log-probabilities).",
        epilog=f"Exit code: 0; 1 for an error; {DIFFERS} if the result on test differs from the run's result.json.",
    )
    add = parser.add_argument
    add("--version", action="version", version=f"mnist_mlp {__version__}")
    add("runs", nargs="+", metavar="RUN", help="run folder, checkpoint, name under outputs/ or latest; or several")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--split", choices=("test", "val", "train"), default="test", help="default: test")
    second = "second test of networks trained on MNIST: QMNIST's 50,000 new test images, or all 60,000"
    images.add_argument("--test", choices=QMNIST_TESTS, dest="split", default="test", help=second)
    add("--augment", type=int, default=0, metavar="N", help="also use test-time augmentation, N copies per image")
    add("--seed", type=int, default=0, metavar="N", help="seed of --augment; default: 0")
    add("--json", type=Path, metavar="FILE", help="also write all results as JSON")
    add("--data-root", metavar="FOLDER", help="folder with the official files; default: the run's data.root")
    add("--output", type=Path, metavar="FOLDER", help="folder for figures; default: evaluation/SPLIT in the run folder")
    add("--no-figures", action="store_true", help="write no figures")
    return parser


def _evaluate_run(options: argparse.Namespace) -> tuple[JSON, bool]:
    with quick_start():
        from mnist_mlp.compare.statistics import accuracy_interval, mcnemar
        from mnist_mlp.serve.evaluate import disagreements_with, evaluate_run
        from mnist_mlp.serve.nets import AUGMENTATION_CAPTION, locate
    net, split, root = locate(options.runs[0]), options.split, options.data_root
    # first, because it may be impossible
    augmented = evaluate_run(net, split, root, options.augment, options.seed) if options.augment else None
    plain = evaluate_run(net, split, root)
    print(f"{net.checkpoint}: {len(plain.truth):,} {plain.split} images ({plain.source})\n")
    print(classification_report(plain.confusion_matrix, plain.classes))
    for name, value in plain.metrics.items():
        print(f"  {name:<18} {percent(value) if name in ('accuracy', 'top2_accuracy') else decimal(value)}")
    content, result = plain.to_json(), net.result() if plain.split == "test" else None
    if plain.evaluations:
        content["accuracy_interval"] = low, high = accuracy_interval(plain.correct)
        print(f"  {'95 % interval':<18} {100 * low:.2f} to {100 * high:.2f} %, over images, not seeds")
    differences = disagreements_with(result, plain) if result else []
    if result:
        content["same_as_result"] = not differences
        message = f"DIFFERS from result.json: {'; '.join(differences)}" if differences else "Equal to result.json."
        print(f"\n  {message}")
    if augmented:
        content["augmented"] = {"seed": options.seed, **augmented.to_json()}
        test = mcnemar(plain.correct.tolist(), augmented.correct.tolist())
        print(
            f"\n{AUGMENTATION_CAPTION.format(options.augment)}\n"
            f"  accuracy           {percent(augmented.metrics['accuracy'])}, {(~augmented.correct).sum()} incorrect "
            f"({test.only_second} correct only with it, {test.only_first} only without; p = {test.p_value:.2g})"
        )
    if plain.evaluations:
        print(f"\n  Test evaluations of this run: {plain.evaluations}")
    if not options.no_figures:
        try:
            write_figures(plain, options.output or net.home / "evaluation" / plain.split, "  ")
        except OSError as error:
            if options.output:
                raise
            print(f"  No figures: {error_line(error)}; use --output FOLDER")
    return content, not differences


def _evaluate_ensemble(options: argparse.Namespace) -> tuple[JSON, bool]:
    with quick_start():
        from mnist_mlp.compare.statistics import accuracy_interval
        from mnist_mlp.serve.evaluate import are_seeds, evaluate_ensemble
        from mnist_mlp.serve.nets import AUGMENTATION_CAPTION, locate
    nets = [locate(run) for run in options.runs]
    split, root = options.split, options.data_root
    augmented = evaluate_ensemble(nets, split, root, options.augment, options.seed) if options.augment else None
    evaluation = evaluate_ensemble(nets, split, root)
    ensemble, test = evaluation.ensemble, evaluation.against_best
    print(f"{len(ensemble.truth):,} {ensemble.split} images ({ensemble.source})\n")
    print(ensemble_table(evaluation))
    print(
        f"\nMcNemar's exact test, ensemble vs best member {evaluation.best.name}:\n  {test.only_second} images "
        f"correct only by the ensemble, {test.only_first} only by the member; p = {test.p_value:.2g}"
    )
    content = evaluation.to_json()
    if evaluation.best.evaluations and are_seeds(nets):
        content["accuracy_interval"] = low, high = accuracy_interval([member.correct for member in evaluation.members])
        mean = fmean(member.metrics["accuracy"] for member in evaluation.members)
        print(
            f"Mean accuracy of the {len(nets)} seeds: {percent(mean)},\n  95 % interval {100 * low:.2f} to "
            f"{100 * high:.2f} %, over seeds and images"
        )
    if augmented:
        content["augmented"] = {"views": options.augment, "seed": options.seed, **augmented.to_json()}
        print(f"\n{AUGMENTATION_CAPTION.format(options.augment)}\n{ensemble_table(augmented)}")
    for text in dict.fromkeys(member.evaluations for member in evaluation.members if member.evaluations):
        names = [member.name for member in evaluation.members if member.evaluations == text]
        who = ", ".join(names) if len(names) < len(evaluation.members) else "each net"
        print(f"Test evaluations of {who}: {text}")
    if options.output and not options.no_figures:
        write_figures(ensemble, options.output)
    return content, True


def ensemble_table(evaluation: "EnsembleEvaluation") -> str:
    """Format the metrics of members and ensemble, one line each."""
    rows = [*evaluation.members, evaluation.ensemble]
    lines = [f"{'accuracy':>10} {'macro F1':>9} {'loss':>8} {'calib. error':>13} {'incorrect':>9}  net"]
    for row in rows:
        metrics = row.metrics
        lines.append(
            f"{percent(metrics['accuracy']):>10} {decimal(metrics['f1_macro']):>9} {decimal(metrics['loss']):>8} "
            f"{decimal(metrics['calibration_error']):>13} {(~row.correct).sum():>9}  {row.name}"
        )
    return "\n".join([*lines[:-1], "", lines[-1]])


def write_figures(evaluation: "Evaluation", folder: Path, indent: str = "") -> None:
    """Write the figures, and print their paths."""
    import numpy as np

    from mnist_mlp.plots import run as plots
    from mnist_mlp.runs.files import write_bytes

    split, truth = evaluation.split, evaluation.truth
    title = f"{split} accuracy {percent(evaluation.metrics['accuracy'])}"
    probabilities = np.nan_to_num(evaluation.probabilities)
    matrix, classes = np.array(evaluation.confusion_matrix), evaluation.classes
    labels = occurring_classes(evaluation.confusion_matrix)
    figures = {
        "confusion_matrix": plots.confusion(matrix, f"Confusion matrix, {title}", classes=classes),
        "f1_per_class": plots.class_bars(evaluation.per_class["f1"], split, labels, classes),
        "calibration": plots.calibration(
            truth, probabilities, f"Calibration on {split}", classes, evaluation.metrics["calibration_error"]
        ),
        "mistakes": plots.mistakes(
            evaluation.images, truth, probabilities, evaluation.indices, f"{evaluation.name}, {split}", classes
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.png", plots.png(figure))
        print(f"{indent}{folder / name}.png")


if __name__ == "__main__":
    main()
