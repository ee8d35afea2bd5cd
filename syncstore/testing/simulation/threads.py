"""A stand-in for the scheduler over plain threads, which holds the simulated SQL to the conformance suites."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any


class Threads:
    """What a database asks of a world (see database.Waits), with threads that run as they like."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())

    @property
    def now(self) -> int:
        """Real microseconds."""
        return time.monotonic_ns() // 1000

    def step(self, what: str, detail: object = "") -> None:
        """Threads are switched anyway."""

    def note(self, what: str, detail: object = "") -> None:
        """There is no trace."""

    def sleep(self, seconds: float) -> None:
        """Really."""
        time.sleep(seconds)

    def take(self, attempt: Callable[[], bool], queue: list[Any], timeout: float | None, what: str) -> bool:
        """Try until it succeeds, or the time is up."""
        with self._changed:
            queue.append(None)
            try:
                return self._changed.wait_for(attempt, timeout)
            finally:
                queue.pop()

    def wake(self, queue: list[Any]) -> None:
        """Let everybody try again."""
        with self._changed:
            self._changed.notify_all()

    def later(self, what: str, action: Callable[[], None], *, most_steps: int = 0) -> None:
        """At once."""
        action()
