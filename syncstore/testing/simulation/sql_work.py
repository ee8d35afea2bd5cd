"""A unit of work on simulated SQL: the row locked, one change prepared, one COMMIT (see storage.durable)."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, NamedTuple

from syncstore.bso import Change
from syncstore.clock import Clock
from syncstore.errors import InvalidBatch, NotFound, OverQuota, Unavailable
from syncstore.storage.durable import KeptTime
from syncstore.testing.simulation import sql_state
from syncstore.testing.simulation.database import Database
from syncstore.testing.simulation.scheduler import Process
from syncstore.testing.simulation.sql_state import Batch, UserState

_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_WAIT_TICKS = 5
_LOST_TICKS = 60 * 100


WriteLock = Callable[[int, str], AbstractContextManager[Any]]
"""Locks a collection of a user for a writer: real locks beside the row, or nothing."""


def no_lock(_uid: int, _collection: str) -> AbstractContextManager[Any]:
    """The row alone."""
    return nullcontext()


class Place(NamedTuple):
    """What all units of work of one process share. Times are in seconds, the quota in bytes."""

    database: Database
    process: Process
    clock: Clock
    lock: WriteLock
    lock_timeout: float
    quota: int | None
    batch_lifetime: int


class SimulatedWork:
    """A unit of work (see storage.durable.DurableWork)."""

    def __init__(
        self,
        place: Place,
        uid: int,
        collection: str | None,
        items: Sequence[str],
        *,
        create: bool,
        rows: bool,
    ) -> None:
        self._place = place
        self._uid = uid
        self._collection = collection
        self._items = frozenset(items)
        self._may_create = create
        self._rows = rows
        self._changed = False
        self._time: int | None = None
        self._quota_left: int | None = None

    # -- the block

    def __enter__(self) -> SimulatedWork:
        place = self._place
        self._locked = place.lock(self._uid, self._collection or "")
        self._locked.__enter__()
        try:
            self._at = place.database.begin(place.process, self._uid, place.lock_timeout)
            self._before = self._after = self._at.row.state
            try:
                if self._collection is not None and self._rows:
                    place.database.statement(self._at, "sql state", self._collection)
            except Unavailable:
                place.database.rollback(self._at)
                raise
        except BaseException as error:
            self._locked.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        database = self._place.database
        try:
            if kind is None and self._after is not self._before:
                self._at.after = self._after
                database.commit(self._at)
            else:
                database.rollback(self._at)
        finally:
            self._locked.__exit__(kind, error, trace)

    # -- what was before

    @property
    def storage_modified(self) -> int:
        """The storage's time before this work (see Work)."""
        return self._before.mark

    @property
    def collection_modified(self) -> int:
        """The collection's time before this work (see Work)."""
        return 0 if self._collection is None else self._before.modified(self._collection)

    def item_modified(self, item: str) -> int:
        """An item's time before this work (see Work)."""
        if item not in self._items or self._collection is None:
            return 0
        found = self._before.items(self._collection).get(item)
        if found is None or (found.expires is not None and found.expires <= self._place.clock.now_ms()):
            return 0
        return found.modified

    @property
    def quota_left(self) -> int | None:
        """Bytes left after the change (see Work)."""
        return self._quota_left

    @property
    def kept(self) -> Mapping[str, KeptTime]:
        """The kept times before this work (see DurableWork)."""
        return self._before.kept

    # -- the change

    def put(self, changes: Sequence[Change]) -> int:
        """Create or partially update items (see Work)."""
        name = self._written()
        return self._write(
            ("put", name, tuple(changes)),
            lambda time: self._before.with_items(
                name, time, sql_state.changed(self._before.items(name), changes, time)
            ),
        )

    def delete_item(self, item: str) -> int:
        """Delete one item (see Work)."""
        if not self.item_modified(item):
            raise NotFound(item)
        return self.delete_items((item,))

    def delete_items(self, items: Sequence[str]) -> int:
        """Delete those of `items` that exist (see Work)."""
        name = self._collection
        if name is None or not self._rows or name not in self._before.collections:
            self._begin()
            return self._before.mark
        gone = self._items.intersection(items)
        rest = {key: item for key, item in self._before.items(name).items() if key not in gone}
        change = ("delete", name, tuple(items))
        return self._write(change, lambda time: self._before.with_items(name, time, rest))

    def delete_collection(self) -> int:
        """Delete the collection with its items (see Work)."""
        name = self._collection
        if name is None or not self._rows or name not in self._before.collections:
            self._begin()
            return self._before.mark
        return self._write(
            ("delete collection", name), lambda time: self._before.without_collection(name, time)
        )

    def delete_all(self) -> int:
        """Delete everything of the user but the row (see Work)."""
        return self._write(("wipe",), lambda time: self._before.wiped(time))

    def create_batch(self) -> str:
        """Open a batch for the collection (see Work)."""
        self._begin()
        batch = base64.urlsafe_b64encode(secrets.token_bytes(8)).rstrip(b"=").decode()
        opened = Batch(self._written(), self._place.clock.now_ms())
        self._after = self._before._replace(batches={**self._before.batches, batch: opened})
        return batch

    def append_to_batch(self, batch: str, changes: Sequence[Change]) -> None:
        """Stage items (see Work)."""
        name = self._written()
        opened = self._after.batches.get(batch) if self._changed else None
        if opened is None:
            self._begin()
            opened = self._open_batch(name, batch)
        more = opened._replace(changes=(*opened.changes, *changes))
        self._after = self._after._replace(batches={**self._after.batches, batch: more})

    def commit_batch(self, batch: str, changes: Sequence[Change]) -> int:
        """Apply everything staged and close the batch (see Work)."""
        name = self._written()
        opened = self._open_batch(name, batch)
        staged = sql_state.merged((*opened.changes, *changes))
        rest = {key: one for key, one in self._before.batches.items() if key != batch}

        def apply(time: int) -> UserState:
            items = sql_state.changed(self._before.items(name), staged, time, batch=True)
            return self._before.with_items(name, time, items)._replace(batches=rest)

        return self._write(("commit", name, batch, tuple(changes)), apply)

    def _open_batch(self, name: str, batch: str) -> Batch:
        if _BATCH_ID.fullmatch(batch) is None:
            raise InvalidBatch("a batch id that was never given out")
        self._place.database.statement(self._at, "sql batch", batch)
        opened = self._before.batches.get(batch)
        oldest = self._place.clock.now_ms() - self._place.batch_lifetime * 1000
        if opened is None or opened.collection != name or opened.created <= oldest:
            raise InvalidBatch("the batch is not open for this collection")
        return opened

    # -- the writer of kept times

    def draw_time(self, later_than: int = 0) -> int:
        """The time of this work's write (see DurableWork)."""
        self._begin()
        self._time = self._draw(later_than)
        self._after = self._before._replace(mark=self._time)
        self._at.change = ("keep", self._collection)
        return self._time

    def keep_time(self, collection: str, kept: KeptTime) -> None:
        """Keep this time when the work commits (see DurableWork)."""
        if self._time is None or kept.time > self._time:
            raise RuntimeError("no time was drawn that covers the kept time")
        self._after = self._after._replace(kept={**self._after.kept, collection: kept})

    def charge(self, more: int) -> None:
        """Raise OverQuota when `more` bytes are too many (see DurableWork)."""
        quota = self._place.quota
        if quota is None:
            return
        self._place.database.statement(self._at, "sql quota")
        now = self._place.clock.now_ms() if self._time is None else self._time * 10
        self._check_quota(quota, self._before.used(now) + more, more)

    def epoch(self, server: str) -> int:
        """The epoch of a cache server, read now (see DurableWork)."""
        self._place.database.statement(self._at, "sql epoch in work")
        return self._place.database.epoch(server)

    def confirm_lock(self) -> None:
        """Raise Unavailable when the connection was lost (see DurableWork)."""
        self._place.database.statement(self._at, "sql confirm")

    # -- inside

    def _begin(self) -> None:
        if self._changed:
            raise RuntimeError("a unit of work makes one change")
        self._changed = True

    def _written(self) -> str:
        if self._collection is None or not self._rows:
            raise RuntimeError("the work has no collection with rows")
        if not self._may_create and self._collection not in self._before.collections:
            raise RuntimeError("the work was opened neither to create its collection nor for an existing one")
        return self._collection

    def _write(self, change: tuple[Any, ...], apply: Callable[[int], UserState]) -> int:
        """Draw a time, apply the change if the quota admits it."""
        self._begin()
        time = self._draw(0)
        after = apply(time)
        quota = self._place.quota
        if quota is not None and change[0] in ("put", "commit"):
            self._place.database.statement(self._at, "sql quota")
            used = after.used(time * 10)
            self._check_quota(quota, used, used - self._before.used(time * 10))
        self._after = after
        self._time = time
        self._at.change = change
        return time

    def _check_quota(self, quota: int, used: int, more: int) -> None:
        if used > quota and more > 0:
            self._after = self._before  # even when the block goes on
            raise OverQuota(used, quota)
        self._quota_left = max(0, quota - used)

    def _draw(self, later_than: int) -> int:
        """The present, and later than everything of this user before; waits for a clock a little behind."""
        clock = self._place.clock
        earliest = max(self._before.mark, later_than) + 1
        ahead = earliest - clock.now()
        if ahead > _LOST_TICKS:
            raise Unavailable("the clock is far behind the last write of the user", 60)
        deadline = clock.monotonic() + _WAIT_TICKS * 0.01
        while 0 < ahead <= _WAIT_TICKS and clock.monotonic() < deadline:
            clock.sleep(ahead * 0.01 - clock.now_ms() % 10 * 0.001)
            ahead = earliest - clock.now()
        return max(earliest, clock.now())
