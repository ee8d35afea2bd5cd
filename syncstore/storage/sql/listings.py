"""The listing of a collection as one statement for each shape of query, and the values that go with it.

Also the collection as a whole, for a layer that keeps copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Select,
    and_,
    bindparam,
    cast,
    literal_column,
    null,
    or_,
    select,
    union_all,
)

from syncstore.clock import MS_PER_TICK
from syncstore.storage.api import Position, Query
from syncstore.storage.durable import Whole
from syncstore.storage.sql import clauses
from syncstore.storage.sql.compiling import Statement
from syncstore.storage.sql.dialects.api import Dialect, Row
from syncstore.storage.sql.schema import bso, user_collections

_NO_LIMIT = 2**31


class Listings:
    """The listings of one database, each compiled at its first use and kept."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        # per instance: a cache on the method itself would keep every instance alive
        self._shapes = cache(self._compile)
        self.whole = self._whole()

    def statement(self, query: Query) -> Statement:
        """The statement for a query's shape: (collection time, id, modified, sortindex[, payload]) rows.

        The first row has the collection's time alone, the others all but that. No collection, no row.
        """
        after = query.after
        return self._shapes(
            query.sort,
            query.full,
            query.newer is not None,
            query.older is not None,
            None if after is None else ("null" if after.key is None else "key"),
            None if query.ids is None else clauses.places(query.ids),
        )

    def _compile(
        self,
        sort: str,
        full: bool,
        newer: bool,
        older: bool,
        after: str | None,
        ids: int | None,
    ) -> Statement:
        # The collection's row and the items in one statement, one snapshot: a union, since every database then
        # takes the items in the order of the index. Joined to the row, MariaDB would sort copies of them, with
        # their payloads, in a temporary table. Within a union an order counts only with a limit.
        conditions = [
            bso.c.userid == clauses.uid,
            bso.c.collection == clauses.collection,
            bso.c.ttl > clauses.now,
        ]
        if newer:
            conditions.append(bso.c.modified > bindparam("newer"))
        if older:
            conditions.append(bso.c.modified < bindparam("older"))
        if ids is not None:
            conditions.append(clauses.ids_in(bso.c.id, ids))
        if after is not None:
            conditions.append(_behind(sort, after))
        columns: list[Column[Any]] = [
            bso.c.id,
            bso.c.modified,
            bso.c.sortindex,
            *([bso.c.payload] if full else []),
        ]
        head = select(user_collections.c.last_modified, *(self._nothing(column) for column in columns)).where(
            user_collections.c.userid == clauses.uid, user_collections.c.collection == clauses.collection
        )
        items: Select[Any] = (
            select(self._nothing(user_collections.c.last_modified), *columns)
            .where(*conditions)
            .order_by(*self._order(sort, few=ids is not None))
            .limit(bindparam("limit"))
        )
        if self._dialect.name == "sqlite":
            # which takes no parentheses in a union
            items = select(*items.subquery("items").c)
        return Statement("find", union_all(head, items), self._dialect.compiler)

    def _whole(self) -> Statement:
        """All items of a collection of at most `most` bytes: (None, id, modified, sortindex, payload, ttl) rows.

        One more row has the collection's time, no id, and the bytes in the place of `modified`. The bytes are looked
        at in the same statement, the same snapshot, and a collection that is too large costs no more than that.
        """
        mine = user_collections.c
        this = and_(mine.userid == clauses.uid, mine.collection == clauses.collection)
        columns = [bso.c.id, bso.c.modified, bso.c.sortindex, bso.c.payload, bso.c.ttl]
        head = select(
            mine.last_modified,
            self._nothing(bso.c.id),
            mine.total_bytes,
            *(self._nothing(column) for column in columns[2:]),
        ).where(this)
        # A join, though a subquery would say it, too: SQLite would ask that of every item that it walks over.
        both = user_collections.join(
            bso, and_(bso.c.userid == mine.userid, bso.c.collection == mine.collection)
        )
        items = (
            select(self._nothing(mine.last_modified), *columns)
            .select_from(both)
            .where(this, mine.total_bytes <= bindparam("most"))
        )
        return Statement("whole", union_all(head, items), self._dialect.compiler)

    def _nothing(self, column: Column[Any]) -> ColumnElement[Any]:
        """NULL; PostgreSQL wants it of the type that the union's other part has there."""
        return cast(null(), column.type) if self._dialect.name == "postgresql" else null()

    def _order(self, sort: str, *, few: bool) -> list[ColumnElement[Any]]:
        # For a few ids an expression instead of the column: SQLite would rather walk the whole collection in the
        # order of its index than sort a handful of rows.
        modified = bso.c.modified + literal_column("0") if few else bso.c.modified
        if sort == "oldest":
            return [modified.asc(), bso.c.id.asc()]
        if sort == "newest":
            return [modified.desc(), bso.c.id.desc()]
        first = bso.c.sortindex.desc()
        return [first.nulls_last() if self._dialect.nulls_first else first, bso.c.id.desc()]


def _behind(sort: str, after: str) -> ColumnElement[bool]:
    """The items that follow a position in the order of `sort`.

    Written as a range on the key first, which an index can use; MariaDB cannot use one for (a, b) < (x, y).
    """
    key: BindParameter[int] = bindparam("after_key")
    id_: BindParameter[str] = bindparam("after_id")
    if sort == "oldest":
        return and_(bso.c.modified >= key, or_(bso.c.modified > key, bso.c.id > id_))
    if sort == "newest":
        return and_(bso.c.modified <= key, or_(bso.c.modified < key, bso.c.id < id_))
    if after == "null":
        return and_(bso.c.sortindex.is_(None), bso.c.id < id_)
    return or_(bso.c.sortindex < key, bso.c.sortindex.is_(None), and_(bso.c.sortindex == key, bso.c.id < id_))


def whole_of(rows: Sequence[Row], dialect: Dialect, most: int) -> Whole:
    """What the rows of `Listings.whole` say."""
    if not rows:
        return Whole(0, ())
    # No database promises that the head comes first.
    at = next(at for at, row in enumerate(rows) if row[1] is None)
    modified, _, size = rows[at][:3]
    items = None if size > most else dialect.whole_items([*rows[:at], *rows[at + 1 :]])
    return Whole(modified // MS_PER_TICK, items)


def listing_parameters(uid: int, collection: int, query: Query, now: int) -> dict[str, object]:
    """The values of `Listings.statement`; times in milliseconds. One more than `limit` shows whether more follow."""
    values: dict[str, object] = {
        "uid": uid,
        "collection": collection,
        "now": now,
        "limit": _NO_LIMIT if query.limit is None else query.limit + 1,
    }
    if query.newer is not None:
        values["newer"] = query.newer * 10
    if query.older is not None:
        values["older"] = query.older * 10
    if query.ids is not None:
        places = clauses.places(query.ids)
        values |= {f"id{i}": query.ids[min(i, len(query.ids) - 1)] for i in range(places)}
    if query.after is not None:
        values |= _position(query.after)
    return values


def _position(after: Position) -> dict[str, object]:
    key = after.key
    if key is not None and after.sort != "index":
        key *= 10
    return {"after_key": key, "after_id": after.id}
