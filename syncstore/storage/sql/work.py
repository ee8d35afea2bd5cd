"""The unit of work: one user locked, one change, one commit.

The order is the contract that the cache layer rests on: lock the user's row, read what the change needs in a
later statement, decide, then send all writes together with COMMIT. Until then nothing has been written but what
a batch commit stages, and leaving the block with an exception takes that back.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

from syncstore.bso import Change
from syncstore.clock import MS_PER_TICK, Clock
from syncstore.errors import NotFound, OverQuota, Unavailable
from syncstore.locks.api import WHOLE_STORAGE, LockHandle, Locks
from syncstore.locks.sql import SqlGrant
from syncstore.storage.sql.batches import Batches
from syncstore.storage.sql.changes import rows_of
from syncstore.storage.sql.clauses import MAX_IDS
from syncstore.storage.sql.dialects.api import StoredRow, Write
from syncstore.storage.sql.engine import Database, Transaction
from syncstore.storage.sql.names import CollectionNames
from syncstore.storage.sql.statements import Statements

# A user who writes faster than the clock ticks waits for it, this many ticks at most. A clock that is further
# behind (other machines' clocks, a small step back) is overtaken; one that is behind by more than _LOST_TICKS was
# set wrong, here or at an earlier write, and times in the far future would stay with the user for ever.
_WAIT_TICKS = 5
_LOST_TICKS = 60 * 100
_RETRY_AFTER_CLOCK = 60
# Bytes. With less left clients are told how much it is (sync-api section 11), so it has to be exact.
_NEARLY_FULL = 1024 * 1024


class Workplace(NamedTuple):
    """What every unit of work of one store shares. `quota` is in bytes, None when there is none."""

    database: Database
    statements: Statements
    names: CollectionNames
    locks: Locks
    clock: Clock
    batches: Batches
    quota: int | None


class SqlWork:
    """A unit of work on SQL (see `storage.api.Work`)."""

    __slots__ = (
        "_at",
        "_bytes",
        "_changed",
        "_collection",
        "_count",
        "_create",
        "_existing",
        "_handle",
        "_items",
        "_mark",
        "_modified",
        "_number",
        "_place",
        "_present",
        "_quota_left",
        "_uid",
        "_writes",
    )

    def __init__(
        self, place: Workplace, uid: int, collection: str | None, items: Sequence[str], *, create: bool
    ) -> None:
        if len(items) > MAX_IDS:
            raise ValueError(f"a unit of work takes at most {MAX_IDS} items, not {len(items)}")
        self._place = place
        self._uid = uid
        self._collection = collection
        self._items = items
        self._create = create
        self._number: int | None = None
        self._present = False
        self._modified = self._count = self._bytes = 0
        self._existing: dict[str, StoredRow] = {}
        self._writes: list[Write] = []
        self._changed = False
        self._quota_left: int | None = None

    # -- the block

    def __enter__(self) -> SqlWork:
        place = self._place
        if self._collection is not None:
            # Before the lock: the names have a transaction of their own, which SQLite could not run beside ours.
            names = place.names
            self._number = names.create(self._collection) if self._create else names.number(self._collection)
        self._handle = place.locks.write(self._uid, self._collection or WHOLE_STORAGE)
        try:
            self._at = self._transaction(self._handle)
            self._mark = (self._at.high_water or 0) // MS_PER_TICK
            if self._number is not None:
                self._read_state(self._number)
        except BaseException as error:
            self._handle.__exit__(type(error), error, None)
            raise
        return self

    def _transaction(self, handle: LockHandle) -> Transaction:
        """The transaction that holds the user's row: the lock's own, or one that only the store needs."""
        grant = handle.grant
        lent = grant.transaction if isinstance(grant, SqlGrant) and grant.valid() else None
        at = lent if isinstance(lent, Transaction) else self._lock_user()
        if at.claimed:
            raise RuntimeError("a unit of work was opened inside another one of the same user")
        at.claimed = True
        if isinstance(grant, SqlGrant):
            grant.transaction = at
        return at

    def _lock_user(self) -> Transaction:
        database = self._place.database
        return database.lock_user(self._uid, exclusive=True, timeout=database.lock_timeout)

    def _read_state(self, number: int) -> None:
        statements = self._place.statements
        values: dict[str, object] = {"uid": self._uid, "collection": number}
        if self._items:
            state = statements.state(self._items).write(values, self._items)
            rows = self._at.fetch(state.sql, state.parameters)
            self._existing = self._place.database.dialect.stored(rows)
        else:
            rows = self._at.query(statements.collection_state, values)
        if rows:
            self._present = True
            modified, self._count, self._bytes = rows[0][:3]
            self._modified = modified // MS_PER_TICK

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._writes:
                self._at.finish(self._writes)
            else:
                self._at.rollback()
        finally:
            self._handle.__exit__(kind, error, trace)

    # -- what was before

    @property
    def storage_modified(self) -> int:
        """The storage's time before this work (see Work)."""
        return self._mark

    @property
    def collection_modified(self) -> int:
        """The collection's time before this work (see Work)."""
        return self._modified

    def item_modified(self, item: str) -> int:
        """An item's time before this work (see Work)."""
        stored = self._existing.get(item)
        if stored is None or stored[3] <= self._place.clock.now_ms():
            return 0
        return stored[0] // MS_PER_TICK

    @property
    def quota_left(self) -> int | None:
        """Bytes left after the change (see Work)."""
        return self._quota_left

    # -- the change

    def put(self, changes: Sequence[Change]) -> int:
        """Create or partially update items (see Work)."""
        time = self._draw_time()
        number = self._written_collection()
        rows = rows_of(self._uid, number, changes, self._existing, time * MS_PER_TICK)
        self._charge(rows.bytes, rows.expired_bytes, time)
        upsert = self._place.database.dialect.put_items
        if rows.whole:
            self._writes.append(upsert(rows.whole, keep_payload=False))
        if rows.touched:
            self._writes.append(upsert(rows.touched, keep_payload=True))
        self._note_collection(number, time, rows.items, rows.bytes)
        return time

    def delete_item(self, item: str) -> int:
        """Delete one item (see Work)."""
        if not self.item_modified(item):
            raise NotFound(item)
        return self.delete_items((item,))

    def delete_items(self, items: Sequence[str]) -> int:
        """Delete those of `items` that exist (see Work)."""
        if self._number is None or not self._present:
            self._begin_change()
            return self._mark
        time = self._draw_time()
        gone = [item for item in dict.fromkeys(items) if item in self._existing]
        if gone:
            deletion = self._place.statements.delete_items(gone)
            values = {"uid": self._uid, "collection": self._number}
            self._writes.append(deletion.write(values, gone))
        freed = sum(self._existing[item][2] for item in gone)
        self._note_collection(self._number, time, -len(gone), -freed)
        return time

    def delete_collection(self) -> int:
        """Delete the collection with its items (see Work)."""
        if self._number is None or not self._present:
            self._begin_change()
            return self._mark
        time = self._draw_time()
        statements = self._place.statements
        values = {"uid": self._uid, "collection": self._number}
        self._writes += [
            statements.delete_collection_items.write(values),
            statements.delete_collection.write(values),
            self._high_water(time),
        ]
        return time

    def delete_all(self) -> int:
        """Delete all collections and pending batches of the user (see Work)."""
        time = self._draw_time()
        statements = self._place.statements
        values = {"uid": self._uid}
        self._writes += [
            statements.delete_user_items.write(values),
            statements.delete_user_collections.write(values),
            statements.delete_user_staged.write(values),
            statements.delete_user_batches.write(values),
            self._high_water(time),
        ]
        return time

    def create_batch(self) -> str:
        """Open a batch for the collection (see Work)."""
        self._begin_change()
        batch, write = self._place.batches.create(self._uid, self._written_collection())
        self._writes.append(write)
        return batch

    def append_to_batch(self, batch: str, changes: Sequence[Change]) -> None:
        """Stage items (see Work)."""
        # May follow create_batch in the same work: opening a batch with its first items is one change.
        created = self._changed
        self._changed = True
        batches, number = self._place.batches, self._written_collection()
        key = batches.key(batch) if created else batches.find(self._at, self._uid, number, batch)
        self._writes += batches.stage(self._uid, key, changes)

    def commit_batch(self, batch: str, changes: Sequence[Change]) -> int:
        """Apply everything staged and close the batch (see Work)."""
        batches, number = self._place.batches, self._written_collection()
        key = batches.find(self._at, self._uid, number, batch)
        time = self._draw_time()
        for write in batches.stage(self._uid, key, changes):
            self._at.execute(write)
        added = batches.totals(self._at, self._uid, number, key, time * MS_PER_TICK)
        self._charge(added.bytes, added.expired_bytes, time)
        self._writes += batches.apply(self._uid, number, key, time * MS_PER_TICK)
        self._note_collection(number, time, added.items, added.bytes)
        return time

    # -- inside

    def _begin_change(self) -> None:
        if self._changed:
            raise RuntimeError("a unit of work makes one change")
        self._changed = True

    def _written_collection(self) -> int:
        if self._number is None:
            raise RuntimeError("the work was opened neither to create its collection nor for an existing one")
        return self._number

    def _draw_time(self) -> int:
        """The time of this write: the present, and later than everything of this user before."""
        self._begin_change()
        clock = self._place.clock
        earliest = self._mark + 1
        ahead = earliest - clock.now()
        if ahead > _LOST_TICKS:
            raise Unavailable(
                f"the clock is {ahead // 100} s behind the last write of user {self._uid}", _RETRY_AFTER_CLOCK
            )
        deadline = clock.monotonic() + _WAIT_TICKS * 0.01
        while 0 < ahead <= _WAIT_TICKS and clock.monotonic() < deadline:
            clock.sleep(ahead * 0.01 - clock.now_ms() % MS_PER_TICK * 0.001)
            ahead = earliest - clock.now()
        return max(earliest, clock.now())

    def _high_water(self, time: int) -> Write:
        values = {"uid": self._uid, "time": time * MS_PER_TICK}
        return self._place.statements.set_high_water.write(values)

    def _note_collection(self, number: int, time: int, more_items: int, more_bytes: int) -> None:
        statements = self._place.statements
        statement = statements.set_collection if self._present else statements.add_collection
        values = {
            "uid": self._uid,
            "collection": number,
            "time": time * MS_PER_TICK,
            "items": self._count + more_items,
            "bytes": self._bytes + more_bytes,
        }
        self._writes += [statement.write(values), self._high_water(time)]

    def _charge(self, more: int, replaced_expired: int, time: int) -> None:
        """Refuse a change that ends above the quota. Items that expired and are not purged yet do not count."""
        quota = self._place.quota
        if quota is None:
            return
        statements, values = self._place.statements, {"uid": self._uid, "now": time * MS_PER_TICK}
        used = int(self._at.query(statements.used_bytes, values)[0][0]) + more
        if used > quota - _NEARLY_FULL:
            # Only now the price of looking at expired rows. Those that the change replaces are gone from `more`.
            expired = int(self._at.query(statements.expired_bytes, values)[0][0])
            used -= expired - replaced_expired
        # What takes the place of an expired item is all new, however long that was.
        if used > quota and more + replaced_expired > 0:
            raise OverQuota(used, quota)
        self._quota_left = max(0, quota - used)
