"""SQL text compiled once: Core statements in, strings for the driver out.

Executing a Core statement costs 15 to 100 microseconds of machinery at every execution, and an upsert is
compiled anew each time (performance is why this module exists). So each statement is compiled once, at its
first use, and from then on runs as a string on the pool's raw connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Insert, Table, bindparam
from sqlalchemy.engine.interfaces import Dialect as SqlalchemyDialect
from sqlalchemy.sql import ClauseElement

from syncstore.storage.sql.dialects.api import Write


class Statement:
    """A compiled statement: its text, which begins with its name as a comment, and how to order parameters."""

    __slots__ = ("_fixed", "_pick", "names", "sql")

    def __init__(self, name: str, clause: ClauseElement, dialect: SqlalchemyDialect) -> None:
        compiled = clause.compile(dialect=dialect)
        text = re.sub(r"\s*\n\s*", " ", str(compiled))
        self.sql = f"/* {name} */ {text}"
        self.names: Sequence[str] = tuple(getattr(compiled, "positiontup", None) or ())
        self._pick = itemgetter(*self.names) if len(self.names) > 1 else None
        # Constants of the clause itself, which Core makes parameters of, too.
        self._fixed = {name: value for name, value in compiled.params.items() if value is not None}

    def bind(self, values: Mapping[str, object]) -> Sequence[object]:
        """The parameters in the statement's order."""
        if self._fixed:
            values = {**self._fixed, **values}
        if self._pick is not None:
            picked: Sequence[object] = self._pick(values)
            return picked
        return tuple(values[name] for name in self.names)

    def write(self, values: Mapping[str, object]) -> Write:
        """The statement with its parameters, for a unit of work."""
        return Write(self.sql, self.bind(values))


class IdsStatement:
    """A statement with a list of ids, `id0` to `idN` side by side in its text, bound by position.

    With `inline` the ids are written into the text as hexadecimal literals, which need no escaping: for a driver
    that makes text of parameters in Python, at a microsecond and more apiece.
    """

    __slots__ = ("_after", "_around", "_before", "_count", "_sql")

    def __init__(
        self,
        name: str,
        clause: ClauseElement,
        dialect: SqlalchemyDialect,
        count: int,
        *,
        inline: bool = False,
    ) -> None:
        statement = Statement(name, clause, dialect)
        names = list(statement.names)
        start = names.index("id0")
        if names[start : start + count] != [f"id{i}" for i in range(count)]:
            raise AssertionError(f"{name}: the ids are not side by side: {names}")
        self._before = names[:start]
        self._after = names[start + count :]
        self._count = count
        self._sql = statement.sql
        group = ", ".join(["%s"] * count)
        before, found, after = statement.sql.partition(f"({group})")
        self._around = (f"{before}(", f"){after}") if inline and found else None

    def write(self, values: Mapping[str, object], ids: Sequence[str]) -> Write:
        """The statement for these ids; the last one is repeated where the text has room for more."""
        before = [values[name] for name in self._before]
        after = [values[name] for name in self._after]
        if self._around is not None:
            head, tail = self._around
            return Write(head + ",".join([hexadecimal(id_) for id_ in ids]) + tail, [*before, *after])
        padding = [ids[-1]] * (self._count - len(ids))
        return Write(self._sql, [*before, *ids, *padding, *after])


def hexadecimal(text: str) -> str:
    """A text as an SQL literal of its bytes, safe whatever they are."""
    return f"X'{text.encode().hex()}'"


class RowsStatement:
    """An INSERT of any number of rows in one statement, its text made by repeating the group of one row."""

    def __init__(self, name: str, insert: Insert, table: Table, dialect: SqlalchemyDialect) -> None:
        one = insert.values({column.name: bindparam(column.name) for column in table.columns})
        statement = Statement(name, one, dialect)
        if tuple(statement.names) != tuple(table.columns.keys()):
            raise AssertionError(f"{name}: the parameters are not the table's columns: {statement.names}")
        mark = "?" if dialect.paramstyle == "qmark" else "%s"
        group = "(" + ", ".join([mark] * len(table.columns)) + ")"
        self._before, self._group, self._after = statement.sql.partition(group)
        if not self._group:
            raise AssertionError(f"{name}: no row of values in {statement.sql}")
        self._texts: dict[int, str] = {}

    @property
    def around(self) -> tuple[str, str]:
        """The text before and after the rows."""
        return self._before, self._after

    def write(self, rows: Sequence[tuple[Any, ...]]) -> Write:
        """The statement for these rows, each in the order of the table's columns."""
        count = len(rows)
        sql = self._texts.get(count)
        if sql is None:
            sql = self._texts[count] = self._before + ", ".join([self._group] * count) + self._after
        return Write(sql, list(chain.from_iterable(rows)))
