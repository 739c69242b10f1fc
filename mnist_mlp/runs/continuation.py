"""A run that goes on to more epochs than it was first asked for."""

from collections.abc import Mapping
from typing import Any

from mnist_mlp.errors import UserError
from mnist_mlp.runs.files import JSON, write_json
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.settings import complete_settings

EPOCHS = "trainer.max_epochs"


def epochs_alone_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two configs (nested) train for different numbers of epochs and are otherwise the same."""
    old, new = complete_settings(before), complete_settings(now)
    return old.get(EPOCHS) != new.get(EPOCHS) and {**old, EPOCHS: 0} == {**new, EPOCHS: 0}


def goes_on(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a run goes on as another that has more epochs. before, now: what run.json says of them."""
    old, new = (int(one["config"]["trainer"]["max_epochs"]) for one in (before, now))
    constant = now["config"]["optim"]["schedule"] == "constant"
    same = _digest(before) == _digest(now) and epochs_alone_differ(before["config"], now["config"])
    return same and constant and old < new


def _digest(run: Mapping[str, Any]) -> object:
    return run.get("data", {}).get("digest")


def reopen_for_more_epochs(folder: RunFolder, run: JSON) -> bool:
    """Make the run that is here unfinished again, if `run` is the same one with more epochs; whether it was.

    UserError where going on would not give what the longer run gives: where the learning rate depends on the number of
    epochs, where fewer are asked for, or where the last checkpoint is gone.
    """
    before = folder.run()
    if before is None or _digest(before) != _digest(run) or not epochs_alone_differ(before["config"], run["config"]):
        return False
    old, new = (int(one["config"]["trainer"]["max_epochs"]) for one in (before, run))
    schedule = run["config"]["optim"]["schedule"]
    asked = f"{folder.path} holds this run with {EPOCHS}={old}, and {new} are asked for"
    remedy = "choose another folder, or start over with resume=never"
    if new < old:
        raise UserError(f"{asked}: a run can be continued, not shortened; {remedy}")
    if schedule != "constant":
        raise UserError(
            f"{asked}: optim.schedule={schedule} spreads the learning rates over all epochs, so that the first {old} "
            f"would have gone differently; {remedy}"
        )
    if not folder.last_checkpoint.is_file():
        raise UserError(f"{asked}: {folder.last_checkpoint} is gone, from which it would go on; {remedy}")
    folder.result_file.unlink(missing_ok=True)
    write_json(folder.run_file, {**before, **{key: run[key] for key in ("overrides", "config", "fingerprint")}})
    return True
