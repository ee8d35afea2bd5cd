"""A deadline for caches, whatever they wait for: the work is done by another thread, which is not waited for longer.

A cache has deadlines of its own, so a thread that was left alone comes back. Costs some 40 microseconds for the way
there and back; a cache inside the process does without.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from syncstore.cache.api import BackendUnavailable, Busy

T = TypeVar("T")

_THREADS: Final = 64  # far more than the server has; threads are made when they are needed


class Deadline:
    """Work that takes at most so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="shmap")

    def run(self, work: Callable[[], T]) -> T:
        """What the work gives, or raises. Raises BackendUnavailable when it takes too long: it may yet be done, but not
        when it is Busy."""
        future = self._threads.submit(work)
        try:
            return future.result(self.seconds)
        except TimeoutError:
            if future.cancel():
                raise Busy(f"all {_THREADS} threads wait for caches") from None
            raise BackendUnavailable(f"no answer within {self.seconds:g} s") from None

    def close(self) -> None:
        """Take no more work."""
        self._threads.shutdown(wait=False, cancel_futures=True)
