"""What would make two runs of one seed differ, or stop the one thread that all tasks share, replaced for a while."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import TracebackType
from typing import Any

from syncstore.testing.simulation.scheduler import Task, World


@contextmanager
def seeded(random: Random) -> Iterator[None]:
    """While this is open, `secrets` takes its bits from `random`: marks and ids of batches are the same each time."""
    module: Any = secrets
    before = secrets.token_bytes, secrets.randbits
    module.token_bytes = lambda nbytes=None: random.randbytes(nbytes or 32)
    module.randbits = random.getrandbits
    try:
        yield
    finally:
        module.token_bytes, module.randbits = before


class TaskLock:
    """A `threading.Lock` between the tasks of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner: Task | None = None
        self._queue: list[Task] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, waiting for the task that has it."""

        def take() -> bool:
            if self._owner is not None and not self._owner.done:
                return False
            self._owner = self._world.current
            return True

        if take():
            return True
        return blocking and self._world.take(
            take, self._queue, None if timeout < 0 else timeout, "wait for a lock of the process"
        )

    def release(self) -> None:
        """Give it back."""
        self._owner = None
        self._world.wake(self._queue)

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._owner is not None

    def __enter__(self) -> TaskLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextmanager
def task_locks(world: World) -> Iterator[None]:
    """While this is open, whoever makes a `threading.Lock` gets one between tasks."""
    module: Any = threading
    before = threading.Lock
    module.Lock = lambda: TaskLock(world)
    try:
        yield
    finally:
        module.Lock = before
