"""Limits of this process's control groups (cgroups(7), versions 1 and 2), which containers and SLURM set."""

import math
from collections.abc import Iterator
from pathlib import Path, PurePath

MEMORY_FILES = (
    ("memory.max", "memory.current", ("inactive_file", "slab_reclaimable")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file",)),
)
"""Limit, usage and reclaimable entries of memory.stat, in versions 2 and 1."""


def memory_left() -> int | None:
    """Return the bytes that may still be allocated, reclaimable page cache included; None without a limit."""
    left = []
    for group in _groups("memory"):
        cache = dict(line.split() for line in read_lines(group / "memory.stat"))
        for limit, usage, reclaimable in MEMORY_FILES:
            numbers = _numbers(group / limit) + _numbers(group / usage)
            if len(numbers) == 2:
                left.append(numbers[0] - numbers[1] + sum(int(cache.get(name, 0)) for name in reclaimable))
    return min(left, default=None)


def cpu_limit() -> int | None:
    """Return the number of CPUs whose time may be used, rounded up; None without a limit."""
    limits = []
    for group in _groups("cpu"):
        first = _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        limits += [math.ceil(time[0] / time[1]) for time in (first, _numbers(group / "cpu.max")) if len(time) == 2]
    return min(limits, default=None)


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups and of their parents; folders outside of a container do not exist."""
    for line in read_lines(Path("/proc/self/cgroup")):
        _, controllers, name = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            path = PurePath(name.lstrip("/"))
            for group in (path, *path.parents):
                yield Path("/sys/fs/cgroup", controller if controllers else "", group)


def _numbers(path: Path) -> list[int]:
    """Read the numbers in the first line of a file; none if it does not exist or contains other words, such as max."""
    words = [word for line in read_lines(path)[:1] for word in line.split()]
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []


def read_lines(path: Path) -> list[str]:
    """Read a file of the kernel; no lines if that is not possible."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
