"""The test images that the runs of a page were tested on."""

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

    finished = [(job.result, job.settings) for job in jobs if job.result is not None]
    places = dict.fromkeys((result.data["source"], str(given.get("data.root", ""))) for result, given in finished)
    reason = UserError("no run says where its digits are")
    for source, root in places:
        try:
            return read_test_images(source, root, truth.astype(np.int64))
        except UserError as error:
            # a page that is shared names no folder
            reason = UserError(str(error).replace(str(Path(root)), "data.root"))
    raise reason
