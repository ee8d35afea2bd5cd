"""The unit of work: one user locked, one change, one commit.

The order is the contract that the cache layer rests on: lock the user's row, read what the change needs in a
later statement, decide, then send all writes together with COMMIT. Until then nothing has been written but what
a batch commit stages, and leaving the block with an exception takes that back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple

from syncstore.bso import Change
from syncstore.clock import MS_PER_TICK, Clock
from syncstore.errors import NotFound, OverQuota, RolledBack
from syncstore.locks.api import WHOLE_STORAGE, LockHandle, Locks
from syncstore.locks.sql import SqlGrant
from syncstore.storage.durable import KeptTime
from syncstore.storage.sql.batches import Batches
from syncstore.storage.sql.changes import rows_of
from syncstore.storage.sql.clauses import MAX_IDS
from syncstore.storage.sql.dialects.api import StoredRow, Write
from syncstore.storage.sql.engine import Database, Transaction
from syncstore.storage.sql.names import CollectionNames
from syncstore.storage.sql.quota import Quota
from syncstore.storage.sql.statements import Statements
from syncstore.storage.sql.user_row import UserRow


class Workplace(NamedTuple):
    """What every unit of work of one store shares."""

    database: Database
    statements: Statements
    names: CollectionNames
    locks: Locks
    clock: Clock
    batches: Batches
    quota: Quota | None


class SqlWork:
    """A unit of work on SQL (see `storage.api.Work` and `storage.durable.DurableWork`).

    With `times_only` the collection has no rows, here at least: its name is the lock's, and no more.
    """

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
        "_modified",
        "_number",
        "_place",
        "_present",
        "_quota_left",
        "_times_only",
        "_uid",
        "_user",
        "_writes",
    )

    def __init__(
        self,
        place: Workplace,
        uid: int,
        collection: str | None,
        items: Sequence[str] = (),
        *,
        create: bool = False,
        times_only: bool = False,
    ) -> None:
        if len(items) > MAX_IDS:
            raise ValueError(f"a unit of work takes at most {MAX_IDS} items, not {len(items)}")
        self._place = place
        self._uid = uid
        self._collection = collection
        self._items = items
        self._create = create
        self._times_only = times_only
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
        if self._collection is not None and not self._times_only:
            # Before the lock: the names have a transaction of their own, which SQLite could not run beside ours.
            names = place.names
            self._number = names.create(self._collection) if self._create else names.number(self._collection)
        self._handle = place.locks.write(self._uid, self._collection or WHOLE_STORAGE)
        try:
            self._at = self._transaction(self._handle)
            self._user = UserRow(self._at, self._uid)
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
            if kind is None and (self._writes or self._user.time is not None):
                self._commit()
            else:
                self._at.rollback()
        finally:
            self._handle.__exit__(kind, error, trace)

    def _commit(self) -> None:
        if not self._at.open:
            # A statement failed, which took all back, and the block went on all the same.
            raise RolledBack("the transaction ended before its commit")
        if self._user.time is not None:
            self._writes.append(self._user.write(self._place.statements, self._user.time))
        self._at.finish(self._writes)

    # -- what was before

    @property
    def storage_modified(self) -> int:
        """The storage's time before this work (see Work)."""
        return self._user.mark

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

    @property
    def kept(self) -> Mapping[str, KeptTime]:
        """The kept times when the row was locked (see DurableWork)."""
        return self._user.kept

    def epoch(self, server: str) -> int:
        """The epoch of a cache server, as of now and so later than the lock (see DurableWork)."""
        rows = self._at.query(self._place.statements.epoch, {"name": server})
        return int(rows[0][0]) if rows else 0

    def confirm_lock(self) -> None:
        """Ask something in the transaction that holds the lock (see DurableWork)."""
        self._at.query(self._place.statements.ping, {})

    # -- the change

    def put(self, changes: Sequence[Change]) -> int:
        """Create or partially update items (see Work)."""
        number = self._written_collection()
        time = self._draw_time()
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
            return self._user.mark
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
            return self._user.mark
        time = self._draw_time()
        statements = self._place.statements
        values = {"uid": self._uid, "collection": self._number}
        self._writes += [
            statements.delete_collection_items.write(values),
            statements.delete_collection.write(values),
        ]
        self._user.time = time
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
        ]
        self._user.delete_kept(time)
        self._user.time = time
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

    # -- kept times

    def draw_time(self, later_than: int = 0) -> int:
        """The time of this work's write, which has none in SQL (see DurableWork)."""
        self._user.time = self._draw_time(later_than)
        return self._user.time

    def keep_time(self, collection: str, kept: KeptTime) -> None:
        """Keep this time when the work commits (see DurableWork)."""
        self._user.keep(collection, kept)

    def charge(self, more: int) -> None:
        """Refuse `more` bytes above the quota (see DurableWork)."""
        time = self._user.time
        try:
            self._charge(more, 0, self._place.clock.now() if time is None else time)
        except OverQuota:
            self._writes.clear()  # a work that was refused writes nothing, however its block ends
            self._user.time = None
            raise

    # -- inside

    def _begin_change(self) -> None:
        if self._changed:
            raise RuntimeError("a unit of work makes one change")
        self._changed = True

    def _written_collection(self) -> int:
        if self._number is None:
            raise RuntimeError("the work was opened neither to create its collection nor for an existing one")
        return self._number

    def _draw_time(self, later_than: int = 0) -> int:
        self._begin_change()
        return self._user.draw(self._place.clock, later_than)

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
        self._writes.append(statement.write(values))
        self._user.time = time

    def _charge(self, more: int, replaced_expired: int, time: int) -> None:
        quota = self._place.quota
        if quota is not None:
            self._quota_left = quota.charge(
                self._at,
                self._uid,
                time,
                more,
                kept=self._user.kept_bytes,
                replaced_expired=replaced_expired,
            )
