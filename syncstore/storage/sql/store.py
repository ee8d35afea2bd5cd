"""The SQL store: reads as single statements, each a snapshot, and the opening of units of work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from syncstore.bso import BSO
from syncstore.clock import MS_PER_TICK, Clock
from syncstore.errors import NotFound
from syncstore.locks.api import Locks
from syncstore.storage.api import Page, Position, Query, Totals
from syncstore.storage.sql.batches import Batches
from syncstore.storage.sql.engine import Database
from syncstore.storage.sql.listings import Listings, listing_parameters
from syncstore.storage.sql.names import CollectionNames
from syncstore.storage.sql.statements import Statements
from syncstore.storage.sql.work import SqlWork, Workplace


class SqlStorage:
    """A storage on one SQL database (see `storage.api.Storage`). `quota` is in bytes per user, None for none;
    `batch_lifetime` in seconds."""

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
        self._place = Workplace(database, statements, self._names, locks, clock, batches, quota)

    def collection_times(self, uid: int) -> Totals:
        """The time of every existing collection (see Storage)."""
        rows = self._database.query(self._statements.collection_times, {"uid": uid})
        if not rows:
            return Totals(0, {})
        name = self._names.name
        times = {name(number): time // MS_PER_TICK for _, number, time in rows if number is not None}
        return Totals(rows[0][0] // MS_PER_TICK, times)

    def collection_counts(self, uid: int) -> Totals:
        """The number of live items of every collection that has any (see Storage)."""
        modified, rows = self._totals(uid)
        return Totals(modified, {name: items for name, items, _ in rows})

    def collection_usage(self, uid: int) -> Totals:
        """The payload bytes of the live items of every collection that has any (see Storage)."""
        modified, rows = self._totals(uid)
        return Totals(modified, {name: size for name, _, size in rows})

    def _totals(self, uid: int) -> tuple[int, list[tuple[str, int, int]]]:
        values = {"uid": uid, "now": self._clock.now_ms()}
        rows = self._database.query(self._statements.collection_totals, values)
        if not rows:
            return 0, []
        live = [
            (self._names.name(number), int(items - expired_items), int(size - expired_size))
            for _, number, items, size, expired_items, expired_size in rows
            if number is not None and items > expired_items
        ]
        return rows[0][0] // MS_PER_TICK, live

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

    def check(self) -> None:
        """Run the cheapest statement (see Storage)."""
        self._database.query(self._statements.ping, {})

    def close(self) -> None:
        """Close the connections."""
        self._database.close()
