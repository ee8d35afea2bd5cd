"""CPU accounting against work whose cost is known."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.cpu import pinned, process_clock, process_tree, tree_seconds

# burns half a second of CPU in a child, reaps it when told to, then waits for the end of its input
_PARENT = """
import subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.5: pass\\nprint('burnt', flush=True)\\ninput()"
child = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=sys.stdout)
input()
child.communicate(b"\\n")
print("reaped", flush=True)
input()
"""


@contextmanager
def burning_parent() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "burnt\n"
        try:
            yield parent
        finally:
            parent.kill()


def test_the_clock_of_this_process_is_its_process_time() -> None:
    before = time.process_time_ns()
    measured = time.clock_gettime_ns(process_clock(os.getpid()))
    after = time.process_time_ns()

    assert before <= measured <= after


def test_children_belong_to_the_tree() -> None:
    with burning_parent() as parent:
        tree = process_tree(parent.pid)

        assert tree[0] == parent.pid
        assert len(tree) == 2
        assert tree_seconds([parent.pid]) >= 0.5


def test_time_of_a_child_that_ended_is_kept() -> None:
    with burning_parent() as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "reaped\n"

        assert len(process_tree(parent.pid)) == 1
        assert tree_seconds([parent.pid]) >= 0.49  # reaped time is counted in ticks of 10 ms


def test_a_process_that_is_gone_counts_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()

    assert tree_seconds([gone.pid]) == 0.0


def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    one = {min(before)}

    with pinned(one):
        assert os.sched_getaffinity(0) == one

    assert os.sched_getaffinity(0) == before
