"""Clusters on real servers, closed when the test ends; and that it leaves no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol
from uuid import uuid4

import pytest

from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts


class Open(Protocol):
    """Clusters with one, "main", on these hosts."""

    def __call__(self, hosts: str, *, drain: float = ..., **facts: Any) -> Clusters: ...


@pytest.fixture
def opened() -> Iterator[Open]:
    all_of_them: list[Clusters] = []

    def make(hosts: str, *, drain: float = 5.0, **facts: Any) -> Clusters:
        clusters = Clusters([Ensemble("main", parse_hosts(hosts), **facts)], drain=drain)
        all_of_them.append(clusters)
        return clusters

    yield make
    for clusters in all_of_them:
        clusters.close()


@pytest.fixture
def clusters(opened: Open, zookeeper_server: ZooKeeperServer) -> Clusters:
    """On the shared server, each test below a path of its own."""
    return opened(zookeeper_server.hosts, chroot=f"/{uuid4().hex}")


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Set up before, and so torn down after the clusters are closed."""
    before = set(threading.enumerate())
    yield
    await_that(lambda: not set(threading.enumerate()) - before, 40)
