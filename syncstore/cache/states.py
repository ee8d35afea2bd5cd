"""Whether the cache may be trusted: the state of its server, shared by all processes, and each one's view of it.

A server that could not be reached by one writer may still answer others, from what it remembers. So a writer that
cannot place its mark declares the server failed for everybody, in SQL, and whoever reads from the cache asks SQL
first, or has asked within the last `lease` seconds. The state is an epoch: even while the server may be trusted,
odd after it was declared failed. It is part of every cached value's key, so what a server remembered from before
a failure has a name that nobody asks for any more. The rules are those of server-states.md, model-checked; what
each of them prevents is said where it stands.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Protocol

from syncstore.cache.api import BackendError, Provider
from syncstore.clock import Clock
from syncstore.errors import SyncError, Unavailable

log = logging.getLogger(__name__)

# Clocks of two machines run differently by far less; it also covers the grain of a deadline.
_DRIFT = 1.01
_PROBE_KEY = b"probe"
_ATTEMPTS = 10
# Seconds for which one waits for the answer that another thread has asked for: many times what SQL takes.
_PATIENCE = 0.25


class EpochStore(Protocol):
    """Where the epoch is shared (see `storage.durable.DurableStorage`)."""

    def epoch(self, server: str) -> int:
        """The epoch, read from the primary as of now."""

    def advance_epoch(self, server: str, seen: int, to: int | None = None) -> bool:
        """Count it up by one, or `to` a number, if it still is `seen`."""


class ServerState(Protocol):
    """What a layer asks about the server that its values live on."""

    def trusted(self) -> int | None:
        """The epoch under which values may be read and written now; None to go without the cache.

        May ask SQL, when what is known has become too old. Never raises.
        """

    def still(self, epoch: int) -> bool:
        """Whether an epoch that `trusted` gave may still be used. Asks nobody."""

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """For a writer that has locked its user's row and has no trusted epoch: the epoch to mark under, or None
        when everybody knows by now that the server failed, so that no mark is needed.

        `read_epoch` reads the epoch in the writer's transaction. Raises Unavailable while others may still read
        from the server.
        """

    def trouble(self) -> None:
        """The server did not answer: leave it alone for a moment. Others are not told."""

    def troubled(self) -> bool:
        """Whether it is being left alone."""

    def declare_failed(self, epoch: int) -> Unavailable:
        """A mark could not be placed under `epoch`: tell everybody. What to raise then.

        To be called after the writer has rolled back: it is a transaction of its own.
        """


class AlwaysUp:
    """The state of a cache that is part of the process: it cannot fail alone.

    It is of use to that process only. In a child after a fork nothing is cached: parent and children would each
    have their own idea of what is in SQL.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def trusted(self) -> int | None:
        """Always, in the process that made it."""
        return 0 if os.getpid() == self._pid else None

    def still(self, epoch: int) -> bool:
        """Always."""
        return True

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """As `trusted`."""
        return self.trusted()

    def trouble(self) -> None:
        """There is none."""

    def troubled(self) -> bool:
        """Never, in the process that made it."""
        return os.getpid() != self._pid

    def declare_failed(self, epoch: int) -> Unavailable:
        """A cache in the process that refuses its own: nothing to tell others."""
        return Unavailable("the cache of this process refused a mark")


