"""Somebody else who holds locks: another thread or another process, doing what the test says, one thing at a time.

Both run the same loop at the end of a pipe. A process starts afresh and opens its locks by itself, so what opens
them has to be picklable: a function of an importable module, or a partial of one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from syncstore.locks.api import LockHandle, Locks, Mode

OpenLocks = Callable[[], AbstractContextManager[Locks]]
_START_SECONDS = 60.0
_DONE = {"enter": "held", "leave": "left", "count": "counted"}


def _obey(end: Connection, locks: Locks) -> None:
    """Take and give back locks until the other end closes."""
    held: list[LockHandle] = []
    while True:
        try:
            word, *arguments = end.recv()
        except EOFError:
            return
        try:
            if word == "enter":
                held.append(_enter(locks, *arguments))
            elif word == "leave":
                held.pop().__exit__(None, None, None)
            elif word == "count":
                _count(locks, *arguments)
            elif word != "look":
                return
        except Exception as error:  # noqa: BLE001, RUF100 - whatever it is, the test is told its name
            end.send(type(error).__name__)
        else:
            end.send(_DONE.get(word) or ("valid" if held[-1].valid() else "lost"))


def _enter(locks: Locks, mode: Mode, uid: int, collection: str, timeout: float) -> LockHandle:
    take = locks.read if mode == "read" else locks.write
    return take(uid, collection, timeout).__enter__()


def _count(locks: Locks, uid: int, path: str, rounds: int, timeout: float) -> None:
    counter = Path(path)
    for _ in range(rounds):
        with locks.write(uid, "col", timeout):
            counter.write_text(str(int(counter.read_text("ascii")) + 1), "ascii")


def _live(end: Connection, open_locks: OpenLocks) -> None:
    with open_locks() as locks:
        end.send("ready")
        _obey(end, locks)


class Holder:
    """The other one; `enter` and `leave` answer "held" and "left", or the name of the error."""

    def __init__(self) -> None:
        self._end, self._far_end = multiprocessing.Pipe()

    def enter(self, mode: Mode, uid: int, collection: str = "col", timeout: float = 0.0) -> str:
        """Take a lock and keep it."""
        self.begin_to_enter(mode, uid, collection, timeout)
        return self.outcome()

    def begin_to_enter(self, mode: Mode, uid: int, collection: str, timeout: float) -> None:
        """Ask for a lock without waiting what becomes of it."""
        self._end.send(("enter", mode, uid, collection, timeout))

    def outcome(self, seconds: float = _START_SECONDS) -> str:
        """What became of the last request."""
        if not self._end.poll(seconds):
            raise TimeoutError("the holder does not answer")
        answer: str = self._end.recv()
        return answer

    def waits(self, seconds: float) -> bool:
        """Whether the last request is not decided for so long."""
        return not self._end.poll(seconds)

    def leave(self) -> str:
        """Give back the lock taken last."""
        self._end.send(("leave",))
        return self.outcome()

    def begin_to_count(self, uid: int, path: Path, rounds: int, timeout: float) -> None:
        """Add one to the number in a file so many times, each time under the lock; the outcome is "counted"."""
        self._end.send(("count", uid, str(path), rounds, timeout))

    def look(self) -> str:
        """Whether the lock taken last is still "valid" as far as the holder can tell, or "lost"."""
        self._end.send(("look",))
        return self.outcome()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.send(("end",))
        self._end.close()


class HolderThread(Holder):
    """Another thread of this process, with the same Locks."""

    def __init__(self, locks: Locks) -> None:
        super().__init__()
        self._thread = threading.Thread(target=_obey, args=(self._far_end, locks))
        self._thread.start()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._thread.join(_START_SECONDS)
        self._far_end.close()


class HolderProcess(Holder):
    """Another process, with Locks of its own."""

    def __init__(self, open_locks: OpenLocks) -> None:
        super().__init__()
        context = multiprocessing.get_context("spawn")  # a fork would share our connections
        self._process = context.Process(target=_live, args=(self._far_end, open_locks), daemon=True)
        self._process.start()
        self._far_end.close()
        assert self.outcome() == "ready"

    def kill9(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.join(_START_SECONDS)

    def freeze(self) -> None:
        """Stop it in its tracks."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def __exit__(self, *error: Any) -> None:
        with ExitStack() as last:
            last.callback(self._process.close)
            last.callback(self._process.join, _START_SECONDS)
            if self._process.is_alive():
                self.thaw()
                super().__exit__(*error)
            else:
                self._end.close()
