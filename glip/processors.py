"""How many processors this process may use, of which the machine alone knows too many.

A container that is given two processors of a machine with 64 (`docker run --cpus 2`, limits of
Kubernetes) sees all 64. Numeric libraries then start as many threads, which spend most of their
time waiting for their turn.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

THREADS = "OMP_NUM_THREADS"
"""The environment variable by which threads of torch are limited, and by us those of other
runtimes."""


def usable(root: Path = Path("/")) -> int:
    """Processors that this process may use, at least 1.

    Those it is bound to, and no more than the quotas of its control groups allow, rounded up.

    Args:
        root: Where the folders `proc` and `sys` of Linux lie; other systems have no quotas.
    """
    return max(1, min([_bound(), *map(math.ceil, _quotas(root))]))


def share_out(processes: int = 1) -> None:
    """Let each of some processes start no more threads than its share of the usable processors.

    For a program, before it imports torch. Does nothing where the environment says a number of
    threads, or where one process may use all that it sees, which libraries find out by themselves.
    """
    threads = max(1, usable() // max(1, processes))
    if threads < _bound():
        os.environ.setdefault(THREADS, str(threads))


def _bound() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Processors' worth of time that each control group of this process has."""
    groups = root / "sys/fs/cgroup"
    with suppress(OSError, UnicodeDecodeError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:  # version 2
                for folder in _upwards(groups, path):
                    yield from _quota(folder / "cpu.max")
            elif "cpu" in controllers.split(","):
                for folder in _upwards(groups / controllers, path):
                    yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Folders of a group and of those around it; a container sees its own group as the outermost,
    under whatever name it has outside.
    """
    below = PurePosixPath(path.lstrip("/"))
    yield from (mount / folder for folder in (below, *below.parents))


def _quota(*files: Path) -> Iterator[float]:
    """Quota over period, which stand in these files; nothing where there is no limit."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (int(word) for file in files for word in file.read_text().split())
        if quota > 0:
            yield quota / period
