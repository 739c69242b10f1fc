"""Multiply one trained run into a sweep of many: `python tests/large_sweeps.py SWEEP COUNT`."""

import json
import os
import shutil
import sys
from pathlib import Path

from mnist_mlp.cli.compose import job_name
from mnist_mlp.runs.files import write_json
from mnist_mlp.runs.settings import describe


def multiply(sweep: Path, count: int) -> None:
    """Copy the only job of a sweep, seed 0, to all other seeds below count.

    Each copy has its own settings, fingerprint and slightly different accuracies; large files are hard links.
    """
    (original,) = (path.parent for path in sweep.glob("*/result.json"))
    run, result = (json.loads((original / name).read_text()) for name in ("run.json", "result.json"))
    for seed in range(1, count):
        overrides = [f"seed={seed}" if override == "seed=0" else override for override in run["overrides"]]
        folder = sweep / job_name(overrides)
        shutil.copytree(original, folder, copy_function=os.link)
        for name, content in (("run.json", run), ("result.json", result)):
            config = {**content["config"], "seed": seed}
            described = describe(config, overrides, {"digest": content["data"]["digest"]})
            metrics = {
                key: value - seed % 7 / 1e4 if key.endswith("accuracy") else value
                for key, value in content.get("metrics", {}).items()
            }
            (folder / name).unlink()
            changed = {**described, "data": content["data"], **({"metrics": metrics} if metrics else {})}
            write_json(folder / name, {**content, **changed})


if __name__ == "__main__":
    multiply(Path(sys.argv[1]), int(sys.argv[2]))
