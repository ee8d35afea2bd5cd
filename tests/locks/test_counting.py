"""Processes count together, in the database and in the cache alone, under each kind of lock: none is lost."""

from __future__ import annotations

import random

import pytest

from syncstore.storage.sql import migrate
from syncstore.testing.cached_app import cached_settings, zookeeper_settings
from syncstore.testing.counting import count_together
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.zookeeper_servers import ZooKeeperServer

DATABASE = "postgresql"
# Processes and rounds: starting many costs more than letting them count.
LOADS = [(3, 20), pytest.param((8, 2000), marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("kind", ["uncached", "cached only"])
@pytest.mark.parametrize("backend", ["sql", "memcached", "zookeeper"])
def test_processes_that_count_together_lose_nothing(
    one_database_url: str,
    memcached_server: MemcachedServer,
    zookeeper_server: ZooKeeperServer,
    backend: str,
    kind: str,
    load: tuple[int, int],
) -> None:
    migrate.upgrade(one_database_url)
    ini = cached_settings(one_database_url, memcached_server.address, kind, backend)
    if backend == "zookeeper":
        ini |= zookeeper_settings(zookeeper_server.hosts)
    uid = random.randrange(1, 2**31)
    processes, rounds = load
    found = count_together(ini, uid, "c", processes=processes, rounds=rounds, timeout=3000)
    assert found == processes * rounds
