"""The statements of the store, in SQLAlchemy Core, compiled for one database.

Each has a name, which travels in front of it as a comment into the database's slow log and process list.
Parameters are named; `Statement.bind` puts them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Select,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.sql import ClauseElement

from syncstore.storage.api import Position, Query
from syncstore.storage.sql.compiling import IdsStatement, Statement
from syncstore.storage.sql.dialects.api import Dialect
from syncstore.storage.sql.schema import (
    NEVER,
    batch_upload_items,
    batch_uploads,
    bso,
    collections,
    user_collections,
    users,
)

# Lists of ids are padded to one of these lengths, so that there are few texts to compile and to plan.
_ID_COUNTS = (1, 10, 30, 100, 300, 1000)
MAX_IDS = _ID_COUNTS[-1]
_NO_LIMIT = 2**31

_uid: BindParameter[int] = bindparam("uid")
_collection: BindParameter[int] = bindparam("collection")
_batch: BindParameter[int] = bindparam("batch")
_now: BindParameter[int] = bindparam("now")

# As a literal: only then do SQLite and PostgreSQL see that the partial index on ttl serves.
_never: ColumnElement[int] = literal_column(str(NEVER))


def _places(ids: Sequence[str]) -> int:
    """How many placeholders a list of at most MAX_IDS ids takes."""
    return next(size for size in _ID_COUNTS if size >= len(ids))


def _ids_in(column: ColumnElement[str], count: int) -> ColumnElement[bool]:
    return column.in_([bindparam(f"id{i}") for i in range(count)])


class Statements:
    """All statements for one database, each compiled at its first use and kept."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        compiled = self._compile
        mine = user_collections.c.userid == _uid
        this_collection = and_(mine, user_collections.c.collection == _collection)
        my_items = bso.c.userid == _uid
        these_items = and_(my_items, bso.c.collection == _collection)
        this_batch = and_(batch_uploads.c.userid == _uid, batch_uploads.c.batch == _batch)

        self.ping = compiled("ping", select(literal_column("1")))
        self.set_high_water = compiled(
            "set_high_water", update(users).where(users.c.userid == _uid).values(high_water=bindparam("time"))
        )

        self.collection_names = compiled(
            "collection_names", select(collections.c.collectionid, collections.c.name)
        )
        self.collection_id = compiled(
            "collection_id", select(collections.c.collectionid).where(collections.c.name == bindparam("name"))
        )
        self.collection_name = compiled(
            "collection_name",
            select(collections.c.name).where(collections.c.collectionid == bindparam("collection")),
        )
        self.last_collection = compiled("last_collection", select(func.max(collections.c.collectionid)))
        self.add_collection_name = compiled(
            "add_collection_name",
            insert(collections).values(collectionid=bindparam("collection"), name=bindparam("name")),
        )

        # One statement is one snapshot: the storage's time with whatever else is asked.
        self.collection_times = compiled(
            "collection_times",
            select(users.c.high_water, user_collections.c.collection, user_collections.c.last_modified)
            .select_from(users.outerjoin(user_collections, user_collections.c.userid == users.c.userid))
            .where(users.c.userid == _uid),
        )
        self.collection_totals = compiled(
            "collection_totals",
            select(
                users.c.high_water,
                user_collections.c.collection,
                user_collections.c.count,
                user_collections.c.total_bytes,
                self._expired(func.count()),
                self._expired(func.coalesce(func.sum(bso.c.payload_size), 0)),
            )
            .select_from(users.outerjoin(user_collections, user_collections.c.userid == users.c.userid))
            .where(users.c.userid == _uid),
        )
        self.collection_modified = compiled(
            "collection_modified", select(user_collections.c.last_modified).where(this_collection)
        )
        self.item = compiled(
            "item",
            select(bso.c.id, bso.c.modified, bso.c.sortindex, bso.c.payload).where(
                these_items, bso.c.id == bindparam("id"), bso.c.ttl > _now
            ),
        )

        self.collection_state = compiled(
            "collection_state",
            select(
                user_collections.c.last_modified, user_collections.c.count, user_collections.c.total_bytes
            ).where(this_collection),
        )
        self.used_bytes = compiled(
            "used_bytes", select(func.coalesce(func.sum(user_collections.c.total_bytes), 0)).where(mine)
        )
        self.expired_bytes = compiled(
            "expired_bytes",
            select(func.coalesce(func.sum(bso.c.payload_size), 0)).where(
                my_items, bso.c.ttl <= _now, bso.c.ttl < _never
            ),
        )
        self.add_collection = compiled(
            "add_collection",
            insert(user_collections).values(
                userid=_uid,
                collection=_collection,
                last_modified=bindparam("time"),
                count=bindparam("items"),
                total_bytes=bindparam("bytes"),
            ),
        )
        self.set_collection = compiled(
            "set_collection",
            update(user_collections)
            .where(this_collection)
            .values(
                last_modified=bindparam("time"), count=bindparam("items"), total_bytes=bindparam("bytes")
            ),
        )
        self.delete_item = compiled(
            "delete_item", delete(bso).where(these_items, bso.c.id == bindparam("id"))
        )
        self.delete_collection_items = compiled("delete_collection_items", delete(bso).where(these_items))
        self.delete_collection = compiled(
            "delete_collection", delete(user_collections).where(this_collection)
        )
        self.delete_user_items = compiled("delete_user_items", delete(bso).where(my_items))
        self.delete_user_collections = compiled(
            "delete_user_collections", delete(user_collections).where(mine)
        )
        self.delete_user_batches = compiled(
            "delete_user_batches", delete(batch_uploads).where(batch_uploads.c.userid == _uid)
        )
        self.delete_user_staged = compiled(
            "delete_user_staged", delete(batch_upload_items).where(batch_upload_items.c.userid == _uid)
        )

        self.add_batch = compiled(
            "add_batch",
            insert(batch_uploads).values(
                userid=_uid, batch=_batch, collection=_collection, created=bindparam("created")
            ),
        )
        self.open_batch = compiled(
            "open_batch",
            select(batch_uploads.c.batch).where(
                this_batch,
                batch_uploads.c.collection == _collection,
                batch_uploads.c.created > bindparam("oldest"),
            ),
        )
        self.close_batch = compiled("close_batch", delete(batch_uploads).where(this_batch))
        self.delete_staged = compiled(
            "delete_staged",
            delete(batch_upload_items).where(
                batch_upload_items.c.userid == _uid, batch_upload_items.c.batch == _batch
            ),
        )
        self.batch_totals = self._batch_totals()
        self.apply_batch = self._apply_batch()

        self.old_batches = compiled(
            "old_batches",
            select(batch_uploads.c.userid, batch_uploads.c.batch)
            .where(batch_uploads.c.created < bindparam("oldest"))
            .limit(bindparam("limit")),
        )
        self.users_after = compiled(
            "users_after",
            select(users.c.userid)
            .where(users.c.userid > _uid)
            .order_by(users.c.userid)
            .limit(bindparam("limit")),
        )
        expired = and_(bso.c.userid == users.c.userid, bso.c.ttl <= bindparam("latest"), bso.c.ttl < _never)
        self.users_with_expired = compiled(
            "users_with_expired",
            select(users.c.userid).where(
                users.c.userid > bindparam("after"),
                users.c.userid <= _uid,
                select(bso.c.userid).where(expired).correlate(users).exists(),
            ),
        )
        mine_expired = and_(my_items, bso.c.ttl <= _now, bso.c.ttl < _never)
        self.expired_by_collection = compiled(
            "expired_by_collection",
            select(bso.c.collection, func.count(), func.sum(bso.c.payload_size))
            .where(mine_expired)
            .group_by(bso.c.collection),
        )
        self.delete_expired = compiled("delete_expired", delete(bso).where(mine_expired))
        self.shrink_collection = compiled(
            "shrink_collection",
            update(user_collections)
            .where(this_collection)
            .values(
                count=user_collections.c.count - bindparam("items"),
                total_bytes=user_collections.c.total_bytes - bindparam("bytes"),
            ),
        )

        # bound methods cannot be cached without keeping every instance alive, so each instance has its own
        self._states = cache(self._state)
        self._deletions = cache(self._delete_items)
        self._listing = cache(self._compile_listing)

    def state(self, ids: Sequence[str]) -> IdsStatement:
        """The collection's time, count and bytes, beside each row stored, live or expired, under `ids`."""
        return self._states(_places(ids))

    def delete_items(self, ids: Sequence[str]) -> IdsStatement:
        """Delete the rows under `ids`."""
        return self._deletions(_places(ids))

    def _compile(self, name: str, clause: ClauseElement) -> Statement:
        return Statement(name, clause, self._dialect.compiler)

    @staticmethod
    def _expired(value: ColumnElement[int]) -> ColumnElement[int]:
        """A sum over the expired items of the collection of the row: they are counted until they are purged."""
        return (
            select(value)
            .select_from(bso)
            .where(
                bso.c.userid == users.c.userid,
                bso.c.collection == user_collections.c.collection,
                bso.c.ttl <= _now,
                bso.c.ttl < _never,
            )
            .correlate(users, user_collections)
            .scalar_subquery()
        )

    def _compile_ids(self, name: str, clause: ClauseElement, count: int) -> IdsStatement:
        return IdsStatement(name, clause, self._dialect.compiler, count)

    def _state(self, count: int) -> IdsStatement:
        joined = user_collections.outerjoin(
            bso,
            and_(
                bso.c.userid == user_collections.c.userid,
                bso.c.collection == user_collections.c.collection,
                _ids_in(bso.c.id, count),
            ),
        )
        return self._compile_ids(
            "state",
            select(
                user_collections.c.last_modified,
                user_collections.c.count,
                user_collections.c.total_bytes,
                bso.c.id,
                bso.c.modified,
                bso.c.sortindex,
                bso.c.payload_size,
                bso.c.ttl,
            )
            .select_from(joined)
            .where(user_collections.c.userid == _uid, user_collections.c.collection == _collection),
            count,
        )

    def _delete_items(self, count: int) -> IdsStatement:
        return self._compile_ids(
            "delete_items",
            delete(bso).where(
                bso.c.userid == _uid, bso.c.collection == _collection, _ids_in(bso.c.id, count)
            ),
            count,
        )

    # -- batches: staged fields over those of live items over defaults, all in the database

    @staticmethod
    def _staged() -> tuple[Any, ColumnElement[bool], Callable[[ColumnElement[Any]], ColumnElement[Any]]]:
        """Staged items beside what is stored under their ids; a stored value counts only while it lives."""
        staged, stored = batch_upload_items, bso
        joined = staged.outerjoin(
            stored,
            and_(
                stored.c.userid == staged.c.userid,
                stored.c.collection == _collection,
                stored.c.id == staged.c.id,
            ),
        )

        def live(column: ColumnElement[Any]) -> ColumnElement[Any]:
            return case((stored.c.ttl > bindparam("time"), column))

        return joined, and_(staged.c.userid == _uid, staged.c.batch == _batch), live

    def _batch_totals(self) -> Statement:
        """What the commit of a batch adds to the collection: rows, bytes, and the expired bytes that it replaces."""
        joined, mine, live = self._staged()
        size = func.coalesce(batch_upload_items.c.payload_size, live(bso.c.payload_size), 0)
        return self._compile(
            "batch_totals",
            select(
                func.count() - func.count(bso.c.id),
                func.coalesce(func.sum(size), 0) - func.coalesce(func.sum(bso.c.payload_size), 0),
                func.coalesce(func.sum(case((bso.c.ttl <= bindparam("time"), bso.c.payload_size))), 0),
            )
            .select_from(joined)
            .where(mine),
        )

    def _apply_batch(self) -> Statement:
        joined, mine, live = self._staged()
        staged = batch_upload_items.c
        empty: ColumnElement[Any] = literal_column(
            "''::bytea" if self._dialect.name == "postgresql" else "''"
        )
        source = (
            select(
                staged.userid,
                self._typed(_collection),
                staged.id,
                func.coalesce(staged.sortindex, live(bso.c.sortindex)),
                self._typed(bindparam("time")),
                func.coalesce(staged.payload, live(bso.c.payload), empty),
                func.coalesce(staged.payload_size, live(bso.c.payload_size), 0),
                func.coalesce(
                    bindparam("time") + cast(staged.ttl_offset, BigInteger) * 1000, live(bso.c.ttl), _never
                ),
            )
            .select_from(joined)
            .where(mine)
        )
        columns = ("sortindex", "modified", "payload", "payload_size", "ttl")
        return self._compile("apply_batch", self._dialect.upsert(bso, columns, select=source))

    def _typed(self, value: BindParameter[int]) -> ColumnElement[int]:
        # PostgreSQL takes a bare parameter in a select list for text.
        return value + literal_column("0")

    # -- listings

    def listing(self, query: Query) -> Statement:
        """The statement for a query's shape: (collection time, id, modified, sortindex[, payload]) rows.

        The first row has the collection's time alone, the others all but that. No collection, no row.
        """
        after = query.after
        return self._listing(
            query.sort,
            query.full,
            query.newer is not None,
            query.older is not None,
            None if after is None else ("null" if after.key is None else "key"),
            None if query.ids is None else _places(query.ids),
        )

    def _compile_listing(
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
        conditions = [bso.c.userid == _uid, bso.c.collection == _collection, bso.c.ttl > _now]
        if newer:
            conditions.append(bso.c.modified > bindparam("newer"))
        if older:
            conditions.append(bso.c.modified < bindparam("older"))
        if ids is not None:
            conditions.append(_ids_in(bso.c.id, ids))
        if after is not None:
            conditions.append(_behind(sort, after))
        columns: list[Column[Any]] = [
            bso.c.id,
            bso.c.modified,
            bso.c.sortindex,
            *([bso.c.payload] if full else []),
        ]
        head = select(user_collections.c.last_modified, *(self._nothing(column) for column in columns)).where(
            user_collections.c.userid == _uid, user_collections.c.collection == _collection
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
        return self._compile("find", union_all(head, items))

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


def listing_parameters(uid: int, collection: int, query: Query, now: int) -> dict[str, object]:
    """The values of `Statements.listing`; times in milliseconds. One more than `limit` shows whether more follow."""
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
        places = _places(query.ids)
        values |= {f"id{i}": query.ids[min(i, len(query.ids) - 1)] for i in range(places)}
    if query.after is not None:
        values |= _position(query.after)
    return values


def _position(after: Position) -> dict[str, object]:
    key = after.key
    if key is not None and after.sort != "index":
        key *= 10
    return {"after_key": key, "after_id": after.id}
