"""The SQL store: reads as single statements, each a snapshot, and the opening of units of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from syncstore.bso import BSO
from syncstore.clock import MS_PER_TICK, Clock
from syncstore.errors import NotFound
from syncstore.locks.api import Locks
from syncstore.storage.api import Page, Position, Query, Totals
from syncstore.storage.durable import Sums, Times, Whole
from syncstore.storage.sql import kept
from syncstore.storage.sql.batches import Batches
from syncstore.storage.sql.dialects.api import Row
from syncstore.storage.sql.engine import Database
from syncstore.storage.sql.listings import Listings, listing_parameters, whole_of
from syncstore.storage.sql.names import CollectionNames
from syncstore.storage.sql.quota import Quota
from syncstore.storage.sql.server_records import SqlRecords
from syncstore.storage.sql.statements import Statements
from syncstore.storage.sql.work import SqlWork, Workplace

_USERS = 1000  # numbers of users that are read in one go


class SqlStorage:
    """A storage on one SQL database (see `storage.api.Storage` and `storage.durable.DurableStorage`).

    `quota` is in bytes per user, None for none; `batch_lifetime` in seconds.
    """

    def __init__(
        self,
        database: Database,
        statements: Statements,
        locks: Locks,
        clock: Clock,
        *,
        quota: int | None = None,
        batch_lifetime: int = 7200,
    ) -> None:
        self._database = database
        self._statements = statements
        self._names = CollectionNames(database, statements)
        self._listings = Listings(database.dialect)
        self._clock = clock
        batches = Batches(database.dialect, statements, clock, batch_lifetime)
        limit = None if quota is None else Quota(statements, quota)
        self.records: SqlRecords = SqlRecords(database, statements, clock)
        self._place = Workplace(database, statements, self._names, locks, clock, batches, limit)

    def collection_times(self, uid: int) -> Totals:
        """The time of every existing collection (see Storage)."""
        rows = self._database.query(self._statements.collection_times, {"uid": uid})
        if not rows:
            return Totals(0, {})
        return Totals(rows[0][0] // MS_PER_TICK, self._collection_times(rows))

    def _collection_times(self, rows: Sequence[Row]) -> dict[str, int]:
        name = self._names.name
        return {name(row[1]): row[2] // MS_PER_TICK for row in rows if row[1] is not None}

    def collection_counts(self, uid: int) -> Totals:
        """The number of live items of every collection that has any (see Storage)."""
        sums = self.sums(uid)
        return Totals(sums.modified, sums.items)

    def collection_usage(self, uid: int) -> Totals:
        """The payload bytes of the live items of every collection that has any (see Storage)."""
        sums = self.sums(uid)
        return Totals(sums.modified, sums.bytes)

    def sums(self, uid: int) -> Sums:
        """Counts and sizes of the live items (see DurableStorage)."""
        values = {"uid": uid, "now": self._clock.now_ms()}
        rows = self._database.query(self._statements.collection_totals, values)
        if not rows:
            return Sums(0, {}, {}, kept.NONE)
        items: dict[str, int] = {}
        sizes: dict[str, int] = {}
        for _, number, count, size, expired, expired_size, _ in rows:
            if number is not None and count > expired:
                name = self._names.name(number)
                items[name] = int(count - expired)
                sizes[name] = int(size - expired_size)
        return Sums(rows[0][0] // MS_PER_TICK, items, sizes, kept.decode(rows[0][-1]))

    def collection_modified(self, uid: int, collection: str) -> int:
        """The collection's time (see Storage)."""
        number = self._names.number(collection)
        if number is None:
            return 0
        rows = self._database.query(self._statements.collection_modified, {"uid": uid, "collection": number})
        return int(rows[0][0]) // MS_PER_TICK if rows else 0

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match (see Storage)."""
        number = self._names.number(collection)
        if number is None:
            return Page(0)
        if query.ids == ():
            return Page(self.collection_modified(uid, collection))
        values = listing_parameters(uid, number, query, self._clock.now_ms())
        rows = self._database.query(self._listings.statement(query), values)
        if not rows:
            return Page(0)
        modified = rows[0][0] // MS_PER_TICK
        del rows[0]
        following = None
        if query.limit is not None and len(rows) > query.limit:
            rows = rows[: query.limit]
            following = self._position(query, rows[-1]) if rows else None
        if query.full:
            return Page(modified, items=self._database.dialect.items(rows), next=following)
        text = self._database.dialect.text_of_id
        return Page(modified, ids=[text(row[1]) for row in rows], next=following)

    def _position(self, query: Query, row: tuple[Any, ...]) -> Position:
        key = row[3] if query.sort == "index" else row[2] // MS_PER_TICK
        return Position(query.sort, key, self._database.dialect.text_of_id(row[1]))

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item (see Storage)."""
        number = self._names.number(collection)
        if number is None:
            raise NotFound(item)
        values = {"uid": uid, "collection": number, "id": item, "now": self._clock.now_ms()}
        rows = self._database.query(self._statements.item, values)
        if not rows:
            raise NotFound(item)
        return self._database.dialect.items(rows)[0]

    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> SqlWork:
        """Open a unit of work (see Storage)."""
        return SqlWork(self._place, uid, collection, items, create=create)

    # -- for a layer above

    def times(self, uid: int) -> Times:
        """All times, by a plain read (see DurableStorage)."""
        return self._times(self._database.query(self._statements.times, {"uid": uid}))

    def settled_times(self, uid: int) -> Times | None:
        """All times, while no writer of the user is at work (see DurableStorage)."""
        rows = self._database.settled(self._statements.times, uid)
        return None if rows is None else self._times(rows)

    def _times(self, rows: Sequence[Row]) -> Times:
        if not rows:
            return Times(0, {}, kept.NONE)
        return Times(rows[0][0] // MS_PER_TICK, self._collection_times(rows), kept.decode(rows[0][-1]))

    def whole(self, uid: int, collection: str, most_bytes: int) -> Whole:
        """A collection with all its items, unless it is too large (see DurableStorage)."""
        number = self._names.number(collection)
        if number is None:
            return Whole(0, ())
        values = {"uid": uid, "collection": number, "most": most_bytes}
        rows = self._database.query(self._listings.whole, values)
        return whole_of(rows, self._database.dialect, most_bytes)

    def lock_for_times(self, uid: int, collection: str) -> SqlWork:
        """Open a unit of work on the kept time of a collection (see DurableStorage)."""
        return SqlWork(self._place, uid, collection, times_only=True)

    def users(self) -> Iterator[int]:
        """The numbers of all users that have a row, in order, read in steps."""
        after = -1
        while True:
            rows = self._database.query(self._statements.users_after, {"uid": after, "limit": _USERS})
            for (uid,) in rows:
                after = int(uid)
                yield after
            if len(rows) < _USERS:
                return

    def check(self) -> None:
        """Run the cheapest statement (see Storage)."""
        self._database.query(self._statements.ping, {})

    def close(self) -> None:
        """Close the connections."""
        self._database.close()
