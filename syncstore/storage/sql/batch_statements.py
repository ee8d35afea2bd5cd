"""The statements that commit a batch: staged fields over those of live items over defaults, all in the database.

A batch may hold ten thousand items and 250 MB, which must not travel through the process a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
)

from syncstore.storage.sql import clauses
from syncstore.storage.sql.compiling import Statement
from syncstore.storage.sql.dialects.api import Dialect
from syncstore.storage.sql.schema import batch_upload_items, bso


class BatchStatements:
    """The two statements for one database. Both take uid, collection, batch and `time` in milliseconds."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.totals = self._totals()
        self.apply = self._apply()

    @staticmethod
    def _staged() -> tuple[Any, ColumnElement[bool], Callable[[ColumnElement[Any]], ColumnElement[Any]]]:
        """Staged items beside what is stored under their ids; a stored value counts only while it lives."""
        staged, stored = batch_upload_items, bso
        joined = staged.outerjoin(
            stored,
            and_(
                stored.c.userid == staged.c.userid,
                stored.c.collection == clauses.collection,
                stored.c.id == staged.c.id,
            ),
        )

        def live(column: ColumnElement[Any]) -> ColumnElement[Any]:
            return case((stored.c.ttl > bindparam("time"), column))

        return joined, and_(staged.c.userid == clauses.uid, staged.c.batch == clauses.batch), live

    def _totals(self) -> Statement:
        """What the commit of a batch adds to the collection: rows, bytes, and the expired bytes that it replaces."""
        joined, mine, live = self._staged()
        size = func.coalesce(batch_upload_items.c.payload_size, live(bso.c.payload_size), 0)
        return Statement(
            "batch_totals",
            select(
                func.count() - func.count(bso.c.id),
                func.coalesce(func.sum(size), 0) - func.coalesce(func.sum(bso.c.payload_size), 0),
                func.coalesce(func.sum(case((bso.c.ttl <= bindparam("time"), bso.c.payload_size))), 0),
            )
            .select_from(joined)
            .where(mine),
            self._dialect.compiler,
        )

    def _apply(self) -> Statement:
        joined, mine, live = self._staged()
        staged = batch_upload_items.c
        empty: ColumnElement[Any] = literal_column(
            "''::bytea" if self._dialect.name == "postgresql" else "''"
        )
        source = (
            select(
                staged.userid,
                self._typed(clauses.collection),
                staged.id,
                func.coalesce(staged.sortindex, live(bso.c.sortindex)),
                self._typed(bindparam("time")),
                func.coalesce(staged.payload, live(bso.c.payload), empty),
                func.coalesce(staged.payload_size, live(bso.c.payload_size), 0),
                func.coalesce(
                    bindparam("time") + cast(staged.ttl_offset, BigInteger) * 1000,
                    live(bso.c.ttl),
                    clauses.never,
                ),
            )
            .select_from(joined)
            .where(mine)
        )
        columns = ("sortindex", "modified", "payload", "payload_size", "ttl")
        return Statement(
            "apply_batch", self._dialect.upsert(bso, columns, select=source), self._dialect.compiler
        )

    def _typed(self, value: BindParameter[int]) -> ColumnElement[int]:
        # PostgreSQL takes a bare parameter in a select list for text.
        return value + literal_column("0")
