"""The one door to kazoo: its client, changed so that nothing waits in it for a connection, and forgets no watch table.

kazoo brings the wire protocol, reconnecting and the session. What it does that we cannot have, and what is done here:

* While it is disconnected it queues requests and sends them when it is connected again, whether or not the caller
  still waits: a create would be made later. Here a request meets a connected client or is refused, under the lock
  under which the client stops being connected, and what was queued when it stopped fails.
* After an expired session it begins a new one by itself, with the same watches and listeners. Here a client has one
  session; its owner makes another client.
* A watch that never fires stays in its tables for ever. Here it can be taken out.
* The backoff of reconnecting grows to an hour, and a connection may hang for the whole session timeout.
* An answer out of step ends its thread with an exception. Here it is a broken connection.
* At DEBUG it logs every request: values, and the password.

It reaches into private parts for this, so the version of kazoo is bounded in pyproject.toml.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from kazoo import exceptions as kazoo_errors
from kazoo.client import KazooClient
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol import serialization as requests
from kazoo.protocol.connection import PING_XID, ConnectionHandler
from kazoo.protocol.states import KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import OPEN_ACL_UNSAFE, make_digest_acl

from syncstore.zookeeper.ensemble import Ensemble

__all__ = ["Answer", "Client", "KazooTimeoutError", "NotSent", "OneShot", "kazoo_errors", "requests"]

Answer = Any
"""kazoo's AsyncResult: an answer that will come. `get(timeout=seconds)` waits for it."""

_FIRST_RETRY = 0.05
_LONGEST_RETRY = 1.0
_STOP_SECONDS = 30.0

log = logging.getLogger(__name__)
log.setLevel(logging.INFO)
log.addFilter(lambda record: record.levelno >= logging.INFO)  # at DEBUG kazoo would log values and passwords


class NotSent(kazoo_errors.ConnectionLoss):  # type: ignore[misc]  # kazoo has no types
    """The client was not connected: the request was not sent and will not be."""


class OneShot(Protocol):
    """What is called when a watch fires, once, on the client's own thread: it must not block.

    One that is `spent` is not kept waiting for it.
    """

    spent: bool

    def __call__(self, event: Any) -> None: ...


class Client(KazooClient):  # type: ignore[misc]  # kazoo has no types
    """A client with one session. `changed` is called, on the client's own thread, when its state has changed.

    It must not block. `proof` is when, on time.monotonic(), we sent the last request that was answered.
    """

    def __init__(self, ensemble: Ensemble, changed: Callable[[], None]) -> None:
        self._sending = threading.Lock()
        self.may_send = False
        self.session_timeout = ensemble.session_timeout
        self.proof = 0.0
        self._changed = changed
        auth = ensemble.auth
        self.acl = [make_digest_acl(auth.user, auth.secret, all=True)] if auth else OPEN_ACL_UNSAFE
        retry = KazooRetry(max_tries=-1, delay=_FIRST_RETRY, max_delay=_LONGEST_RETRY)
        super().__init__(
            hosts=",".join(map(str, ensemble.hosts)),
            timeout=ensemble.session_timeout,
            handler=_Threads(ensemble.connect_timeout),
            auth_data={("digest", f"{auth.user}:{auth.secret}")} if auth else None,
            connection_retry=retry,
            logger=log,
        )
        # The interrupt is copied with the retry, and is_set() of the event is all that it asks.
        self._connection = _Line(self, self._conn_retry.copy(), logger=log)
        self.add_listener(self._tell)

    def ask(self, request: Any) -> Answer:
        """Send a request if we are connected; the answer fails with NotSent if not. Not on the client's own thread."""
        answer = self.handler.async_result()
        self._call(request, answer)
        return answer

    def ask_all(self, questions: Sequence[Any]) -> list[Answer]:
        """Send several requests, all on one connection and nothing in between; their answers come in this order.

        All fail with NotSent if we are not connected.
        """
        answers = [self.handler.async_result() for _ in questions]
        with self._sending:
            line = self._connection._write_sock
            if not self.may_send:
                for answer in answers:
                    answer.set_exception(NotSent())
                return answers
            self._queue.extend(zip(questions, answers, strict=True))
        try:
            line.sendall(bytes(len(answers)))
        except (OSError, AttributeError):  # closed meanwhile, see _call
            for answer in answers:
                if not answer.ready():
                    answer.set_exception(kazoo_errors.ConnectionClosedError())
        return answers

    def expire_watch(self, tables: str, path: str, shot: OneShot) -> None:
        """Forget a watch that has not fired."""
        shot.spent = True
        table: _WatchTable = getattr(self, tables)
        table.discard(path, shot)

    def on_watch_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call it there, after what was given there before."""
        self.handler.callback_queue.put(lambda: function(*arguments))

    def on_completion_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call it there: for what asks, which the client's own thread must not, since it may wait for that thread."""
        self.handler.completion_queue.put(lambda: function(*arguments))

    @property
    def expired(self) -> bool:
        """Whether a server said that the session is over."""
        return bool(self.client_state == KeeperState.EXPIRED_SESSION)

    @property
    def refused(self) -> bool:
        """Whether a server did not accept who we are."""
        return bool(self.client_state == KeeperState.AUTH_FAILED)

    @property
    def stopped(self) -> bool:
        """Whether its thread has ended, and it will not connect any more."""
        return bool(self.client_state == KeeperState.CLOSED)

    @property
    def watches(self) -> int:
        """How many watches kazoo keeps."""
        return len(self._data_watchers) + len(self._child_watchers)

    def shut(self) -> None:
        """End the session if it has one, the threads and the sockets. May take as long as a connection attempt."""
        self._stopped.set()
        stopped = self._connection.connection_stopped
        if not stopped.is_set():
            self._queue.append((requests.CloseInstance, None))
            with suppress(OSError, AttributeError):  # it may have lost the pair that wakes it
                self._connection._write_sock.send(b"\0")
        self.handler.stop()
        if not stopped.wait(_STOP_SECONDS):  # kazoo's stop would then wait for ever
            log.warning("a ZooKeeper client did not stop within %s s", _STOP_SECONDS)
            return
        self._connection.stop()
        self._connection.close()

    def drop_after_fork(self) -> None:
        """In a child: close what was inherited, and say nothing to the server, whose session is the parent's."""
        atexit.unregister(self.handler.stop)  # it would wait for threads that are not here
        line = self._connection
        for inherited in (line._socket, line._read_sock, line._write_sock):
            if inherited is not None:
                with suppress(OSError):
                    inherited.close()

    # -- what kazoo calls

    def _call(self, request: Any, async_object: Any) -> bool:
        with self._sending:
            if not self.may_send:
                async_object.set_exception(NotSent())
                return False
            self._queue.append((request, async_object))
            line = self._connection._write_sock
        # Without the lock: the send waits while the pair is full, for the thread that may want the lock to disconnect.
        # A byte too many does no harm.
        try:
            line.send(b"\0")
        except (OSError, AttributeError):  # closed meanwhile: what is in the queue is never sent
            if not async_object.ready():
                async_object.set_exception(kazoo_errors.ConnectionClosedError())
        return True

    def _session_callback(self, state: Any) -> None:
        with self._sending:
            self.may_send = state == KeeperState.CONNECTED
        if state in (KeeperState.EXPIRED_SESSION, KeeperState.AUTH_FAILED):
            self._stopped.set()  # one session is all
        super()._session_callback(state)

    def _reset_watchers(self) -> None:
        """Forget all: whoever watches is told of the new state, and arms again."""
        self._data_watchers = _WatchTable()
        self._child_watchers = _WatchTable()

    def _tell(self, _state: Any) -> None:
        self._changed()


