"""What has to be known of a sweep before its jobs begin, and takes torch to find out: asked of a worker."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from mnist_mlp.config import Accelerator, Config, to_dict
from mnist_mlp.errors import UserError
from mnist_mlp.runs.result import RunResult, StoredRun
from mnist_mlp.runs.settings import describe

Key = tuple[str, str]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Resolution:
    """What the settings of a job leave open: where its digits come from, their digest, and "cpu" or "gpu"."""

    source: str
    digest: str
    accelerator: str

    @classmethod
    def of(cls, stored: StoredRun) -> "Resolution | None":
        """That of a run which has been started; None where its files do not say."""
        config = stored.result.get("config", {})
        found = (
            config.get("data", {}).get("source"),
            stored.result.get("data", {}).get("digest"),
            config.get("trainer", {}).get("accelerator"),
        )
        return cls(*found) if all(isinstance(one, str) for one in found) else None

    def finished(self, stored: StoredRun, config: Config) -> RunResult | None:
        """The result that `fit` would return at once; None where it would train. Imports no torch.

        stored: what the job's folder holds.
        """
        resolved = to_dict(config)
        resolved["data"]["source"], resolved["trainer"]["accelerator"] = self.source, self.accelerator
        return stored.result_of(describe(resolved, [], self.digest))


@dataclass(frozen=True)
class Survey:
    """What was found. bytes_per_job: of the job that needs most; free: bytes of memory, None where nobody says.

    gpus: how many the jobs may use, 0 where none of them wants one. digits: source and digest by `data.source` and
    `data.root`; accelerators: "cpu" or "gpu" by what was asked for. Neither has what cannot be had: the job that wants
    it will say why.
    """

    bytes_per_job: int
    free: int | None
    gpus: int
    digits: Mapping[Key, tuple[str, str]]
    accelerators: Mapping[Accelerator, str]

    def resolution(self, config: Config) -> "Resolution | None":
        """What `auto` stands for in a job; None where that takes more to find out."""
        digits = self.digits.get((config.data.source.value, config.data.root))
        accelerator = self.accelerators.get(config.trainer.accelerator)
        if digits is None or accelerator is None or config.trainer.devices > 1:
            return None
        return Resolution(*digits, accelerator)


@dataclass(frozen=True)
class Inquiry:
    """The task of making a `Survey`. configs: of all jobs, or one of each kind."""

    configs: tuple[Config, ...]

    def __call__(self) -> Survey:
        import torch  # deferred, like the rest: this is run by a worker

        from mnist_mlp.data.mnist import load_digits
        from mnist_mlp.training.memory import free_bytes, needed_bytes
        from mnist_mlp.training.trainer import choose_accelerator

        def accelerator(asked: Accelerator) -> str:
            config = self.configs[0]
            return choose_accelerator(replace(config, trainer=replace(config.trainer, accelerator=asked, devices=1)))

        def digits(key: Key) -> tuple[str, str]:
            found = load_digits(*key)
            return found.source, found.digest

        accelerators = _had(accelerator, {config.trainer.accelerator for config in self.configs})
        return Survey(
            bytes_per_job=max(map(needed_bytes, self.configs), default=0),
            free=free_bytes("cpu"),
            gpus=torch.cuda.device_count() if "gpu" in accelerators.values() else 0,
            digits=_had(digits, {(config.data.source.value, config.data.root) for config in self.configs}),
            accelerators=accelerators,
        )


def inquiry(configs: Iterable[Config]) -> Inquiry:
    """What is to be asked about these jobs, as shortly as can be."""
    return Inquiry(tuple({_kind(config): config for config in configs}.values()))


def _kind(config: Config) -> tuple[Any, ...]:
    """All that a survey depends on."""
    data, model, trainer = config.data, config.model, config.trainer
    return (
        *(data.source, data.root, data.batch_size, model.hidden_layers, tuple(model.hidden_units)),
        *(config.optim.name, config.optim.momentum > 0, trainer.accelerator, trainer.precision),
    )


def _had(find: Callable[[Any], Found], keys: Iterable[Any]) -> dict[Any, Found]:
    found = {}
    for key in keys:
        with suppress(UserError, OSError):
            found[key] = find(key)
    return found
