"""Many may pass at once, or one alone who replaces what the others use; threads that are inside pass freely.

Those inside are counted per thread, so that a thread that holds may enter again even while another waits to be
alone: to make it wait would be a deadlock. The one who waits does so for a bounded time, and then goes on beside
those who stayed; what they hold must by itself refuse to be used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """A shared and exclusive gate. Deadlines are on time.monotonic()."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._depths: dict[int, int] = {}  # by thread
        self._alone: int | None = None  # the thread that is
        self._waiting = 0  # to be alone

    @property
    def held(self) -> int:
        """How many times it is entered now, by all threads."""
        with self._changed:
            return sum(self._depths.values())

    @property
    def depth(self) -> int:
        """How many times this thread is inside."""
        return self._depths.get(threading.get_ident(), 0)

    def enter(self, deadline: float) -> bool:
        """Go in with others; whether that was possible before the deadline."""
        me = threading.get_ident()
        with self._changed:
            if me not in self._depths and self._alone != me:
                while self._alone is not None or self._waiting:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(left)
            self._depths[me] = self._depths.get(me, 0) + 1
            return True

    def try_enter(self) -> bool:
        """Go in if nobody is alone or waits to be; never waits."""
        return self.enter(0.0)

    def leave(self) -> None:
        """Go out once. Raises RuntimeError in a thread that is not inside."""
        me = threading.get_ident()
        with self._changed:
            depth = self._depths.get(me, 0)
            if not depth:
                raise RuntimeError("this thread is not inside: whoever enters must leave, in the same thread")
            if depth > 1:
                self._depths[me] = depth - 1
            else:
                del self._depths[me]
                self._changed.notify_all()

    @contextmanager
    def exclusive(self, deadline: float, patience: float) -> Iterator[bool]:
        """Be alone, or from the moment `patience` on beside those who are still inside.

        Yields False when the deadline came first, or another was alone until then.
        """
        me = threading.get_ident()
        if self.depth:
            raise RuntimeError("a thread that is inside cannot wait to be alone")
        with self._changed:
            self._waiting += 1
            try:
                entered = self._await_alone(deadline, patience)
                if entered:
                    self._alone = me
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield entered
        finally:
            if entered:
                with self._changed:
                    self._alone = None
                    self._changed.notify_all()

    def drop_after_fork(self) -> None:
        """In a child, where the lock may be held by a thread that is not here."""
        self._changed = threading.Condition(threading.Lock())

    def _await_alone(self, deadline: float, patience: float) -> bool:
        while True:
            now = time.monotonic()
            if self._alone is None:
                if not self._depths or now >= patience:
                    return True
                until = min(deadline, patience)
            else:
                until = deadline
            if now >= deadline:
                return False
            self._changed.wait(until - now)
