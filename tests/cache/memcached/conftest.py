"""A memcached of the module's own, which its tests may break, and what is opened to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.clock import SystemClock
from syncstore.testing.memcached_pools import PoolStand
from syncstore.testing.plugin import started
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.tcp_proxy import TcpProxy

OpenProvider = Callable[..., MemcachedProvider]


@pytest.fixture
def open_provider() -> Iterator[OpenProvider]:
    """Opens providers, closed at the end of the test. Their deadlines are long unless the test shortens them."""
    opened: list[MemcachedProvider] = []

    def open_one(
        address: str, *, timeout: float = 20.0, pool_size: int = 8, prefix: bytes = b"t:"
    ) -> MemcachedProvider:
        provider = MemcachedProvider(
            Address.parse(address),
            SystemClock(),
            prefix=prefix,
            timeout=timeout,
            connect_timeout=timeout,
            pool_size=pool_size,
        )
        opened.append(provider)
        return provider

    yield open_one
    for provider in opened:
        provider.close()


@pytest.fixture(scope="module")
def _server() -> Iterator[MemcachedServer]:
    with started(MemcachedServer) as server:
        yield server


@pytest.fixture
def server(_server: MemcachedServer) -> MemcachedServer:
    """A memcached of this module alone, alive and awake when the test begins."""
    if not _server.alive:
        _server.start()
    _server.thaw()
    _server.flush()
    return _server


@pytest.fixture
def proxy(server: MemcachedServer) -> Iterator[TcpProxy]:
    """The way to the server, in good order."""
    with TcpProxy(server.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def _memcacheds() -> Iterator[PoolStand]:
    stand = started(PoolStand)
    yield stand
    stand.close()


@pytest.fixture
def memcacheds(_memcacheds: PoolStand) -> PoolStand:
    """Three memcacheds of this module alone, alive, awake and empty when the test begins."""
    return _memcacheds.start()
