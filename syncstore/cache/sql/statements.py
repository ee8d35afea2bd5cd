"""The table of the provider `sql`, and its statements, each compiled once for a kind of database.

A change touches one row by its primary key, and says itself in what state that must be; so it is atomic in one
statement, without a lock taken before. That the row was in another state is told by the number of rows touched.

The row of no namespace, `INCARNATION`, holds the table's incarnation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Double,
    Insert,
    LargeBinary,
    MetaData,
    Table,
    and_,
    any_,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql import ClauseElement

TABLE: Final = "socache"
INCARNATION: Final = b"incarnation"
PAGE: Final = 64
"""Rows that a listing reads at once."""

_MOST_KEYS = 16_384  # SQLite takes no more than 32,766 parameters

socache = Table(
    TABLE,
    MetaData(),
    Column("ns", LargeBinary, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("expires", Double, nullable=False),
    Column("version", BigInteger, nullable=False),
)
_NEW: Final[dict[str, BindParameter[Any]]] = {
    name: bindparam(name) for name in ("ns", "key", "value", "expires", "version")
}
_AT = and_(socache.c.ns == bindparam("ns"), socache.c.key == bindparam("key"))
_ZERO: ColumnElement[float] = literal_column("0")
_DEAD = and_(socache.c.expires > _ZERO, socache.c.expires <= bindparam("now"))
_LIVE = or_(socache.c.expires == _ZERO, socache.c.expires > bindparam("now"))
_SEEN = socache.c.version == bindparam("seen")


class Statement:
    """A statement that is compiled at its first use: its text, which begins with its name as a comment, and how to
    order parameters."""

    def __init__(self, name: str, clause: ClauseElement, dialect: Dialect) -> None:
        self._name = name
        self._clause = clause
        self._dialect = dialect

    @cached_property
    def sql(self) -> str:
        """The text."""
        text = re.sub(r"\s*\n\s*", " ", str(self._compiled))
        return f"/* socache {self._name} */ {text}"

    def bind(self, given: Mapping[str, object]) -> Sequence[object]:
        """The parameters in the statement's order."""
        if self._fixed:
            given = {**self._fixed, **given}
        if len(self._names) == 1:
            return (given[self._names[0]],)
        picked: Sequence[object] = self._pick(given)
        return picked

    @cached_property
    def _compiled(self) -> Any:
        return self._clause.compile(dialect=self._dialect)

    @cached_property
    def _names(self) -> Sequence[str]:
        return tuple(self._compiled.positiontup)

    @cached_property
    def _pick(self) -> Any:
        return itemgetter(*self._names)

    @cached_property
    def _fixed(self) -> Mapping[str, object]:
        """Constants that Core makes parameters of, such as SQLite's OFFSET."""
        return {name: value for name, value in self._compiled.params.items() if value is not None}


class Statements:
    """All of them. Those that store need `ns`, `key`, `value`, `expires`, `version`; `now` is in seconds since the
    epoch, and `seen` the number of a token."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        name = dialect.name
        insert: Any = {"sqlite": sqlite, "mysql": mysql, "postgresql": postgresql}[name].insert
        row: Insert = insert(socache).values(_NEW)
        columns = (socache.c.key, socache.c.value, socache.c.version, socache.c.expires)
        in_space = socache.c.ns == bindparam("ns")
        self.put = self._compile("put", _over(row, None))
        self.add = self._compile("add", _over(row, _DEAD))
        self.swap = self._compile(
            "swap",
            update(socache)
            .where(_AT, _SEEN, _LIVE)
            .values({name: _NEW[name] for name in ("value", "expires", "version")}),
        )
        self.remove = self._compile("remove", delete(socache).where(_AT, _LIVE))
        self.remove_seen = self._compile("remove_seen", delete(socache).where(_AT, _SEEN, _LIVE))
        self.look = self._compile("look", select(socache.c.version).where(_AT, _LIVE))
        self.page = self._compile(
            "page",
            select(*columns)
            .where(in_space, socache.c.key > bindparam("after"))
            .order_by(socache.c.key)
            .limit(PAGE),
        )
        self.count = self._compile("count", select(func.count()).select_from(socache).where(in_space))
        self._culls: dict[int, Statement] = {}
        self._find = select(*columns).where(in_space)
        self._found: dict[int, Statement] = {}

    def _compile(self, name: str, clause: ClauseElement) -> Statement:
        return Statement(name, clause, self._dialect)

    def cull(self, most: int) -> Statement:
        """Removes what has expired, `most` at once. Needs `ns` and `now`."""
        statement = self._culls.get(most)
        if statement is None:
            statement = self._culls[most] = self._compile("cull", _culling(self._dialect.name, most))
        return statement

    def find(self, namespace: bytes, keys: Sequence[bytes]) -> list[tuple[str, Sequence[object]]]:
        """The statement that reads (key, value, version, expires) of these keys, one for all unless they are more than
        ten thousand."""
        if self._dialect.name == "postgresql" and len(keys) > 1:
            statement = self._found.get(0)
            if statement is None:
                array: ColumnElement[Any] = bindparam("keys", type_=postgresql.ARRAY(LargeBinary))
                clause = self._find.where(socache.c.key == any_(array))
                statement = self._found[0] = self._compile("find", clause)
            return [(statement.sql, statement.bind({"ns": namespace, "keys": list(keys)}))]
        found: list[tuple[str, Sequence[object]]] = []
        for start in range(0, len(keys), _MOST_KEYS):
            some = keys[start : start + _MOST_KEYS]
            places = 1 << (len(some) - 1).bit_length()  # so that there are few texts
            statement = self._found.get(places)
            if statement is None:
                names: list[BindParameter[Any]] = [bindparam(f"key{number}") for number in range(places)]
                clause = self._find.where(
                    socache.c.key.in_(names) if places > 1 else socache.c.key == names[0]
                )
                statement = self._found[places] = self._compile("find", clause)
            found.append((statement.sql, (namespace, *some, *[some[-1]] * (places - len(some)))))
        return found


def _over(row: Any, dead: ColumnElement[bool] | None) -> ClauseElement:
    """An insert that replaces what is there, with `dead` only where that is true of it."""
    names = ("value", "version", "expires")
    if hasattr(row, "on_conflict_do_update"):
        new = {name: row.excluded[name] for name in names}
        clause: ClauseElement = row.on_conflict_do_update(
            index_elements=[socache.c.ns, socache.c.key], set_=new, where=dead
        )
        return clause
    # MySQL assigns from the left to the right, and later ones see what was assigned: `expires` comes last.
    assigned = [
        (name, row.inserted[name] if dead is None else func.if_(dead, row.inserted[name], socache.c[name]))
        for name in names
    ]
    other: ClauseElement = row.on_duplicate_key_update(assigned)
    return other


def _culling(dialect: str, most: int) -> ClauseElement:
    """By the index of expiries. Who culls at the same time takes others, where the database can pass them over."""
    dead = and_(socache.c.ns == bindparam("ns"), _DEAD)
    if dialect == "mysql":
        return delete(socache).where(dead).with_dialect_options(mysql_limit=most)
    some = select(socache.c.key).where(dead).order_by(socache.c.expires).limit(most)
    if dialect == "postgresql":
        # Of an array, or the planner might look for some more of them, again and again.
        found = func.array(some.with_for_update(skip_locked=True).scalar_subquery())
        return delete(socache).where(dead, socache.c.key == any_(found))
    return delete(socache).where(dead, socache.c.key.in_(some))
