"""The test images behind predictions, for the sections that show digits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.analysis.collect import Job
from mnist_mlp.errors import UserError


def images_of(jobs: Sequence[Job], truth: NDArray[Any]) -> NDArray[np.uint8]:
    """The test images (n, 28, 28) with these labels, where one of the runs found them; UserError without any."""
    from mnist_mlp.data.mnist import read_test_images  # deferred: torch, for pages that show digits

    results = [job.result for job in jobs if job.result is not None]
    reason = UserError("no run says where its digits are")
    for root in dict.fromkeys(str(job.settings.get("data.root", "")) for job in jobs):
        try:
            return read_test_images(results[0].data["source"], root, truth.astype(np.int64))
        except UserError as error:
            reason = UserError(
                str(error).replace(str(Path(root)), "data.root")
            )  # a page that is shared names no folder
    raise reason
