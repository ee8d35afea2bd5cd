"""What a lock is here: the rules of re-entrance, and what a backend must bring.

A lock makes writers wait; it never decides who was right. That is the store's part, which locks and checks the
user's row in the transaction that writes. So a lock that is lost costs a refused write, never data.

Rules for one thread that asks for (uid, collection):

| held in this thread | asks for read     | asks for write       |
|---------------------|-------------------|----------------------|
| nothing             | acquire shared    | acquire exclusive    |
| read                | deeper, no I/O    | LockUpgradeError     |
| write               | deeper, no I/O    | deeper, no I/O       |

A lock is released when the outermost block ends, also by an exception, and an error of the release is logged
and never masks what the block did. Locks belong to the thread that took them; asyncio is not supported.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Protocol

from syncstore.clock import Clock
from syncstore.errors import LockLost, LockUpgradeError, SyncError

Mode = Literal["read", "write"]
Key = tuple[int, str]

# The lock that a whole-storage operation takes. It sorts before every collection, as the order of taking
# several locks demands.
WHOLE_STORAGE = ""

log = logging.getLogger(__name__)


class Grant(Protocol):
    """What a backend gave: one held lock."""

    @property
    def token(self) -> int:
        """A number of the backend for this holding, for logs and multi-step work; 0 where there is none."""

    def valid(self) -> bool:
        """Whether the lock is still held as far as can be told without asking."""

    def release(self) -> None:
        """Give the lock back. May raise any SyncError; the lock then ends by lease, session or connection."""


class LockBackend(Protocol):
    """Where locks are kept."""

    @property
    def name(self) -> str:
        """The backend's name in settings."""

    def acquire(self, key: Key, mode: Mode, timeout: float) -> Grant:
        """Take the lock, waiting up to `timeout` seconds; 0 does not wait.

        Raises LockTimeout when others held it all that time, LockUnavailable when the service cannot be asked.
        """

    def sweep(self) -> Iterator[int]:
        """Remove what holders who died have left and is in nobody's way, a bounded step at a time: how much.

        Most backends have nothing of that kind. Raises LockUnavailable.
        """

    def close(self) -> None:
        """Give back its own connections. No lock may be held."""


class LockHandle:
    """One `with` block's hold on a lock. Not to be used after the block, nor by another thread."""

    __slots__ = ("_held", "_locks", "_open")

    def __init__(self, locks: Locks, held: _Held) -> None:
        self._locks = locks
        self._held = held
        self._open = True

    @property
    def mode(self) -> Mode:
        """The mode that is really held: a read inside a write stays exclusive."""
        return self._use().mode

    @property
    def depth(self) -> int:
        """How many blocks of this thread hold the lock."""
        return self._use().depth

    @property
    def backend(self) -> str:
        """The name of the backend that gave it."""
        return self._locks.backend.name

    @property
    def token(self) -> int:
        """The backend's number for this holding (see Grant)."""
        return self._use().grant.token

    @property
    def grant(self) -> Grant:
        """What the backend gave, for a store that shares its transaction with the lock."""
        return self._use().grant

    def valid(self) -> bool:
        """Whether the lock is still held as far as can be told without asking."""
        return self._use().grant.valid()

    def check(self) -> None:
        """Raise LockLost when the lock is known to be gone."""
        if not self.valid():
            raise LockLost(f"the lock on {self._held.key} is gone")

    def _use(self) -> _Held:
        if not self._open:
            raise RuntimeError("a lock handle was used after its block")
        if self._held.thread != threading.get_ident():
            raise RuntimeError("a lock handle was used by another thread")
        return self._held

    def __enter__(self) -> LockHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held = self._use()
        self._open = False
        self._locks.leave(held)


class _Held:
    __slots__ = ("depth", "grant", "key", "mode", "thread")

    def __init__(self, key: Key, mode: Mode, grant: Grant) -> None:
        self.key = key
        self.mode = mode
        self.grant = grant
        self.depth = 1
        self.thread = threading.get_ident()


class _HeldByThread(threading.local):
    def __init__(self) -> None:
        self.table: dict[Key, _Held] = {}


class Locks:
    """The locks of one process over one backend. `timeout` is in seconds; 0 means never to wait."""

    def __init__(self, backend: LockBackend, clock: Clock, timeout: float) -> None:
        self.backend = backend
        self._clock = clock
        self._timeout = timeout
        self._mine = _HeldByThread()
        self.lost_at_release = 0

    def read(self, uid: int, collection: str, timeout: float | None = None) -> LockHandle:
        """Share the collection with other readers. Used as `with locks.read(uid, collection): ...`."""
        return self._enter((uid, collection), "read", timeout)

    def write(self, uid: int, collection: str, timeout: float | None = None) -> LockHandle:
        """Have the collection alone. Raises LockTimeout, LockUnavailable, LockUpgradeError."""
        return self._enter((uid, collection), "write", timeout)

    def sweep(self) -> Iterator[int]:
        """Remove what holders who died have left, a step at a time (see LockBackend). Raises LockUnavailable."""
        return self.backend.sweep()

    def close(self) -> None:
        """Give back what the backend holds. No lock may be held."""
        self.backend.close()

    def _enter(self, key: Key, mode: Mode, timeout: float | None) -> LockHandle:
        table = self._mine.table
        held = table.get(key)
        if held is None:
            self._check_order(table, key)
            grant = self.backend.acquire(key, mode, self._timeout if timeout is None else timeout)
            held = table[key] = _Held(key, mode, grant)
        else:
            if mode == "write" and held.mode == "read":
                raise LockUpgradeError(f"this thread holds {key} for reading and asks to write")
            held.depth += 1
        return LockHandle(self, held)

    def _check_order(self, table: dict[Key, _Held], key: Key) -> None:
        # Two threads that take two collections of a user in different orders wait for each other until one
        # times out. That is a fault of the code, best seen at once; it costs nothing when nothing is held.
        if table and any(other[0] == key[0] and other > key for other in table):
            raise RuntimeError(f"locks must be taken in ascending order: {key} after {sorted(table)}")

    def leave(self, held: _Held) -> None:
        """One block of this thread has ended; the last one gives the lock back."""
        held.depth -= 1
        if held.depth:
            return
        del self._mine.table[held.key]
        try:
            held.grant.release()
        except SyncError as error:
            self.lost_at_release += 1
            log.warning("lock on %s was lost before its release: %s", held.key, error)
