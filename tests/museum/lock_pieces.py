"""Pieces about locks: a store that leaves to a lock in the cache what only the user's row can decide."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from syncstore.cache.api import BackendError, NotFound
from syncstore.locks.api import Key, Mode
from syncstore.locks.memcached import MemcachedGrant, MemcachedLocks
from syncstore.storage.api import Storage
from syncstore.testing.simulation.configurations import CONFIGURATIONS, Parts
from syncstore.testing.simulation.database import Transaction, Version
from syncstore.testing.simulation.plan import CACHED_ONLY, UNCACHED, WRITE_THROUGH, Mix
from syncstore.testing.simulation.sql_state import UserState
from syncstore.testing.simulation.sql_store import SimulatedStorage
from syncstore.testing.simulation.sql_work import SimulatedWork
from tests.museum.piece import Build, Piece, replaced


class BlindGrant(MemcachedGrant):
    __slots__ = ()

    def release(self) -> None:
        try:
            self._locks.provider.remove(self._cell._name)
        except (NotFound, BackendError):
            return


class BlindRelease(MemcachedLocks):
    def acquire(self, key: Key, mode: Mode, timeout: float) -> MemcachedGrant:
        grant = super().acquire(key, mode, timeout)
        grant.__class__ = BlindGrant
        return grant


def _releases_blindly(parts: Parts) -> Storage:
    of_tasks: Any = parts.below._place.lock  # type: ignore[attr-defined]  # it is the simulated store
    of_tasks._new.args[0].__class__ = BlindRelease
    return CONFIGURATIONS["layered"].build(parts)


class OpensAs(SimulatedStorage):
    """Units of work of another class."""

    work: type[SimulatedWork]

    def lock_for_write(
        self, uid: int, collection: str | None, items: Any = (), *, create: bool = False
    ) -> Any:
        return self.work(self._place, uid, collection, items, create=create, rows=True)


class _Unlocked(SimulatedWork):
    """Reads without the row's lock, and has none at its commit: the lock in the cache is all there is."""

    def __enter__(self) -> SimulatedWork:
        place = self._place
        self._locked = place.lock(self._uid, self._collection or "")
        self._locked.__enter__()
        try:
            place.database.read(place.process, "sql state, nothing locked")
        except BaseException as error:
            self._locked.__exit__(type(error), error, None)
            raise
        row = place.database.row(self._uid)
        self._at = Transaction(row, place.process, place.database._request())
        self._before = self._after = row.state
        return self

    def _write(self, change: tuple[Any, ...], apply: Callable[[int], UserState]) -> int:
        self._apply = apply
        return super()._write(change, apply)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        database, at = self._place.database, self._at
        try:
            if kind is None and self._after is not self._before:
                database.world.step("sql COMMIT", at.change)
                self._before = at.row.state
                at.row.exists = True
                at.row.state = self._apply(self._time or 0)
                at.row.versions.append(Version(at.row.state, database._count(), at.request, at.change))
        finally:
            self._locked.__exit__(kind, error, trace)


class _CallByCall(_Unlocked):
    """Each call is a transaction: what was read may have changed when the row is locked, at last, to be written."""

    def _write(self, change: tuple[Any, ...], apply: Callable[[int], UserState]) -> int:
        database, place = self._place.database, self._place
        self._at = database.begin(place.process, self._uid, place.lock_timeout)
        self._before = self._after = self._at.row.state
        return SimulatedWork._write(self, change, apply)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._at.row.owner is self._at:
            SimulatedWork.__exit__(self, kind, error, trace)
        else:
            self._locked.__exit__(kind, error, trace)


class _ClockOnly(SimulatedWork):
    def _draw(self, later_than: int) -> int:
        return self._place.clock.now()


def _alone(work: type[SimulatedWork]) -> Build:
    """The store without the layer, with such units of work."""
    cls = type("Opens", (OpensAs,), {"work": work})

    def build(parts: Parts) -> Storage:
        parts.below.__class__ = cls
        return parts.below

    return build


_ONE: Final = (UNCACHED,)
_LOCK_LOSSES: Final = ("evict", "evict", "flush", "restart", "freeze long", "time passes long")

PIECES: Final = (
    Piece(
        "lock-released-blindly",
        "the 2012 layer, L1",
        "Who releases a lock removes it, though it may be another's by then.",
        "Nothing here.",
        "",
        _releases_blindly,
        Mix((UNCACHED, WRITE_THROUGH, CACHED_ONLY), _LOCK_LOSSES, most_clients=6),
        memcached_locks=True,
        harmless="Locks make writers wait, and the user's row decides: two who both believe to have the lock still "
        "write one after the other.",
    ),
    Piece(
        "lock-without-fencing",
        "the 2012 layer, L2",
        "A write relies on the lock in the cache, and does not lock the row.",
        "When the cache has lost the lock two writers draw the same time: a device misses one of them.",
        "time not greater",
        _alone(_Unlocked),
        Mix(_ONE, _LOCK_LOSSES, 6, 6, 4, ("put", "put", "read")),
        memcached_locks=True,
        heals=False,
    ),
    Piece(
        "zookeeper-lock-without-fencing",
        "the design of the locks, section 6.1",
        "A write relies on the lock in ZooKeeper, and does not lock the row.",
        "When a process has lost its session, and not noticed, two writers draw the same time: a device misses one.",
        "time not greater",
        _alone(_Unlocked),
        Mix(_ONE, ("session lost", "freeze long", "kill"), 6, 6, 4, ("put", "put", "read")),
        zookeeper_locks=True,
        heals=False,
    ),
    Piece(
        "times-from-the-clock",
        "the 2012 layer, L3",
        "The time of a write is that of the clock, even when the last write had it, too.",
        "Two writes within a tick have one time: who knows the first never asks for the second.",
        "time not greater",
        replaced(type("ClockOnly", (OpensAs,), {"work": _ClockOnly})),
        Mix(_ONE, kinds=("put", "put", "news")),
    ),
    Piece(
        "call-by-call",
        "the 2012 layer, L4",
        "Under a lock in the cache each call of the store is a transaction of its own.",
        "A precondition was right when it was checked: with the lock lost, a device overwrites what it never saw.",
        "a work saw what was not there",
        _alone(_CallByCall),
        Mix(_ONE, _LOCK_LOSSES, 6, 6, 4, ("put", "put", "read")),
        memcached_locks=True,
        heals=False,
    ),
)
