"""Opening the provider `sql` in tests, and looking at what it does to its database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine

from syncstore.cache.sql import SqlProvider
from syncstore.cache.sql.address import parse_address
from syncstore.cache.sql.database import Database
from syncstore.cache.sql.kinds import Link, Result, Step, kind_of
from syncstore.clock import Clock, SystemClock

PATIENCE = 20.0  # seconds for others' turns: the machine may be busy


def open_sql(
    url: str,
    clock: Clock | None = None,
    *,
    namespace: str = "a",
    timeout: float = PATIENCE,
    connections: int = 8,
    max_value: int = 2**20,
) -> SqlProvider:
    """A cache in the database of a URL."""
    kind = kind_of(parse_address(url, "", Path("/")), timeout)
    database = Database(kind, connections=connections, timeout=timeout)
    return SqlProvider(database, clock or SystemClock(), namespace=namespace, max_value=max_value)


def run_sql(url: str, *statements: str) -> list[tuple[object, ...]]:
    """Run statements by themselves; the rows of the last one."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for statement in statements:
            result = connection.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


class Trips:
    """How often a database was asked, and how many statements each time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def taken(self) -> list[int]:
        """Those since the last time."""
        sizes, self.sizes = self.sizes, []
        return sizes


@contextmanager
def counted_trips(cache: SqlProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trips]:
    """Count what `cache` asks of its database."""
    trips = Trips()
    cache.status()
    link: Link = cache._database.run(lambda link: link, again=True)
    kind = type(link)
    one, together = kind.one, kind.together

    def counted_one(self: Link, step: Step) -> Result:
        trips.sizes.append(1)
        return one(self, step)

    def counted_together(self: Link, steps: Sequence[Step]) -> list[Result]:
        results = together(self, steps)
        trips.sizes.append(len(steps))
        return results

    with monkeypatch.context() as patched:
        patched.setattr(kind, "one", counted_one)
        if not cache._database.kind.patient:  # SQLite's runs them by `one`, and has no trips
            patched.setattr(kind, "together", counted_together)
        yield trips
