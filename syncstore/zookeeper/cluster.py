"""One cluster in this process: its present connection, and how it comes to be replaced.

Whoever holds a handle is inside the gate. When a connection has failed, the next one who wants a handle waits until
nobody is inside, for `drain` seconds at most, and makes another. Those who stayed longer find that theirs has ended.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass

from syncstore.zookeeper.connection import Connection, State
from syncstore.zookeeper.ensemble import Ensemble
from syncstore.zookeeper.errors import SessionEnded, ZKBusy, ZKTimeout, ZKUnavailable
from syncstore.zookeeper.failures import Failure
from syncstore.zookeeper.gate import Gate
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.reaper import Reaper
from syncstore.zookeeper.watches import Watches

DRAIN = 5.0
_AUTH_PAUSE = 5.0  # before another attempt, where the servers do not accept who we are
_REVIVE_STEP = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """What there is to say of a cluster. `generation` is 0 before the first use; times are in seconds."""

    name: str
    state: State | None
    generation: int
    session_id: int
    handles: int
    watches: int
    doubtful: int
    slow_callbacks: int
    slowest_callback: float


class Cluster:
    """The client of one cluster: none before the first use, and another in each process."""

    def __init__(self, ensemble: Ensemble, *, drain: float = DRAIN) -> None:
        self.ensemble = ensemble
        self._drain = drain
        self._generation = 0
        self._in_callback = threading.local()
        self.watches = Watches(ensemble.name, self._in_callback)
        self.reaper = Reaper(ensemble.name, self.acquire)
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self.gate = Gate()
        self.connection: Connection | None = None  # the present one; for who knows what it does
        self._opened_at = 0.0
        self._lock = threading.Lock()
        self._reviver: threading.Thread | None = None

    def acquire(self, timeout: float | None = None) -> Handle:
        """A handle, connected. Raises ZKUnavailable after `timeout` seconds, by default the cluster's op_timeout.

        A thread that has one gets another at once, also while somebody waits to replace the connection.
        """
        deadline = time.monotonic() + (self.ensemble.op_timeout if timeout is None else timeout)
        if getattr(self._in_callback, "now", False):
            raise RuntimeError("a watch's callback cannot wait for ZooKeeper: its answers come after it")
        while True:
            self._check_process()  # each time: it may be closed meanwhile
            gate = self.gate
            if not gate.enter(deadline):
                raise ZKTimeout(self.ensemble.name, "its client is being replaced")
            try:
                handle = self._acquired(gate, deadline)
            except BaseException:
                gate.leave()
                raise
            if handle is not None:
                return handle
            gate.leave()
            old = self.connection
            if old is None or old.failed:
                self._replace(old, deadline)

    def try_acquire(self) -> Handle:
        """A handle if there is one without waiting. Raises ZKBusy, and ZKUnavailable when it is not connected."""
        self._check_process()
        gate = self.gate
        if not gate.try_enter():
            raise ZKBusy(self.ensemble.name, "its client is being replaced")
        connection = self.connection
        if connection is not None and connection.state is State.CONNECTED and connection.prepared:
            return self._handle(connection, gate)
        gate.leave()
        if connection is None or connection.failed or not connection.prepared:
            self._revive()
            raise ZKBusy(self.ensemble.name, "its client is being made")
        raise ZKUnavailable(self.ensemble.name, "not connected")

    def status(self) -> Status:
        """What there is to say now. Asks nobody."""
        connection = self.connection
        return Status(
            self.ensemble.name,
            connection.state if connection else None,
            self._generation,
            connection.session_id if connection else 0,
            self.gate.held,
            len(self.watches),
            len(self.reaper),
            self.watches.slow_callbacks,
            self.watches.slowest_callback,
        )

    def close(self) -> None:
        """End the session and its threads, and wake all who wait for a watch. It cannot be used again."""
        self._closed = True
        self.reaper.close()
        self.watches.close("ended with its cluster, which was closed")
        connection, self.connection = self.connection, None
        if connection is not None and self._pid == os.getpid():
            if getattr(self._in_callback, "now", False):
                connection.shut()  # which waits for the thread of the callback
            else:
                connection.shut_now()

    def drop_after_fork(self) -> None:
        """In a child: forget the parent's connection, without a word to the servers."""
        inherited = self.connection
        self.gate.drop_after_fork()  # for a handle that this thread held, and may yet release
        self._begin()
        self.watches.drop_after_fork()
        self.reaper.drop_after_fork()
        if inherited is not None:
            inherited.drop_after_fork()

    # -- inside

    def _check_process(self) -> None:
        if self._closed:
            raise SessionEnded(self.ensemble.name, "it was closed")
        if self._pid != os.getpid():  # forked by something that does not tell Python
            self.drop_after_fork()

    def _acquired(self, gate: Gate, deadline: float) -> Handle | None:
        """Inside the gate: a handle, or None when the connection must be replaced first."""
        connection = self.connection
        nested = gate.depth > 1
        if connection is None or connection.failed:
            if not nested:
                return None
            if connection is None:
                raise SessionEnded(self.ensemble.name, "it was closed")
            return self._handle(connection, gate)
        try:
            connection.ready(deadline)
        except SessionEnded:
            if nested or self._closed or time.monotonic() >= deadline:
                raise
            return None
        return self._handle(connection, gate)

    def _handle(self, connection: Connection, gate: Gate) -> Handle:
        return Handle(connection, self.reaper, self.watches, gate.leave)

    def _replace(self, old: Connection | None, deadline: float) -> None:
        """Make a connection in place of one that has failed, or of none. Raises ZKUnavailable."""
        now = time.monotonic()
        patience = now
        if old is not None:
            if old.failure is Failure.AUTH and now - self._opened_at < _AUTH_PAUSE:
                raise SessionEnded(self.ensemble.name, old.end_reason)
            if old.draining_since is None:
                old.draining_since = now
            patience = old.draining_since + self._drain
        with self.gate.exclusive(deadline, patience) as entered:
            if not entered:
                raise ZKTimeout(self.ensemble.name, "its client is being replaced")
            self._check_process()
            if self.connection is not old or (old is not None and not old.failed):
                return  # replaced meanwhile, or there again with its session
            if old is not None:  # before the next is connected: a watch looks at one of them
                old.end(Failure.LOST, "unreachable for longer than its session lasts")
            self._generation += 1
            connection = Connection(self.ensemble, self._generation, self._notified, self._in_callback)
            connection.open()
            self._opened_at = time.monotonic()
            self.connection = connection
        if self._closed:
            connection.shut()  # closed while it was made
        if old is not None:
            log.warning("ZooKeeper cluster %s: a new session, since %s", self.ensemble.name, old.end_reason)
            old.shut()

    def _notified(self, connection: Connection, state: State) -> None:
        """On the client's own thread: must not wait."""
        if connection is not self.connection and state is not State.CONNECTED:
            return
        self.watches.tell(connection, state)
        if state is not State.CONNECTED and len(self.watches):
            self._revive()

    def _revive(self) -> None:
        """See to it that there is a connection, also when nobody asks for a handle: watches wait for it."""
        with self._lock:
            if self._reviver is None and not self._closed:
                self._reviver = threading.Thread(
                    target=self._until_connected, name=f"zookeeper-revive-{self.ensemble.name}", daemon=True
                )
                self._reviver.start()

    def _until_connected(self) -> None:
        pause = threading.Event()
        while not self._closed:
            try:
                self.acquire().release()
                break
            except ZKUnavailable:
                if not len(self.watches):
                    break
            pause.wait(_REVIVE_STEP)
        with self._lock:
            self._reviver = None
        connection = self.connection
        if len(self.watches) and connection is not None and connection.state is not State.CONNECTED:
            self._revive()  # lost again before we had gone