class SharedState:
    """One process's view of the state that all share (see ServerState).

    `lease` is in seconds: for so long a view may be used, and for so long a failure must be known before anybody
    goes on without the cache. `pause` is how long this process leaves a server alone that did not answer it, and SQL,
    where the cache can be done without.
    """

    def __init__(
        self, store: EpochStore, server: str, clock: Clock, *, lease: float, pause: float = 1.0
    ) -> None:
        self._store = store
        self._server = server
        self._clock = clock
        self._lease = lease
        self._pause = pause
        self._view: tuple[int, float] = (0, float("-inf"))  # the epoch, and until when it may be believed
        self._odd: tuple[int, float] | None = None  # a failure's epoch, and since when it is known here
        self._leave_until = float("-inf")
        self._ask_from = float("-inf")  # after SQL did not answer
        self._refreshing = threading.Lock()

    # -- readers

    def trusted(self) -> int | None:
        """The epoch to read and write under (see ServerState)."""
        now = self._clock.monotonic()
        if now < self._leave_until:
            return None
        epoch, until = self._view
        if now >= until:
            refreshed = self._refresh()
            if refreshed is None:
                return None
            epoch = refreshed
        return None if epoch & 1 else epoch

    def still(self, epoch: int) -> bool:
        """Whether the view is the same and its lease has not run out (see ServerState).

        Asked by a writer after it has locked its user's row. Then no later epoch's values exist yet: a server
        comes back one lease after its failure was declared at the earliest, and this view is younger than that.
        """
        known, until = self._view
        return known == epoch and self._clock.monotonic() < until

    def _refresh(self) -> int | None:
        # With SQL silent, those who queue here would wait for it one after the other.
        if not self._refreshing.acquire(timeout=min(_PATIENCE, self._lease)):
            return None
        try:
            epoch, until = self._view
            now = self._clock.monotonic()
            if now < until:
                return epoch  # somebody else has just asked
            return self._ask() if now >= self._ask_from else None
        finally:
            self._refreshing.release()

    def _ask(self) -> int | None:
        # The lease counts from before the question: the answer may be old when it arrives (l1).
        asked = self._clock.monotonic()
        try:
            epoch = self._store.epoch(self._server)
            if not epoch:
                # A server that this database has never heard of may be full of what another one had it
                # remember. Seconds of the clock give names that are new in any life of the database.
                first = 2 * int(self._clock.seconds())
                epoch = (
                    first
                    if self._store.advance_epoch(self._server, 0, first)
                    else self._store.epoch(self._server)
                )
        except SyncError:
            self._ask_from = self._clock.monotonic() + self._pause
            return None
        self._view = (epoch, asked + self._lease)
        self._note(epoch)
        return epoch

    def _note(self, epoch: int) -> None:
        """Remember since when a failure is known: from after the answer, by this clock (w3)."""
        odd = self._odd
        if not epoch & 1:
            if odd is not None:
                log.info("the cache %s is used again, with epoch %d", self._server, epoch)
            self._odd = None
        elif odd is None or odd[0] != epoch:
            log.info("the cache %s is out of use since epoch %d", self._server, epoch)
            self._odd = (epoch, self._clock.monotonic())

    # -- writers

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """The epoch to mark under, None to go without a mark (see ServerState)."""
        epoch = read_epoch(self._server)
        if not epoch:
            raise Unavailable(f"nothing is known of the cache {self._server} yet", 1)
        self._note(epoch)
        if not epoch & 1:
            return epoch
        # A bare "it has failed" is not enough: others may read under the old epoch until their leases end (w1).
        if self._known_for(epoch) >= self._lease * _DRIFT:
            return None
        raise self._wait()

    def _known_for(self, epoch: int) -> float:
        """Seconds since when this failure is known here; 0 when another thread knows of a later state by now."""
        odd = self._odd
        return self._clock.monotonic() - odd[1] if odd is not None and odd[0] == epoch else 0.0

    def _wait(self) -> Unavailable:
        return Unavailable(f"the cache {self._server} was declared failed just now", int(self._lease) + 1)

    def trouble(self) -> None:
        """Leave the server alone for a moment (see ServerState)."""
        self._leave_until = self._clock.monotonic() + self._pause

    def troubled(self) -> bool:
        """Whether it is being left alone (see ServerState)."""
        return self._clock.monotonic() < self._leave_until

    def declare_failed(self, epoch: int) -> Unavailable:
        """Count the epoch up, unless somebody did (see ServerState)."""
        self.trouble()
        try:
            # Only this very epoch (b1): after a failure and a return it is another server that has failed.
            if self._store.advance_epoch(self._server, epoch):
                self._note(epoch + 1)  # the answer is the first to say so, and comes after the commit
                log.warning(
                    "the cache %s did not answer a writer and is declared failed: it is out of use until it answers",
                    self._server,
                )
            self._view = (self._view[0], float("-inf"))
        except SyncError as error:
            return Unavailable(f"the cache {self._server} does not answer, and neither does SQL: {error}")
        return self._wait()

    # -- coming back

    @property
    def failed(self) -> bool:
        """Whether the server is known to have been declared failed."""
        return self._odd is not None

    @property
    def wait(self) -> float:
        """Seconds until the failure that is known here has been known for a lease; 0 when that is so, or none is."""
        odd = self._odd
        left = 0.0 if odd is None else self._lease * _DRIFT - self._known_for(odd[0])
        return left + 0.001 if left > 0 else 0.0  # a little more than what rounding may take away

    def probe(self, cache: Provider) -> bool:
        """Bring a failed server back, if it is time and it answers; whether it may be trusted now.

        Not before one lease after the failure was first seen here (p1): until then others may use its old names.
        """
        try:
            epoch = self._store.epoch(self._server)
            self._note(epoch)
            if not epoch & 1:
                return True
            if self._known_for(epoch) < self._lease * _DRIFT:
                return False
            cache.store(_PROBE_KEY, b"%d" % epoch)
            cache.retrieve(_PROBE_KEY)
            if self._store.advance_epoch(self._server, epoch):
                self._note(epoch + 1)  # the answer is the first to say so, and comes after the commit
                log.warning("the cache %s answers again and is used from now on", self._server)
        except (SyncError, BackendError, LookupError):
            return False
        self._leave_until = float("-inf")
        self._view = (self._view[0], float("-inf"))
        return True

    # -- an operator's wish

    def current(self) -> int:
        """The epoch, asked now. Raises Unavailable."""
        epoch = self._store.epoch(self._server)
        self._note(epoch)
        return epoch

    def forget_all(self) -> None:
        """Declare the server failed under an epoch whose successor no life of the database has used.

        Counting up by one would not do: a database that was restored from a backup has an old epoch, and what was
        stored under the epochs that it counts up to once more is still there. Seconds of the clock run ahead of any
        count, since a failure and a return take seconds. Raises Unavailable.
        """
        for _ in range(_ATTEMPTS):
            seen = self._store.epoch(self._server)
            failed = max(seen + 1, 2 * int(self._clock.seconds())) | 1
            if self._store.advance_epoch(self._server, seen, failed):
                self._view = (self._view[0], float("-inf"))
                self._note(failed)
                return
        raise Unavailable("others change the state of the cache all the time")
