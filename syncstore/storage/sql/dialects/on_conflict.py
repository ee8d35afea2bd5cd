"""The upsert that SQLite and PostgreSQL share: INSERT ... ON CONFLICT DO UPDATE."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from sqlalchemy import Select, Table, func
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert

_Insert = TypeVar("_Insert", SqliteInsert, PostgresqlInsert)


def on_conflict(
    insert: _Insert, table: Table, columns: Iterable[str], select: Select[Any] | None, *, keep_null: bool
) -> _Insert:
    """Complete a dialect's `insert` into `table` (see Dialect.upsert)."""
    if select is not None:
        insert = insert.from_select(list(table.columns.keys()), select)
    new = insert.excluded
    changes = {name: func.coalesce(new[name], table.c[name]) if keep_null else new[name] for name in columns}
    return insert.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=changes)
