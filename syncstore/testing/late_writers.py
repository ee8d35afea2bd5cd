"""A process whose writers have their locks and then hang, until others have written: what comes late must do no harm.

It is a whole application of its own, in which each write of a test stops where it has got its lock and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from multiprocessing.connection import Connection
from typing import Any, NamedTuple
from unittest import mock

from syncstore.app import make_app
from syncstore.app_cache import open_lock_backend
from syncstore.locks.api import Grant, Key, LockBackend, Mode
from syncstore.testing.client import SyncClient
from syncstore.testing.transports import InProcess

_SECONDS = 60.0


class Late(NamedTuple):
    """One write: `unless` is its X-If-Unmodified-Since, None for a write without."""

    uid: int
    collection: str
    payload: str
    unless: Decimal | None


class Outcome(NamedTuple):
    """What became of one: the answer's status and time, and whether the lock was known to be lost on waking."""

    status: int
    modified: Decimal | None
    known_lost: bool


class _Stopping:
    """A lock backend whose every first grant in a round is held back."""

    def __init__(self, behind: LockBackend) -> None:
        self.behind = behind
        self.name = behind.name
        self.got = threading.Semaphore(0)
        self.go = threading.Event()
        self.lost: dict[int, bool] = {}

    def acquire(self, key: Key, mode: Mode, timeout: float) -> Grant:
        grant = self.behind.acquire(key, mode, timeout)
        if not self.go.is_set():
            self.got.release()
            self.go.wait(_SECONDS)
            self.lost[key[0]] = not grant.valid()
        return grant

    def sweep(self) -> Iterator[int]:
        return self.behind.sweep()

    def close(self) -> None:
        self.behind.close()


def _live(end: Connection, settings: Mapping[str, str], secret: str) -> None:
    made: list[_Stopping] = []

    def opened(*arguments: Any) -> LockBackend:
        made.append(_Stopping(open_lock_backend(*arguments)))
        return made[-1]

    with mock.patch("syncstore.app.open_lock_backend", opened):
        app: Any = make_app(dict(settings))
    (stopping,) = made
    end.send("ready")
    while True:
        try:
            writes: list[Late] = end.recv()
        except EOFError:
            return

        def write(late: Late) -> Outcome:
            headers = {} if late.unless is None else {"X-If-Unmodified-Since": str(late.unless)}
            client = SyncClient(late.uid, secret, InProcess(app))
            reply = client.put(f"/storage/{late.collection}/a", {"payload": late.payload}, headers)
            modified = reply.modified if reply.status == 200 else None
            return Outcome(reply.status, modified, stopping.lost[late.uid])

        stopping.go.clear()
        with ThreadPoolExecutor(len(writes)) as threads:
            answers = [threads.submit(write, late) for late in writes]
            for _ in writes:
                assert stopping.got.acquire(timeout=_SECONDS), "a writer got no lock"
            end.send("held")
            end.recv()
            stopping.go.set()
            end.send([answer.result(_SECONDS) for answer in answers])


class LateWriters:
    """The process. `settings` are those of its application, whose locks are not in SQL."""

    def __init__(self, settings: Mapping[str, str], secret: str) -> None:
        self._end, far = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_live, args=(far, settings, secret), daemon=True)
        self._process.start()
        far.close()
        assert self._answer() == "ready"

    @contextmanager
    def frozen(self, writes: Sequence[Late], outcomes: list[Outcome]) -> Iterator[None]:
        """While the process is frozen with a lock for each write; at the end it goes on, and `outcomes` are filled."""
        assert self._process.pid is not None
        self._end.send(list(writes))
        assert self._answer() == "held"
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)
        self._end.send("go")
        outcomes += self._answer()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join(_SECONDS)
        self._process.close()
        self._end.close()

    def _answer(self) -> Any:
        if not self._end.poll(_SECONDS):
            raise TimeoutError("the late writers do not answer")
        return self._end.recv()
