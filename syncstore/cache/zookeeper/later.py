"""Changes that nobody waits for: a queue with a bound, and a thread that is there while something is in it."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from syncstore.cache.api import BackendError
from syncstore.cache.zookeeper.planning import Drop, Wish
from syncstore.forks import in_each_child

_IDLE_SECONDS = 2.0  # a thread that is used again and again is not made again and again

log = logging.getLogger(__name__)


class Later:
    """Has `make` make changes, in the order in which they were given.

    `most` may wait. Who gives more waits `patience` seconds for room, and then they are lost, which `lost` counts; so
    are those that `make` could not make.
    """

    def __init__(self, make: Callable[[Sequence[Wish]], object], *, most: int, patience: float) -> None:
        self._make = make
        self._most = most
        self._patience = patience
        self.lost = 0
        self._begin()
        in_each_child(self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[Wish] = deque()
        self._closed = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, wishes: Sequence[Wish]) -> None:
        """Make them when it is their turn."""
        end = time.monotonic() + self._patience
        with self._changed:
            while self._waiting and len(self._waiting) + len(wishes) > self._most and not self._closed:
                if not self._changed.wait(end - time.monotonic()):
                    self.lost += len(wishes)
                    return
            self._take(wishes)

    def drop(self, drops: Sequence[Drop]) -> None:
        """Remove what has expired, unless there is much else to do: it will be found again."""
        with self._changed:
            if len(self._waiting) + len(drops) <= self._most:
                waiting = {wish for wish in self._waiting if isinstance(wish, Drop)}
                self._take([each for each in drops if each not in waiting])

    def close(self) -> None:
        """Take nothing more, and wait until what waits is made, as long as one call may take."""
        end = time.monotonic() + self._patience
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._waiting and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            self._waiting.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._patience + 1.0)

    def _take(self, wishes: Sequence[Wish]) -> None:
        if self._closed or not wishes:
            return
        self._waiting.extend(wishes)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="syncstore-cache-later", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._closed:
                    self._changed.wait(_IDLE_SECONDS)
                if not self._waiting:
                    self._thread = None
                    return
                wishes = list(self._waiting)
                self._waiting.clear()
                self._changed.notify_all()
            try:
                self._make(wishes)
            except BackendError as error:
                self.lost += len(wishes)
                log.info("%d changes that nobody waits for may be lost: %s", len(wishes), error)
            except Exception:
                # The edge of the thread: nobody waits who could be told.
                log.exception("%d changes that nobody waits for may be lost", len(wishes))
