"""Memcacheds, and sync servers that use them through proxies of their own, all to be tormented.

All servers know a memcached by one name, since the name is part of what they agree on; but each reaches it by a path
of its own, in its working directory, so that one of them can be cut off while the others are not.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from syncstore.app import _router, open_database, open_locks, open_storage
from syncstore.app_cache import kinds
from syncstore.app_memcached import open_group, open_memcached
from syncstore.clock import SystemClock
from syncstore.settings import Settings, read_settings
from syncstore.settings.cache_servers import CacheServer, cache_servers
from syncstore.settings.values import CacheAddress
from syncstore.storage.layered.inspecting import Inspector
from syncstore.storage.layered.verifying import Verifier
from syncstore.testing.client import SyncClient
from syncstore.testing.history import CacheLife
from syncstore.testing.load_client import OneTry
from syncstore.testing.load_places import CACHED_ONLY, COPIED, names
from syncstore.testing.replies import Reply
from syncstore.testing.servers import HOST, MemcachedServer
from syncstore.testing.service import SECRET, SyncServer
from syncstore.testing.tcp_proxy import TcpProxy
from syncstore.testing.transports import InProcess

LEASE = 0.5
TIMEOUT = 0.25
"""Seconds of `memcached.state_lease` and of both timeouts."""

PATIENCE = 30.0
"""Seconds that a busy machine may need for what takes one or two."""

_SOCKET = "memcached.sock"
ONLY = frozenset(place.name for place in CACHED_ONLY)


def cache_settings(**more: str) -> dict[str, str]:
    """Settings of a server whose memcached is behind a socket in its working directory, wherever that is."""
    return {
        "cache.provider": "memcached",
        "cache.cached_only": names(CACHED_ONLY),
        "cache.write_through": names(COPIED),
        "memcached.servers": _address(0),
        "memcached.timeout": str(TIMEOUT),
        "memcached.connect_timeout": str(TIMEOUT),
        "memcached.state_lease": str(LEASE),
        "memcached.retry_interval": str(LEASE),
    } | more


def _socket(memcached: int) -> str:
    return f"{memcached}-{_SOCKET}" if memcached else _SOCKET


def _address(memcached: int) -> str:
    return f"/proc/self/cwd/{_socket(memcached)}"


class CacheStand:
    """`servers` sync servers of `workers` processes over one database and so many `memcacheds` of `memory` MiB each.

    `more` are settings of the servers. Everything is started by `with`.
    """

    def __init__(
        self,
        database_url: str,
        *,
        servers: int = 1,
        workers: int = 2,
        memcacheds: int = 1,
        memory: int = 64,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.database_url = database_url
        # an item may take half of the memory at most
        options = ("-I", "512k") if memory < 2 else ()
        self.memcacheds = [MemcachedServer(memory=memory, options=options) for _ in range(memcacheds)]
        addresses = " ".join(map(_address, range(memcacheds)))
        self._settings = {**cache_settings(), "memcached.servers": addresses, **(more or {})}
        self.servers = [SyncServer(database_url, self._settings, workers=workers) for _ in range(servers)]
        self.ways = [
            [
                TcpProxy(memcached.port, path=server.directory / _socket(number), keep=False)
                for number, memcached in enumerate(self.memcacheds)
            ]
            for server in self.servers
        ]
        """For each of the servers, what stands between it and each of the memcacheds."""

    @property
    def names(self) -> list[str]:
        """By which users are placed on the memcacheds."""
        return [server.name for server in cache_servers(self._settings["memcached.servers"])]

    @property
    def memcached(self) -> MemcachedServer:
        """The first of the memcacheds."""
        return self.memcacheds[0]

    @property
    def proxies(self) -> list[TcpProxy]:
        """What stands between each of the servers and the first memcached."""
        return [way[0] for way in self.ways]

    @property
    def server(self) -> SyncServer:
        """The first of the servers."""
        return self.servers[0]

    @property
    def proxy(self) -> TcpProxy:
        """What stands between it and the first memcached."""
        return self.proxies[0]

    @property
    def urls(self) -> list[str]:
        """Where clients find the servers."""
        return [server.url for server in self.servers]

    def life(self, losses: Sequence[tuple[float, float]]) -> CacheLife:
        """What a checker must know of the cache, when it may have lost what it held at these times."""
        return CacheLife(ONLY, losses)

    def start(self, *, memcached: bool = True) -> Self:
        """Start everything; without the memcacheds if so asked."""
        if memcached:
            for one in self.memcacheds:
                one.start()
        for server in self.servers:
            server.start()
        return self

    def close(self) -> None:
        """End everything."""
        for server in self.servers:
            server.close()
        for proxy in itertools.chain.from_iterable(self.ways):
            proxy.close()
        for memcached in self.memcacheds:
            memcached.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def disagreements(self, uids: Sequence[int], collections: Iterable[str]) -> list[str]:
        """What is cached and SQL does not say, and what the servers answer of the collections in SQL and a server
        without a cache does not. To be asked when nobody writes."""
        return [*self._cached_wrongly(uids), *self._answered_wrongly(uids, collections)]

    def _read(self) -> Settings:
        """The settings of the servers."""
        ini = {"sqlalchemy.url": self.database_url, "auth.secrets": SECRET, **self._settings}
        return read_settings(ini, {}, Path.cwd())

    def _cached_wrongly(self, uids: Iterable[int]) -> Iterator[str]:
        clock = SystemClock()
        settings = self._read()
        database, statements = open_database(settings)
        below = open_storage(settings, database, statements, open_locks(settings, database, clock), clock)
        group = open_group(settings, below.records, clock)
        prefix = f"{settings.cache_key_prefix}:{below.records.identity()}"
        # by the servers' names for them, but not on their way
        caches = {
            name: open_memcached(
                settings, clock, CacheServer(name, CacheAddress(HOST, memcached.port)), prefix=prefix
            )
            for name, memcached in zip(group.members, self.memcacheds, strict=True)
        }
        try:
            living = kinds(settings)
            for uid in uids:
                home = group.home(b"%d" % uid)
                cache = caches[home.name]
                inspector = Inspector(below, cache, home.state, living, clock)
                verifier = Verifier(inspector, below, cache, living, clock)
                yield from map(str, verifier.differences(uid))
        finally:
            for cache in caches.values():
                cache.close()
            group.close()
            database.close()

    def _answered_wrongly(self, uids: Iterable[int], collections: Iterable[str]) -> Iterator[str]:
        paths = [f"/storage/{name}?full=1" for name in collections if name not in ONLY]
        settings, clock = self._read(), SystemClock()
        database, statements = open_database(settings)
        # Not an app without a cache: that would be another group, to which the servers would give way.
        below = open_storage(settings, database, statements, open_locks(settings, database, clock), clock)
        plain = _router(settings, below, None, clock)
        try:
            for uid, server in itertools.product(uids, self.servers):
                right = SyncClient(uid, SECRET, InProcess(plain))
                with visitor(server, uid) as cached:
                    for path in ["/info/collections", *paths]:
                        one, other = _told(cached.get(path)), _told(right.get(path))
                        if one != other:
                            yield f"{server.url} tells {one} of {path} of {uid}, and not {other}"
        finally:
            below.close()


@contextmanager
def visitor(server: SyncServer, uid: int | None = None) -> Iterator[SyncClient]:
    """A client of a server; a user whom nobody else has, unless one is named."""
    transport = OneTry(server.url)
    try:
        yield SyncClient(uid or random.randrange(1, 2**31), SECRET, transport)
    finally:
        transport.close()


def in_time(ask: Callable[..., Reply], *words: object) -> Reply:
    """The first answer that is no 503, which must be 200 and come before PATIENCE ends."""
    deadline = time.monotonic() + PATIENCE
    while (reply := ask(*words)).status == 503:
        assert time.monotonic() < deadline, reply
        time.sleep(0.02)
    assert reply.status == 200, reply
    return reply


def _told(reply: Reply) -> tuple[int, str | None, object]:
    found = reply.json
    if isinstance(found, dict):
        return reply.status, None, {name: time for name, time in found.items() if name not in ONLY}
    return reply.status, reply.get("X-Last-Modified"), sorted(found, key=lambda bso: str(bso["id"]))
