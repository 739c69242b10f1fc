"""What a user probably meant: our keys for misspelt ones, and for those of Keras, Lightning and scikit-learn."""

import difflib

from mnist_mlp.config import Config, options
from mnist_mlp.presets import groups

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "trainer.max_epochs": ("epochs", "n_epochs", "num_epochs", "max_iter", "nb_epoch"),
    "optim.lr": ("learning_rate", "learning_rate_init", "base_lr", "max_lr", "eta", "eta0", "step_size"),
    "optim.name": ("optimizer", "optimiser", "solver", "opt"),
    "optim.schedule": ("scheduler", "lr_scheduler", "lr_schedule", "learning_rate_schedule", "decay_schedule"),
    "optim.momentum": ("beta1", "beta_1", "betas"),
    "optim.weight_decay": ("alpha", "l2", "wd", "decay", "l2_regularization"),
    "optim.label_smoothing": ("smoothing",),
    "optim.teacher": ("distill", "distillation", "teacher_path", "teacher_model"),
    "optim.vat": ("vat_eps", "adversarial", "virtual_adversarial"),
    "data.batch_size": ("bs", "batch", "minibatch", "minibatch_size", "train_batch_size"),
    "data.root": ("data_dir", "data_path", "data_root", "dataset_dir", "path", "download_root"),
    "data.subset": ("train_size", "fraction", "limit_train_batches", "overfit_batches"),
    "data.val_size": ("validation_split", "validation_fraction", "val_split", "val_fraction", "validation_size"),
    "data.normalization": ("normalize", "normalise", "normalisation", "scaling", "transform", "preprocessing"),
    "model.hidden_units": (
        *("hidden_layer_sizes", "units", "hidden_size", "hidden_sizes", "hidden_dim", "hidden_dims", "width"),
        *("widths", "n_units", "neurons", "layer_sizes"),
    ),
    "model.hidden_layers": ("layers", "num_layers", "n_layers", "depth", "num_hidden_layers", "n_hidden"),
    "model.dropout": ("dropout_rate", "drop_rate", "dropout_prob", "p_dropout"),
    "model.batch_norm": ("batchnorm", "bn", "batch_normalization", "use_batch_norm", "norm"),
    "model.activation": ("act", "activation_fn", "nonlinearity"),
    "augment.rotation": ("rotation_range", "rotate", "degrees", "random_rotation"),
    "augment.translate": ("width_shift_range", "height_shift_range", "shift", "translation"),
    "augment.scale": ("zoom_range", "zoom"),
    "augment.shear": ("shear_range",),
    "trainer.accelerator": ("device", "gpu", "cuda", "use_gpu", "use_cuda", "gpus"),
    "trainer.devices": ("num_gpus", "n_gpus", "num_devices", "world_size"),
    "trainer.precision": ("dtype", "amp", "mixed_precision", "fp16", "bf16"),
    "trainer.threads": ("num_threads", "n_threads", "num_workers", "workers", "n_jobs", "cpus"),
    "trainer.early_stopping": ("patience", "n_iter_no_change", "early_stop"),
    "trainer.compile": ("jit", "jit_compile", "torch_compile"),
    "trainer.progress": ("verbose", "enable_progress_bar", "progress_bar", "quiet"),
    "trainer.figures": ("plots", "plot"),
    "seed": ("random_state", "random_seed", "seed_everything", "rng"),
    "name": ("run_name", "experiment_name", "exp_name", "output", "out_dir", "output_dir", "run"),
    "resume": ("ckpt_path", "checkpoint", "resume_from", "resume_from_checkpoint", "ckpt"),
    "experiment": ("preset", "recipe"),
}
"""Our keys, and what other libraries call them."""


def suggest(key: str) -> str:
    """The message for an unknown key, with the key that was probably meant."""
    meant = likely_key(key)
    return f"unknown key {key}: {f'did you mean {meant}? ' if meant else ''}--help lists every key"


def likely_key(key: str) -> str | None:
    """The known key that was probably meant; None where nothing is near."""
    known = [name for name, _, _ in options(Config())]
    last = key.rpartition(".")[2].lower()
    if same := [name for name in known if name.rpartition(".")[2] == last]:
        return same[0]
    for ours, theirs in OTHER_NAMES.items():
        if last in theirs:
            return ours
    if near := difflib.get_close_matches(key, known + groups(), n=1):
        return near[0]
    if near := difflib.get_close_matches(last, [name.rpartition(".")[2] for name in known], n=1, cutoff=0.75):
        return next(name for name in known if name.rpartition(".")[2] == near[0])
    names = [name for theirs in OTHER_NAMES.values() for name in theirs]
    near = difflib.get_close_matches(last, names, n=1, cutoff=0.85)
    return next((ours for ours, theirs in OTHER_NAMES.items() if near and near[0] in theirs), None)
