"""The provider `redis` keeps the contract, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.cache.redis.address import parse_address
from syncstore.cache.redis.provider import RedisProvider
from syncstore.cache.redis.server import Server
from syncstore.clock import Clock
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.redis_server import RedisServer

PATIENCE = 20.0


def opened(
    address: str,
    clock: Clock,
    *,
    namespace: str = "a",
    timeout: float = PATIENCE,
    connections: int = 8,
    max_value: int = 2**20,
    password_file: Path | None = None,
) -> RedisProvider:
    server = Server(parse_address(address, password_file), connections=connections, timeout=timeout)
    return RedisProvider(server, clock, namespace=namespace, max_value=max_value)


class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, redis_server: RedisServer) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: opened(redis_server.address, clock)) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: opened(f"{HOST}:{free_port()}", clock)) as open_cache:
            yield open_cache
