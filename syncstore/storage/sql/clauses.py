"""The parameters and small clauses that several statements share."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BindParameter, ColumnElement, bindparam, literal_column

from syncstore.storage.sql.schema import NEVER

# Lists of ids are padded to one of these lengths, so that there are few texts to compile and to plan.
_ID_COUNTS = (1, 10, 30, 100, 300, 1000)
MAX_IDS = _ID_COUNTS[-1]

uid: BindParameter[int] = bindparam("uid")
collection: BindParameter[int] = bindparam("collection")
batch: BindParameter[int] = bindparam("batch")
now: BindParameter[int] = bindparam("now")

# As a literal: only then do SQLite and PostgreSQL see that the partial index on ttl serves.
never: ColumnElement[int] = literal_column(str(NEVER))


def places(ids: Sequence[str]) -> int:
    """How many placeholders a list of at most MAX_IDS ids takes."""
    return next(size for size in _ID_COUNTS if size >= len(ids))


def ids_in(column: ColumnElement[str], count: int) -> ColumnElement[bool]:
    """Whether a column's value is among `count` ids, the parameters id0, id1 ..."""
    return column.in_([bindparam(f"id{i}") for i in range(count)])
