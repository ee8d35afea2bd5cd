"""CPU time of process trees, to the nanosecond.

The kernel keeps the time of a whole process, its ended threads included, behind a clock that any process
may read (clock_getcpuclockid(3)). /proc/<pid>/stat has the same number in ticks of 10 ms, which is too coarse
for a run of two seconds; /proc/<pid>/schedstat is exact but speaks of one thread only.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_CPUCLOCK_SCHED = 2
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def process_clock(pid: int) -> int:
    """The clock id of the CPU time of process `pid` (MAKE_PROCESS_CPUCLOCK of the Linux ABI)."""
    return ((~pid) << 3) | _CPUCLOCK_SCHED


def process_tree(root: int) -> list[int]:
    """`root` and all its living descendants."""
    found = [root]
    for pid in found:  # grows while it runs: breadth first
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def tree_seconds(roots: Iterable[int]) -> float:
    """CPU seconds (user and system) of the trees under `roots`, children that ended and were reaped included.

    Only the difference of two calls has a meaning. A child that ends in between moves its time to its
    parent's account of reaped children, so nothing is lost.
    """
    total = 0.0
    for root in roots:
        for pid in process_tree(root):
            with contextlib.suppress(OSError):
                total += time.clock_gettime_ns(process_clock(pid)) / 1e9 + _reaped_seconds(pid)
    return total


def _reaped_seconds(pid: int) -> float:
    # the name in parentheses may hold spaces; the fields are counted behind it (proc_pid_stat(5): 16 and 17)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * _TICK


@contextlib.contextmanager
def pinned(cpus: set[int] | None) -> Iterator[None]:
    """While it lasts, processes started by this thread run on `cpus` only; None changes nothing."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
