"""Caches in real ZooKeepers, closed when the test ends, and the clusters that they are in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import pytest

from syncstore.cache.zookeeper.places import Places
from syncstore.cache.zookeeper.provider import ZooKeeperProvider
from syncstore.clock import Clock, SystemClock
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts

LONG = 20.0


class Opened(NamedTuple):
    """A cache, and its cluster in this process, which no other cache has."""

    cache: ZooKeeperProvider
    cluster: Cluster


class Open(Protocol):
    """Opens the cache of the test; all that one test opens are the same, over clusters of their own."""

    def __call__(
        self, hosts: str = ..., clock: Clock = ..., *, session_timeout: float = ..., **facts: Any
    ) -> Opened: ...


@pytest.fixture
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    caches: list[ZooKeeperProvider] = []
    all_clusters: list[Clusters] = []
    path = f"/{uuid4().hex}"

    def make(
        hosts: str = "", clock: Clock | None = None, *, session_timeout: float = 4.0, **facts: Any
    ) -> Opened:
        if not hosts:
            server: ZooKeeperServer = request.getfixturevalue("zookeeper_server")
            hosts = server.hosts
        clusters = Clusters([Ensemble("main", parse_hosts(hosts), session_timeout=session_timeout)])
        all_clusters.append(clusters)
        facts = {"timeout": LONG, **facts}
        cache = ZooKeeperProvider(clusters["main"], Places(path, "test"), clock or SystemClock(), **facts)
        caches.append(cache)
        return Opened(cache, clusters["main"])

    yield make
    for cache in caches:
        cache.close()
    for clusters in all_clusters:
        clusters.close()
