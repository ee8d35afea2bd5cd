"""The provider `sql` keeps the contract on each kind of database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.cache.sql import SqlProvider
from syncstore.cache.sql.address import parse_address
from syncstore.cache.sql.database import Database
from syncstore.cache.sql.kinds import kind_of
from syncstore.clock import Clock
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.processes import HOST, free_port

PATIENCE = 20.0  # seconds for others' turns: the machine may be busy


def opened(
    url: str,
    clock: Clock,
    *,
    namespace: str = "a",
    timeout: float = PATIENCE,
    connections: int = 8,
    max_value: int = 2**20,
) -> SqlProvider:
    kind = kind_of(parse_address(url, "", Path("/")), timeout)
    database = Database(kind, connections=connections, timeout=timeout)
    return SqlProvider(database, clock, namespace=namespace, max_value=max_value)


class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, database_url: str) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: opened(database_url, clock)) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self, database_url: str, tmp_path: Path) -> Iterator[OpenCache]:
        kind = database_url.partition("+")[0]
        nowhere = f"{kind}://nobody@{HOST}:{free_port()}/none"
        if database_url.startswith("sqlite"):
            nowhere = f"sqlite:///{tmp_path / 'nowhere' / 'cache.db'}"
        with OpenCaches(lambda clock: opened(nowhere, clock)) as open_cache:
            yield open_cache
