"""The Hydra sweeper `optuna`: Optuna proposes settings, the launcher trains them, with or without successive halving.

Imports Optuna, an optional dependency.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import optuna
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from mnist_mlp.cli.compose import canonical, check_settings, job_name, nested_settings, override_text
from mnist_mlp.cli.launcher import PACKAGE, GridComposer, Sampler
from mnist_mlp.compare.load import trial_numbers
from mnist_mlp.config import FIXED_LENGTH_SCHEDULES, non_result_keys
from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, write_json
from mnist_mlp.runs.folder import EPOCHS, TRIALS_FILE
from mnist_mlp.runs.settings import differences, settings, with_defaults

FACTOR = 3
"""Successive halving selects one of FACTOR trials and resumes it for FACTOR times as many epochs."""
ATTEMPTS = 20
PAUSE = 0.25
"""Seconds between two attempts; Optuna takes about one second to create its tables."""


@dataclass(frozen=True)
class Round:
    """Trials that are proposed together.

    Attributes:
        number: from 0, over all calls.
        first: index of its first trial.
        size: number of trials.
        rungs: epochs after which trials are compared, increasing; 0: those of the configuration.
        jobs: number of jobs in the rounds before.
    """

    number: int
    first: int
    size: int
    rungs: Sequence[int] = (0,)
    jobs: int = 0

    def count(self, rung: int) -> int:
        """Return the number of trials at the rung with this index."""
        return min(self.size, max(1, self.size // int(FACTOR**rung)))

    def epochs(self, max_epochs: int) -> list[int]:
        """Return the epochs that each of its jobs trains, in their order, if trials resume."""
        rungs = enumerate(pairwise([0, *(rung or max_epochs for rung in self.rungs)]))
        return [end - start for index, (start, end) in rungs for _ in range(self.count(index))]

    def next(self, size: int, rungs: Sequence[int]) -> "Round":
        """Return the round that follows this one."""
        jobs = self.jobs + sum(map(self.count, range(len(self.rungs))))
        return Round(self.number + 1, self.first + self.size, size, rungs, jobs)


class OptunaSweeper(Sweeper):
    """Hydra's sweeper for searches. The settings of a trial depend only on the seed and on earlier rounds."""

    __module__ = PACKAGE

    def __init__(self, n_trials: int, n_jobs: int, min_epochs: int | None, sampler: Sampler, **_: Any) -> None:
        self._n_trials, self._n_jobs, self._min_epochs, self._sampler = n_trials, n_jobs, min_epochs, sampler

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher."""
        self._config = config
        self._task: Any = task_function
        self._composer = GridComposer(hydra_context.config_loader, config)
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Finish the previous call if it was interrupted, otherwise run `n_trials` more trials."""
        self._study, (self._space, fixed) = open_study(self._config), search_space(self._config)
        self._fixed = [text for text in fixed if self._min_epochs is None or not text.startswith(f"{EPOCHS}=")]
        self._sweep = "" if has_own_storage(self._config) else str(Path(self._config.hydra.sweep.dir).absolute())
        key = f"progress {self._sweep}".strip()
        progress, trials = self._study.user_attrs.get(key), self._trials()
        last = Round(**progress["round"]) if progress else Round(-1, 0, len(trials))
        end = last.first + last.size
        pending = [trial.number for trial in trials[last.first if progress else end :] if not trial.state.is_finished()]
        for trial in self._own():  # of earlier versions, or killed while it was proposed
            if not trial.state.is_finished() and trial.number not in pending:
                self._study.tell(trial.number, state=TrialState.FAIL)
        rounds = [last] if pending or len(trials) < end else []
        resumes = progress and progress["n_trials"] == self._n_trials and (rounds or end < progress["target"])
        target = progress["target"] if progress and resumes else end + self._n_trials
        rounds += self._rounds(last, target)
        self._task.total = rounds[-1].next(0, ()).jobs
        self._task.later = [epochs for each in rounds for epochs in each.epochs(self._config.trainer.max_epochs)]
        for current in rounds:
            progress = {"n_trials": self._n_trials, "target": target, "round": asdict(current)}
            self._study.set_user_attr(key, progress)
            self._run(current)

    def _rounds(self, current: Round, target: int) -> Iterator[Round]:
        """Yield the rounds until there are `target` trials: batches, or the brackets of Hyperband in turn."""
        while (left := target - current.first - current.size) > 0:
            rungs, size = [0], left if self._sampler == Sampler.random else self._n_jobs
            if self._min_epochs is not None:
                most = self._config.trainer.max_epochs
                powers = (FACTOR**power for power in range(most.bit_length(), -1, -1))
                rungs = [most // power for power in powers if most // power >= self._min_epochs]
                brackets, rungs = len(rungs), rungs[(current.number + 1) % len(rungs) :]
                size = -(-brackets * FACTOR ** (len(rungs) - 1) // len(rungs))
            yield (current := current.next(min(size, left), rungs))

    def _run(self, current: Round) -> None:
        """Propose the trials of a round, unless that was done before it was interrupted, and run them."""
        for index in range(len(self._trials()), current.first + current.size):
            self._study.sampler = self._seeded_sampler(index)
            self._study.ask(self._space).set_user_attr("sweep", self._sweep)
        best, jobs = {trial.number for trial in self._trials()[current.first :]}, current.jobs
        for rung, epochs in enumerate(current.rungs):
            trials = [trial for trial in self._trials() if trial.number in best and trial.state != TrialState.FAIL]
            del self._task.later[: current.count(rung)]
            values, is_last = self._evaluate(trials, epochs, jobs), epochs == current.rungs[-1]
            jobs += current.count(rung)
            order = sorted(values, key=lambda number: -values[number])
            best = set() if is_last else set(order[: current.count(rung + 1)])
            for trial in trials:
                if trial.number not in best and not trial.state.is_finished():
                    state = TrialState.COMPLETE if is_last else TrialState.PRUNED
                    value = values.get(trial.number) if is_last else None
                    self._study.tell(trial.number, value, state if trial.number in values else TrialState.FAIL)

    def _evaluate(self, trials: Sequence[FrozenTrial], epochs: int, jobs: int) -> dict[int, float]:
        """Return the trials' validation accuracies after `epochs`, by number; those that failed have none.

        A setting that was proposed twice is trained once. UserError if no setting of the first round is valid.
        """
        trained = [trial for trial in self._trials() if epochs in trial.intermediate_values]
        known = {repr(trial.params): trial.intermediate_values[epochs] for trial in trained}
        waiting = {repr(trial.params): trial.params for trial in trials if repr(trial.params) not in known}
        composed = [self._job(params, epochs) for params in waiting.values()]
        faults = [fault for _, _, fault, _ in composed if fault]
        if composed and len(faults) == len(composed) and not any(trial.values for trial in self._trials()):
            for trial in trials:
                self._study.tell(trial.number, state=TrialState.FAIL)
            raise UserError(faults[0])
        numbers = {repr(trial.params): trial.number for trial in reversed(trials)}  # the first of equal ones
        folders = {folder: numbers[key] for key, (_, folder, *_) in zip(waiting, composed, strict=True)}
        sweep = Path(self._config.hydra.sweep.dir)
        write_json(sweep / TRIALS_FILE, {**folders, **trial_numbers(sweep)})
        restarts = sum(restarts for *_, restarts in composed)
        if restarts and any(trial.intermediate_values for trial in trials):
            print(f"{restarts} trials restart for {epochs} epochs: their optim.schedule depends on trainer.max_epochs")
        returned = self._launcher.launch([overrides for overrides, *_ in composed], jobs) if composed else []
        known |= {key: job.return_value for key, job in zip(waiting, returned, strict=True)}
        values = {trial.number: value for trial in trials if (value := known[repr(trial.params)]) is not None}
        for trial in trials:
            if trial.number in values and epochs not in trial.intermediate_values:
                Trial(self._study, trial._trial_id).report(values[trial.number], epochs)
        return values

    def _job(self, params: JSON, epochs: int) -> tuple[list[str], str, str, bool]:
        """Return a job's overrides, its folder, their fault, and whether training restarts if it gets more epochs."""
        texts = [*(f"{key}={value}" for key, value in params.items()), *self._fixed]
        name = job_name(texts, self._task.swept)
        texts += [f"{EPOCHS}={epochs}"] if epochs else []
        try:
            config = check_settings(self._composer.settings(texts))
        except UserError as error:
            return texts, job_name(texts, self._task.swept), str(error), False
        restarts = config.optim.schedule in FIXED_LENGTH_SCHEDULES
        if epochs and not restarts:  # the folder with fewer epochs
            return [*texts, f"hydra.sweep.subdir='{name}'"], name, "", False
        return texts, job_name(texts, self._task.swept), "", restarts

    def _own(self) -> list[FrozenTrial]:
        """Return this sweep's trials."""
        trials = self._study.get_trials()
        return [trial for trial in trials if not self._sweep or trial.user_attrs.get("sweep") == self._sweep]

    def _trials(self) -> list[FrozenTrial]:
        """Return this sweep's trials whose settings are complete."""
        return [trial for trial in self._own() if trial.params.keys() == self._space.keys()]

    def _seeded_sampler(self, index: int) -> optuna.samplers.BaseSampler:
        seed = crc32(f"{self._config.seed} {index} {self._sweep}".encode())
        if self._sampler == Sampler.random:
            return optuna.samplers.RandomSampler(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of constant_liar, in Optuna 4
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def check_search(config: DictConfig) -> Sequence[str]:
    """Register the sweeper and check the search; return the lines that describe it.

    Raises:
        UserError: An option is out of range or does not fit a search.
    """
    setattr(import_module(PACKAGE), OptunaSweeper.__name__, OptunaSweeper)
    Plugins.instance().register(OptunaSweeper)
    sweeper = config.hydra.sweeper
    for key in ("n_trials", "n_jobs", "min_epochs"):
        if (value := sweeper.get(key)) is not None and value < 1:
            raise UserError(f"hydra.sweeper.{key}={value} is out of range: expected int >= 1")
    if config.data.val_size == 0:
        raise UserError("a search maximizes validation accuracy but data.val_size=0: use data.val_size=5000")
    space, _ = search_space(config)
    if not space:
        raise UserError("this search varies no setting: add one, such as optim.lr='tag(log, interval(0.001, 0.1))'")
    if "data.name" in space:
        raise UserError(
            "a search cannot vary data.name: accuracies on different datasets are not comparable; use a grid"
        )
    if min_epochs := sweeper.get("min_epochs"):
        if EPOCHS in space or config.trainer.max_epochs < FACTOR * min_epochs:
            raise UserError(f"successive halving varies {EPOCHS}: use one value, at least {FACTOR * min_epochs}")
        if config.resume == "never":
            raise UserError("successive halving resumes trials but resume=never: choose another name= instead")
    texts = {key: f"  {text}" for text in _overrides(config) if (key := text.partition("=")[0]) in space}
    return [
        f"{sweeper.n_trials} trials in {config.hydra.sweep.dir}:",
        *texts.values(),
        "cannot tell how long: trials differ",
    ]


def prepare_search(config: DictConfig) -> None:
    """Create the study of a search that `check_search` has checked.

    Raises:
        UserError: The storage cannot be used, or its trials have other settings.
    """
    chosen, study = search_settings(config), open_study(config)
    if not any(trial.values or trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        study.set_user_attr("settings", chosen)
    defaults = {key: text for key, text in _texts(with_defaults({})).items() if key in chosen}  # of newer options
    if changed := differences({**defaults, **study.user_attrs.get("settings", chosen)}, chosen):
        key = "name" if has_own_storage(config) else "hydra.sweeper.study_name"
        raise UserError(f"this search has trials with other settings ({'; '.join(changed)}): use another {key}=")


def search_settings(config: DictConfig) -> JSON:
    """Return the values of the fixed settings and the choices of the searched ones, as text by key."""
    texts = _texts(settings(nested_settings(config)))
    texts |= {key: text.replace(" ", "") for key, text in map(canonical, _overrides(config))}
    return {key: text for key, text in texts.items() if key not in non_result_keys()}


def _texts(flat: JSON) -> JSON:
    return dict(canonical(override_text(key, value)) for key, value in flat.items())


def _overrides(config: DictConfig) -> list[str]:
    """Return the params of a preset, followed by the command line, which takes precedence."""
    return [*(f"{key}={value}" for key, value in config.hydra.sweeper.params.items()), *config.hydra.overrides.task]


def search_space(config: DictConfig) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Return the distributions of the searched settings by key, and the overrides of the fixed ones."""
    application = GlobalHydra.instance().hydra  # knows the presets, including the user's own
    parser = OverridesParser.create(application.config_loader if application else None)
    by_key = {override.get_key_element(): override for override in parser.parse_overrides(_overrides(config))}
    space = {key: _distribution(override) for key, override in by_key.items() if override.is_sweep_override()}
    return space, [str(override.input_line) for key, override in by_key.items() if key not in space]


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override.value()
    try:
        if isinstance(value, IntervalSweep):
            values: list[Any] = [value.start, value.end]
        else:
            values = list(override.sweep_iterator(transformer=Transformer.encode))
            if not isinstance(value, RangeSweep) or value.shuffle:
                return CategoricalDistribution(values)
        step: Any = abs(value.step) if isinstance(value, RangeSweep) else None
        low, high, log = min(values), max(values), "log" in value.tags
        if all(isinstance(number, int) for number in values):
            return IntDistribution(low, high, log, step or 1)
        return FloatDistribution(low, high, log, step)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error_line(error)}") from error


def open_study(config: DictConfig) -> optuna.Study:
    """Create the study or load it; retries, because concurrent attempts may collide. UserError if that fails."""
    storage, name = config.hydra.sweeper.storage, config.hydra.sweeper.study_name
    for _ in range(ATTEMPTS):
        try:
            return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        except Exception as error:  # from sqlalchemy or any database driver
            reason = error_line(error)
            time.sleep(PAUSE)
    raise UserError(f"hydra.sweeper.storage={storage} cannot be used: {reason}")


def has_own_storage(config: DictConfig) -> bool:
    """Whether the study belongs to this sweep only."""
    storage = config.hydra.sweeper.storage
    return storage is None or str(config.hydra.sweep.dir) in storage
