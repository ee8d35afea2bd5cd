"""The statements of the store, in SQLAlchemy Core, compiled for one database.

Each has a name, which travels in front of it as a comment into the database's slow log and process list.
Parameters are named; `Statement.bind` puts them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, insert, literal_column, select, update
from sqlalchemy.sql import ClauseElement

from syncstore.storage.sql import clauses
from syncstore.storage.sql.compiling import IdsStatement, Statement
from syncstore.storage.sql.dialects.api import Dialect
from syncstore.storage.sql.schema import (
    batch_upload_items,
    batch_uploads,
    bso,
    cache_servers,
    collections,
    user_collections,
    users,
)


class Statements:
    """All statements for one database, each compiled at its first use and kept."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        compiled = self._compile
        mine = user_collections.c.userid == clauses.uid
        this_collection = and_(mine, user_collections.c.collection == clauses.collection)
        my_items = bso.c.userid == clauses.uid
        these_items = and_(my_items, bso.c.collection == clauses.collection)
        this_batch = and_(batch_uploads.c.userid == clauses.uid, batch_uploads.c.batch == clauses.batch)

        self.ping = compiled("ping", select(literal_column("1")))
        self.set_high_water = compiled(
            "set_high_water",
            update(users).where(users.c.userid == clauses.uid).values(high_water=bindparam("time")),
        )
        self.set_times = compiled(
            "set_times",
            update(users)
            .where(users.c.userid == clauses.uid)
            .values(high_water=bindparam("time"), cached=bindparam("cached")),
        )
        server = cache_servers.c.name == bindparam("name")
        self.epoch = compiled("epoch", select(cache_servers.c.epoch).where(server))
        self.advance_epoch = compiled(
            "advance_epoch",
            update(cache_servers)
            .where(server, cache_servers.c.epoch == bindparam("seen"))
            .values(
                epoch=bindparam("next"),
                since=bindparam("since"),
                reason=bindparam("reason"),
                changed_by=bindparam("by"),
            ),
        )
        self.add_server = compiled(
            "add_server",
            insert(cache_servers).values(
                name=bindparam("name"),
                epoch=bindparam("next"),
                since=bindparam("since"),
                reason=bindparam("reason"),
                changed_by=bindparam("by"),
            ),
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
        collection_times = (
            select(users.c.high_water, user_collections.c.collection, user_collections.c.last_modified)
            .select_from(users.outerjoin(user_collections, user_collections.c.userid == users.c.userid))
            .where(users.c.userid == clauses.uid)
        )
        self.collection_times = compiled("collection_times", collection_times)
        self.times = compiled("times", collection_times.add_columns(users.c.cached))
        self.collection_totals = compiled(
            "collection_totals",
            select(
                users.c.high_water,
                user_collections.c.collection,
                user_collections.c.count,
                user_collections.c.total_bytes,
                self._expired(func.count()),
                self._expired(func.coalesce(func.sum(bso.c.payload_size), 0)),
                users.c.cached,
            )
            .select_from(users.outerjoin(user_collections, user_collections.c.userid == users.c.userid))
            .where(users.c.userid == clauses.uid),
        )
        self.collection_modified = compiled(
            "collection_modified", select(user_collections.c.last_modified).where(this_collection)
        )
        self.item = compiled(
            "item",
            select(bso.c.id, bso.c.modified, bso.c.sortindex, bso.c.payload).where(
                these_items, bso.c.id == bindparam("id"), bso.c.ttl > clauses.now
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
                my_items, bso.c.ttl <= clauses.now, bso.c.ttl < clauses.never
            ),
        )
        self.add_collection = compiled(
            "add_collection",
            insert(user_collections).values(
                userid=clauses.uid,
                collection=clauses.collection,
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
            "delete_user_batches", delete(batch_uploads).where(batch_uploads.c.userid == clauses.uid)
        )
        self.delete_user_staged = compiled(
            "delete_user_staged", delete(batch_upload_items).where(batch_upload_items.c.userid == clauses.uid)
        )

        self.add_batch = compiled(
            "add_batch",
            insert(batch_uploads).values(
                userid=clauses.uid,
                batch=clauses.batch,
                collection=clauses.collection,
                created=bindparam("created"),
            ),
        )
        self.open_batch = compiled(
            "open_batch",
            select(batch_uploads.c.batch).where(
                this_batch,
                batch_uploads.c.collection == clauses.collection,
                batch_uploads.c.created > bindparam("oldest"),
            ),
        )
        self.close_batch = compiled("close_batch", delete(batch_uploads).where(this_batch))
        self.delete_staged = compiled(
            "delete_staged",
            delete(batch_upload_items).where(
                batch_upload_items.c.userid == clauses.uid, batch_upload_items.c.batch == clauses.batch
            ),
        )

        self.old_batches = compiled(
            "old_batches",
            select(batch_uploads.c.userid, batch_uploads.c.batch)
            .where(batch_uploads.c.created < bindparam("oldest"))
            .limit(bindparam("limit")),
        )
        self.users_after = compiled(
            "users_after",
            select(users.c.userid)
            .where(users.c.userid > clauses.uid)
            .order_by(users.c.userid)
            .limit(bindparam("limit")),
        )
        expired = and_(
            bso.c.userid == users.c.userid, bso.c.ttl <= bindparam("latest"), bso.c.ttl < clauses.never
        )
        self.users_with_expired = compiled(
            "users_with_expired",
            select(users.c.userid).where(
                users.c.userid > bindparam("after"),
                users.c.userid <= clauses.uid,
                select(bso.c.userid).where(expired).correlate(users).exists(),
            ),
        )
        mine_expired = and_(my_items, bso.c.ttl <= clauses.now, bso.c.ttl < clauses.never)
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
        self._server_lists = cache(self._server_records)

    def state(self, ids: Sequence[str]) -> IdsStatement:
        """The collection's time, count and bytes, beside each row stored, live or expired, under `ids`."""
        return self._states(clauses.places(ids))

    def delete_items(self, ids: Sequence[str]) -> IdsStatement:
        """Delete the rows under `ids`."""
        return self._deletions(clauses.places(ids))

    def server_records(self, places: int) -> Statement:
        """What is known of so many cache servers, the parameters id0, id1 ..."""
        return self._server_lists(places)

    def _server_records(self, places: int) -> Statement:
        these = clauses.ids_in(cache_servers.c.name, places)
        columns = cache_servers.c
        clause = select(columns.name, columns.epoch, columns.since, columns.reason, columns.changed_by)
        return self._compile("server_records", clause.where(these))

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
                bso.c.ttl <= clauses.now,
                bso.c.ttl < clauses.never,
            )
            .correlate(users, user_collections)
            .scalar_subquery()
        )

    def _compile_ids(self, name: str, clause: ClauseElement, count: int) -> IdsStatement:
        return IdsStatement(name, clause, self._dialect.compiler, count, inline=self._dialect.inline_ids)

    def _state(self, count: int) -> IdsStatement:
        joined = user_collections.outerjoin(
            bso,
            and_(
                bso.c.userid == user_collections.c.userid,
                bso.c.collection == user_collections.c.collection,
                clauses.ids_in(bso.c.id, count),
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
            .where(
                user_collections.c.userid == clauses.uid, user_collections.c.collection == clauses.collection
            ),
            count,
        )

    def _delete_items(self, count: int) -> IdsStatement:
        return self._compile_ids(
            "delete_items",
            delete(bso).where(
                bso.c.userid == clauses.uid,
                bso.c.collection == clauses.collection,
                clauses.ids_in(bso.c.id, count),
            ),
            count,
        )
