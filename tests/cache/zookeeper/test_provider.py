"""The provider `zookeeper` keeps the contract, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from syncstore.cache.api import Provider
from syncstore.cache.zookeeper.places import Places
from syncstore.cache.zookeeper.provider import ZooKeeperProvider
from syncstore.clock import Clock
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts

LONG = 20.0
PATH = f"/{uuid4().hex}"


@contextmanager
def in_a_cluster(hosts: str, *, timeout: float, agreed: bool) -> Iterator[OpenCache]:
    clusters = Clusters([Ensemble("main", parse_hosts(hosts))])

    def open_one(clock: Clock) -> Provider:
        places = Places(PATH, "agreed" if agreed else "synced")
        return ZooKeeperProvider(clusters["main"], places, clock, timeout=timeout, agreed=agreed)

    with OpenCaches(open_one) as open_cache:
        yield open_cache
    clusters.close()


class TestSynced(CacheConformance):
    agreed = False

    @pytest.fixture
    def open_cache(self, zookeeper_server: ZooKeeperServer) -> Iterator[OpenCache]:
        with in_a_cluster(zookeeper_server.hosts, timeout=LONG, agreed=self.agreed) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self) -> Iterator[OpenCache]:
        with in_a_cluster(f"{HOST}:{free_port()}", timeout=0.05, agreed=self.agreed) as open_cache:
            yield open_cache


@pytest.mark.soak
class TestAgreed(TestSynced):
    agreed = True