class _WatchTable:
    """Watches by path, for kazoo's thread to add and take and for others to discard from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shots: dict[str, set[OneShot]] = {}

    def __len__(self) -> int:
        return len(self._shots)

    def __getitem__(self, path: str) -> _Place:
        return _Place(self, path)

    def add(self, path: str, shot: OneShot) -> None:
        with self._lock:
            if not shot.spent:
                self._shots.setdefault(path, set()).add(shot)

    def pop(self, path: str, default: Iterable[OneShot]) -> Iterable[OneShot]:
        with self._lock:
            return self._shots.pop(path, default)

    def discard(self, path: str, shot: OneShot) -> None:
        with self._lock:
            shots = self._shots.get(path)
            if shots is not None:
                shots.discard(shot)
                if not shots:
                    del self._shots[path]


class _Place:
    """`table[path].add(shot)` is how kazoo writes it."""

    def __init__(self, table: _WatchTable, path: str) -> None:
        self._table = table
        self._path = path

    def add(self, shot: OneShot) -> None:
        self._table.add(self._path, shot)


class _Threads(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's threads and sockets, with a bound on how long one connection may take to open."""

    def __init__(self, connect_timeout: float) -> None:
        super().__init__()
        self.connect_timeout = connect_timeout

    def dispatch_callback(self, callback: Any) -> None:
        """A watch fires. At once: it only wakes who waits; a callback it gives to `Client.on_watch_thread`."""
        callback.func(*callback.args)

    def create_connection(self, *args: Any, timeout: float, **kwargs: Any) -> Any:
        return super().create_connection(*args, timeout=min(timeout, self.connect_timeout), **kwargs)


class _Line(ConnectionHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's connection, which tells what session timeout was granted and when the server was last heard of."""

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        sent = time.monotonic()
        answer = super()._invoke(min(timeout, self.handler.connect_timeout), request, xid)
        if isinstance(request, requests.Connect) and answer[0].time_out > 0:
            self.client.session_timeout = answer[0].time_out / 1000
            self.client.proof = sent
        return answer

    def _submit(self, request: Any, timeout: float, xid: int | None = None) -> None:
        if xid == PING_XID:
            self._ping_sent = time.monotonic()
        super()._submit(request, timeout, xid)

    def _read_response(self, header: Any, buffer: Any, offset: int) -> Any:
        # A server that finds that the session has moved to another sends no answer to what it was asked, and may
        # answer what was asked later before it hangs up. kazoo's thread would end there.
        pending = self.client._pending
        if not pending or pending[0][2] != header.xid:
            raise kazoo_errors.ConnectionDropped("an answer to another question than the oldest")
        return super()._read_response(header, buffer, offset)

    def _read_header(self, timeout: float) -> Any:
        read = super()._read_header(timeout)
        if read[0].xid == PING_XID:
            self.client.proof = max(self.client.proof, self._ping_sent)
        return read
