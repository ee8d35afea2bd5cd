"""Whoever hangs while it has the lock, and wakes after others have written, overwrites nothing that it did not see."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from syncstore.testing.api_suite.fixtures import SECRET, serving
from syncstore.testing.cache_stand import in_time
from syncstore.testing.cached_app import cached_settings, zookeeper_settings
from syncstore.testing.client import SyncClient
from syncstore.testing.late_writers import Late, LateWriters, Outcome
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.transports import InProcess
from syncstore.testing.zookeeper_servers import ZooKeeperServer

DATABASE = "postgresql"
AT_ONCE = 10
LISTS = {"cache.cached_only": "tabs", "cache.write_through": "meta"}
COLLECTIONS = ("tabs", "meta", "log")


@pytest.fixture(scope="module")
def settings(
    one_database_url: str, memcached_server: MemcachedServer, zookeeper_server: ZooKeeperServer
) -> dict[str, str]:
    cached = cached_settings(one_database_url, memcached_server.address, "uncached", "sql")
    locks = zookeeper_settings(zookeeper_server.hosts) | {"zk.main.session_timeout_ms": "1000"}
    return {**cached, **LISTS, **locks, "lock.timeout": "10"}


@pytest.fixture(scope="module")
def transport(settings: dict[str, str]) -> Iterator[InProcess]:
    """An application that does not hang."""
    with serving(settings) as app:
        yield InProcess(app)


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_a_late_writer_is_refused_or_comes_after_all_others(
    settings: dict[str, str], transport: InProcess, rounds: int
) -> None:
    """In each round ten writers hang in one process, in collections of all kinds, half of them with a precondition."""
    with closing(LateWriters(settings, SECRET)) as late:
        for _ in range(rounds):
            _one_round(late, transport)


def _one_round(late: LateWriters, transport: InProcess) -> None:
    users = [SyncClient(uid, SECRET, transport) for uid in random.sample(range(1, 2**31), AT_ONCE)]
    places = [COLLECTIONS[number % 3] for number in range(AT_ONCE)]
    put = [partial(user.put, f"/storage/{place}/a") for user, place in zip(users, places, strict=True)]
    first = [in_time(one, {"payload": "first"}).modified for one in put]
    writes = [
        Late(user.uid, place, "late", seen if number % 2 else None)
        for number, (user, place, seen) in enumerate(zip(users, places, first, strict=True))
    ]
    outcomes: list[Outcome] = []
    with late.frozen(writes, outcomes):
        others = [in_time(one, {"payload": "other"}).modified for one in put]

    for number, outcome in enumerate(outcomes):
        assert outcome.known_lost, "it takes the lock for its own on waking"
        assert others[number] > first[number]
        there = in_time(users[number].get, f"/storage/{places[number]}?full=1")
        times = users[number].get("/info/collections").json
        if writes[number].unless is not None:
            assert outcome.status == 412
            expected, time = "other", others[number]
        else:
            assert outcome.status == 200
            assert outcome.modified is not None
            assert outcome.modified > others[number]
            expected, time = "late", outcome.modified
        assert [(item["payload"], item["modified"]) for item in there.json] == [(expected, time)]
        assert times == {places[number]: time}
