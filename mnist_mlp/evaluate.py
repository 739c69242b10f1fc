"""Command: evaluate a trained net on test, validation or training images; several nets as a committee."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_mlp import __version__
from mnist_mlp.console import command
from mnist_mlp.runs.files import JSON, refuse_unwritable, write_json
from mnist_mlp.runs.result import classification_report, decimal, percent
from mnist_mlp.startup import quick_start

if TYPE_CHECKING:
    from mnist_mlp.serve.evaluate import CommitteeEvaluation, Evaluation

RUN_HELP = "run folder, checkpoint, name under outputs/, or latest"
DIFFERS = 3
"""Exit code where a run's test is not what its result.json says."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `python -m mnist_mlp.evaluate` and of the script `mnist-mlp-evaluate`."""
    given = parser().parse_args(arguments)
    with command():
        refuse_unwritable(given.json)
        content, same = _committee(given) if len(given.runs) > 1 else _single(given)
        if given.json:
            write_json(given.json, content)
            print(given.json)
    if not same:
        raise SystemExit(DIFFERS)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m mnist_mlp.evaluate",
        description="Evaluate a trained net, or several and their committee (the mean of their log-probabilities).",
        epilog=f"Exit code: 0; 1 for an error, in one line; {DIFFERS} where a test is not what result.json says.",
    )
    made.add_argument("--version", action="version", version=f"mnist_mlp {__version__}")
    made.add_argument("runs", nargs="+", metavar="RUN", help=f"{RUN_HELP}; several make a committee")
    made.add_argument("--split", choices=("test", "val", "train"), default="test", help="default: test")
    made.add_argument(
        "--augment",
        type=int,
        default=0,
        metavar="N",
        help="also with N distorted views of each image, drawn as in training at half the strength, by --seed",
    )
    made.add_argument("--seed", type=int, default=0, metavar="N", help="of the views; default: 0")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, too")
    made.add_argument(
        "--data-root", metavar="FOLDER", help="where the official files are; default: the run's data.root"
    )
    made.add_argument(
        "--output", type=Path, metavar="FOLDER", help="for figures; default: evaluation/<split> in the run folder"
    )
    made.add_argument("--no-figures", action="store_true", help="draw none")
    return made


def _single(given: argparse.Namespace) -> tuple[JSON, bool]:
    with quick_start():
        from mnist_mlp.serve.evaluate import disagreements_with, evaluate_net
        from mnist_mlp.serve.nets import locate
    net, views = locate(given.runs[0]), (given.augment, given.seed)
    found = evaluate_net(net, given.split, given.data_root)
    print(f"{net.checkpoint}: {len(found.truth):,} {found.split} images ({found.source})\n")
    print(classification_report(found.confusion_matrix))
    print("\n".join(f"  {name:<18} {value}" for name, value in _metric_rows(found)))
    content, own = found.to_json(), net.result() if found.split == "test" else None
    different = disagreements_with(own, found) if own else []
    if own:
        content["same_as_result"] = not different
        print(
            f"\n  DIFFERS from its result.json: {'; '.join(different)}"
            if different
            else "\n  Equal to its result.json."
        )
    if given.augment:
        content["augmented"] = _with_views(found, evaluate_net(net, given.split, given.data_root, *views), given.seed)
    if not given.no_figures:
        folder = given.output or net.home / "evaluation" / found.split
        print("\n".join(f"  {path}" for path in write_figures(found, folder)))
    return content, not different


def _committee(given: argparse.Namespace) -> tuple[JSON, bool]:
    with quick_start():
        from mnist_mlp.serve.evaluate import evaluate_committee
    found = evaluate_committee(given.runs, given.split, given.data_root)
    together = found.committee
    print(f"{len(together.truth):,} {together.split} images ({together.source})\n")
    print(committee_table(found))
    test = found.against_best
    print(
        f"\nMcNemar's exact test, the committee against its best member {found.best.name}: {test.only_second} images "
        f"only the committee has right, {test.only_first} only the member; p = {test.p_value:.2g}"
    )
    content = found.to_json()
    if given.augment:
        viewed = evaluate_committee(given.runs, given.split, given.data_root, given.augment, given.seed)
        content["augmented"] = {"views": given.augment, "seed": given.seed, **viewed.to_json()}
        print(f"\n{_views(given.augment)}\n{committee_table(viewed)}")
    if given.output and not given.no_figures:
        print("\n".join(map(str, write_figures(together, given.output))))
    return content, True


def _with_views(plain: "Evaluation", viewed: "Evaluation", seed: int) -> JSON:
    """Print what distorted views change; the figures with them."""
    from mnist_mlp.compare.statistics import mcnemar

    test = mcnemar(plain.right.tolist(), viewed.right.tolist())
    wrong = int((~viewed.right).sum())
    print(
        f"\n{_views(viewed.views)}\n  accuracy           {percent(viewed.metrics['accuracy'])}, {wrong} wrong "
        f"({test.only_second} only right with the views, {test.only_first} only without; p = {test.p_value:.2g})"
    )
    return {"seed": seed, **viewed.to_json()}


def _views(count: int) -> str:
    from mnist_mlp.serve.nets import STRENGTH

    return (
        f"Mean of the log-probabilities of each image and of {count} distorted views of it "
        f"({100 * STRENGTH:.0f} % of the strength in training):"
    )


def committee_table(found: "CommitteeEvaluation") -> str:
    """Members and committee, a line each."""
    rows = [*found.members, found.committee]
    width = max(len(row.name) for row in rows)
    lines = [f"{'':<{width}} {'accuracy':>10} {'macro F1':>9} {'loss':>8} {'calibr. error':>13} {'wrong':>6}"]
    for row in rows:
        metrics, wrong = row.metrics, int((~row.right).sum())
        lines.append(
            f"{row.name:<{width}} {percent(metrics['accuracy']):>10} {decimal(metrics['f1_macro']):>9} "
            f"{decimal(metrics['loss']):>8} {decimal(metrics['calibration_error']):>13} {wrong:>6}"
        )
    return "\n".join([*lines[:-1], "", lines[-1]])


def write_figures(found: "Evaluation", folder: Path) -> list[Path]:
    """confusion_matrix.png, f1_per_class.png, calibration.png and mistakes.png of an evaluation; their paths."""
    import numpy as np

    from mnist_mlp.plots import run as plots
    from mnist_mlp.runs.files import write_bytes

    title = f"{found.split} accuracy {percent(found.metrics['accuracy'])}"
    probabilities = np.nan_to_num(found.probabilities)
    figures = {
        "confusion_matrix": plots.confusion(np.array(found.confusion_matrix), f"Confusion matrix, {title}"),
        "f1_per_class": plots.class_bars(found.per_class["f1"], f"F1 of each digit on {found.split}"),
        "calibration": plots.calibration(found.truth, probabilities, f"Calibration on {found.split}"),
        "mistakes": plots.mistakes(
            found.images, found.truth, probabilities, found.indices, f"{found.name}, {found.split}"
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        write_bytes(paths[-1], plots.png(figure))
    return paths


def _metric_rows(found: "Evaluation") -> list[tuple[str, str]]:
    shown = {"accuracy": percent, "top2_accuracy": percent}
    return [(name, shown.get(name, decimal)(value)) for name, value in found.metrics.items()]


if __name__ == "__main__":
    main()
