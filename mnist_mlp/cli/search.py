"""A search by Optuna: the seed of its sampler, and a database that several searches may make at once."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

from omegaconf import DictConfig, OmegaConf

from mnist_mlp.console import error_line
from mnist_mlp.errors import UserError

ATTEMPTS = 20
PAUSE = 0.25
"""Seconds between two attempts: making Optuna's tables takes about one."""


def search_seed(sweep: str, storage: str) -> int:
    """The seed of a sampler: neither the next call nor another search in the same storage draws the same trials.

    sweep: folder of the search. storage: Optuna's URL; in the sweep's own database its trials are counted, and so the
    same search draws the same under any name.
    """
    own = Path(sweep) / "study.db"
    if storage == f"sqlite:///{own}":
        return _trials_so_far(own)
    jobs = sum(1 for _ in Path(sweep).glob("*/run.json"))
    return (crc32(str(Path(sweep).absolute()).encode()) + jobs) % 2**32


def prepare_storage(config: DictConfig) -> None:
    """Make the tables of a search's storage; of several processes that do so at once all but one fail at first.

    config: of the sweep. UserError where there is no such storage.
    """
    sweeper: Any = OmegaConf.select(config, "hydra.sweeper")
    storage = sweeper.get("storage")
    if "optuna" not in str(sweeper.get("_target_")) or not isinstance(storage, str):
        return
    from optuna.storages import get_storage  # deferred: an extra

    for left in reversed(range(ATTEMPTS)):
        try:
            get_storage(storage)
            return
        except Exception as error:  # of sqlalchemy or of any of its databases
            if not left:
                raise UserError(f"hydra.sweeper.storage={storage} cannot be used: {error_line(error)}") from error
            time.sleep(PAUSE)


def _trials_so_far(study: Path) -> int:
    """Number of trials in an optuna database; 0 where there is none yet."""
    if not study.is_file():
        return 0
    with closing(sqlite3.connect(study)) as connection:
        try:
            return int(connection.execute("select count(*) from trials").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
