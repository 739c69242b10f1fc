"""The page of a running sweep, renewed in the background."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from mnist_mlp.sweeps.live import SweepProgress

MIN_SECONDS = 10.0
"""Minimum time between two pages."""
MAX_FRACTION = 0.05
"""Maximum fraction of one core that writing the pages takes."""


class LivePage:
    """Renews report.html of a sweep after jobs have ended. The closing page reports errors, so this one does not.

    Args:
        sweep: Folder of the sweep.
        progress: State of the sweep, which the page reports.
    """

    def __init__(self, sweep: Path, progress: SweepProgress) -> None:
        self._sweep, self._progress = sweep, progress
        self._thread: threading.Thread | None = None
        self._shown, self._due = progress.ended_count, 0.0

    def update(self) -> None:
        """Start to write the page in a thread, if jobs have ended since the last one and it is due."""
        ended = self._progress.ended_count
        is_writing = self._thread is not None and self._thread.is_alive()
        if ended == self._shown or ended >= self._progress.known or is_writing or time.monotonic() < self._due:
            return
        self._shown = ended
        self._thread = threading.Thread(target=self._write, args=[self._progress.status_text()], daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until no page is being written."""
        if self._thread is not None:
            self._thread.join()

    def _write(self, status: str) -> None:
        with suppress(Exception):
            from mnist_mlp.reporting.page import write_page  # deferred: draws figures

            page = write_page([self._sweep], self._sweep / "report.html", status=status)
            os.utime(page, (0, 0))  # older than any run, so the closing page replaces it
        self._due = time.monotonic() + max(MIN_SECONDS, time.thread_time() / MAX_FRACTION)
