"""All watches on one cluster: who is told of the connection's state, and what their callbacks may do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from syncstore.zookeeper.connection import Connection, State
from syncstore.zookeeper.errors import SessionEnded
from syncstore.zookeeper.nodes import below
from syncstore.zookeeper.watch import Callback, Kind, Watch

_SLOW_CALLBACK = 1.0  # seconds

log = logging.getLogger(__name__)


class Watches:
    """All watches on one cluster that have not fired. `in_callback.now` is true on a thread that runs a callback."""

    def __init__(self, cluster: str, in_callback: threading.local) -> None:
        self.cluster = cluster
        self.slow_callbacks = 0
        self.slowest_callback = 0.0
        self._in_callback = in_callback
        self._lock = threading.Lock()
        self._live: set[Watch] = set()
        self._closed = ""

    def __len__(self) -> int:
        return len(self._live)

    def add(
        self,
        connection: Connection,
        path: str,
        kind: Kind,
        callback: Callback | None,
        context: object,
        deadline: float,
    ) -> Watch:
        """A watch, armed. Raises ZKUnavailable."""
        full = below(connection.ensemble.chroot, path)
        watch = Watch(self, path, full, kind, callback, context)
        before = connection.connects
        watch.arm(connection, deadline)
        with self._lock:
            closed = self._closed
            if not closed:
                self._live.add(watch)
        if closed:
            watch.close(closed)
        elif connection.state is State.ENDED and watch.count:
            # The next one may have been connected before the watch was among those who are told.
            watch.close("was made as the session ended")
            raise SessionEnded(self.cluster, connection.end_reason)
        elif connection.connects != before:
            watch.arm_again(connection)  # connected anew before it was among those who are told
        if not watch.count:
            self.remove(watch)  # fired before it was added
        return watch

    def remove(self, watch: Watch) -> None:
        """It has fired, or was destroyed."""
        with self._lock:
            self._live.discard(watch)

    def tell(self, connection: Connection, state: State) -> None:
        """The connection's state has changed. On the client's own thread."""
        for watch in self._all():
            watch.tell(connection, state)

    def close(self, why: str) -> None:
        """Close all, and all that come later."""
        with self._lock:
            self._closed = why
        for watch in self._all():
            watch.close(why)

    def drop_after_fork(self) -> None:
        """In a child: close all, without the locks, which threads may hold that are not here."""
        self._lock = threading.Lock()
        live, self._live = self._live, set()
        for watch in live:
            watch.drop_after_fork("belongs to the process that forked this one")

    def refuse_in_callback(self) -> None:
        """Raises RuntimeError on a thread that runs a callback."""
        if getattr(self._in_callback, "now", False):
            raise RuntimeError("a watch's callback cannot wait for another event: those come after it")

    @contextmanager
    def running_callback(self, path: str) -> Iterator[None]:
        """Around a callback: what it raises is logged, and how long it takes is noted."""
        begun = time.monotonic()
        self._in_callback.now = True
        try:
            yield
        except Exception:
            log.exception("the callback of a watch on %s failed", path)
        finally:
            self._in_callback.now = False
            took = time.monotonic() - begun
            if took > _SLOW_CALLBACK:
                self.slow_callbacks += 1
                self.slowest_callback = max(self.slowest_callback, took)
                log.warning("the callback of a watch on %s took %.1f s; others wait for it", path, took)

    def _all(self) -> list[Watch]:
        with self._lock:
            return list(self._live)
