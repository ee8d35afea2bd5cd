"""Many histories, on several processors: seeds are handed out in blocks, and what was found is summed up."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from syncstore.testing.simulation.configurations import CONFIGURATIONS
from syncstore.testing.simulation.plan import draw
from syncstore.testing.simulation.run import run

_BLOCK = 200


class Found(NamedTuple):
    """A history that broke a rule."""

    configuration: str
    seed: int
    rule: str
    text: str


class Summary:
    """What came of some histories."""

    def __init__(self) -> None:
        self.histories = 0
        self.steps = 0
        self.faults: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.found: list[Found] = []

    def add(self, other: Summary) -> None:
        """Those of another one, too."""
        self.histories += other.histories
        self.steps += other.steps
        self.faults += other.faults
        self.outcomes += other.outcomes
        self.found += other.found


def block(task: tuple[str, int, int]) -> Summary:
    """Run some seeds of one configuration."""
    name, first, count = task
    configuration = CONFIGURATIONS[name]
    summary = Summary()
    for seed in range(first, first + count):
        result = run(configuration, draw(seed, configuration.mix))
        summary.histories += 1
        summary.steps += result.steps
        summary.faults += result.faults
        summary.outcomes += result.outcomes
        if result.violations:
            violation = result.violations[0]
            summary.found.append(Found(name, seed, violation.rule, violation.text))
    return summary


def quiet() -> None:
    """Histories are full of faults: warnings about them are of no interest."""
    logging.disable(logging.CRITICAL)


def campaign(
    name: str,
    seed: int,
    histories: int,
    *,
    seconds: float | None = None,
    jobs: int = 1,
    most_found: int = 20,
    progress: Callable[[Summary], None] = lambda _: None,
) -> Summary:
    """Run `histories` from `seed` on, or as many as `seconds` allow; ends early with many violations."""
    total = Summary()
    deadline = None if seconds is None else time.monotonic() + seconds
    # The order of a set of names depends on this, and with it perhaps the order of steps.
    os.environ["PYTHONHASHSEED"] = "0"
    blocks = (
        (name, first, min(_BLOCK, seed + histories - first))
        for first in range(seed, seed + histories, _BLOCK)
    )
    for summary in _results(blocks, jobs):
        total.add(summary)
        progress(total)
        if len(total.found) >= most_found or (deadline is not None and time.monotonic() > deadline):
            break
    return total


def _results(blocks: Iterator[tuple[str, int, int]], jobs: int) -> Iterator[Summary]:
    if jobs == 1:
        yield from map(block, blocks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=quiet) as pool:
        yield from pool.imap(block, blocks)
