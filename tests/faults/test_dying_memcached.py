"""Memcached is killed, frozen, emptied, or behind a network that fails: what is in SQL goes on, right and up to date.

Writes wait for one lease, until everybody knows that the cache failed. What lives in the cache alone is refused while
it is away, and is never shown empty under a time that clients know.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.testing.cache_load import CacheLoad
from syncstore.testing.cache_stand import LEASE, TIMEOUT, CacheStand, in_time, visitor
from syncstore.testing.client import SyncClient
from syncstore.testing.disturbances import NETWORK_FAULTS
from syncstore.testing.replies import Reply

DATABASE = "postgresql"
# What a write has to wait for: that the failure is known here for a lease, and to the client in whole seconds.
LONGEST_RETRY = LEASE + 2 + 5


@pytest.fixture(scope="module")
def stand(one_database_url: str) -> Iterator[CacheStand]:
    with CacheStand(one_database_url) as running:
        yield running


@pytest.fixture
def load(stand: CacheStand, tmp_path: Path) -> Iterator[CacheLoad]:
    with CacheLoad(stand, tmp_path) as made:
        yield made


@pytest.fixture
def sync(stand: CacheStand) -> Iterator[SyncClient]:
    """A user with an item in a collection of each kind."""
    with visitor(stand.server) as client:
        for name in ("log", "meta", "tabs"):
            put_in_time(client, name, "before")
        yield client


def test_a_killed_memcached_takes_only_what_lives_in_it_alone(load: CacheLoad, sync: SyncClient) -> None:
    before = sync.get("/info/collections").json
    load.run(0.5)
    with load.disturb.killed_memcached():
        assert_only_cached_only_is_away(sync)
        load.run(0.3)
    lost = in_time(sync.get, "/storage/tabs?full=1")

    assert lost.json == []
    assert lost.modified > before["tabs"]
    assert "tabs" not in sync.get("/info/collections").json
    assert put_in_time(sync, "tabs", "after").modified > lost.modified
    assert [item["payload"] for item in sync.get("/storage/tabs?full=1").json] == ["after"]
    load.run(0.5)
    assert load.problems() == []


def test_a_frozen_memcached_loses_nothing(load: CacheLoad, sync: SyncClient) -> None:
    """Longer than it takes to do without it; what it was told meanwhile, it does late."""
    load.run(0.5)
    with load.disturb.frozen_memcached():
        assert_only_cached_only_is_away(sync)
        time.sleep(TIMEOUT + LEASE)
    there = in_time(sync.get, "/storage/tabs?full=1")

    assert [item["payload"] for item in there.json] == ["before"]
    load.run(0.5)
    assert load.problems() == []


def test_what_is_emptied_taken_away_and_cut_is_only_slower(load: CacheLoad) -> None:
    disturb = load.disturb
    moments = iter([disturb.evict, disturb.flush, disturb.cut_connections] * 3)
    load.run(2.0, lambda: next(moments)(), every=0.25)

    assert load.problems() == []
    assert {one.kind for one in disturb.episodes} >= {"items evicted", "memcached flushed", "connections cut"}


def test_a_worker_that_is_killed_leaves_the_cache_right(load: CacheLoad) -> None:
    load.run(1.5, load.disturb.kill_worker, every=0.3)

    assert load.problems() == []
    assert [one.kind for one in load.disturb.episodes] == ["worker killed"]


def test_a_network_that_fails_is_as_if_there_were_no_cache(load: CacheLoad) -> None:
    for name in NETWORK_FAULTS:
        with load.disturb.network(name):
            load.run(0.3)
    load.run(0.3)

    assert load.problems() == []


def test_a_memcached_that_is_always_full_forgets_and_nothing_else(
    one_database_url: str, tmp_path: Path
) -> None:
    with CacheStand(one_database_url, workers=1, memory=1) as stand, CacheLoad(stand, tmp_path) as load:
        with load.disturb.crowded():
            load.run(1.5)

        assert load.problems() == []
        assert load.disturb.hits["evictions"], "nothing was evicted"


def test_a_memcached_may_come_after_the_servers(one_database_url: str, tmp_path: Path) -> None:
    stand = CacheStand(one_database_url, workers=1)
    try:
        stand.start(memcached=False)
        with visitor(stand.server) as sync:
            for name in ("log", "meta"):
                put_in_time(sync, name, "before")
            assert_only_cached_only_is_away(sync)
            stand.memcached.start()
            put_in_time(sync, "tabs", "after")
        with CacheLoad(stand, tmp_path) as load:
            load.run(0.3)
            assert load.problems() == []
            assert load.disturb.hits["get_hits"], "the cache is not in use"
    finally:
        stand.close()


def put_in_time(sync: SyncClient, collection: str, payload: str) -> Reply:
    def put() -> Reply:
        reply = sync.put(f"/storage/{collection}/a", {"payload": payload})
        if reply.status == 503 and collection != "tabs":
            assert int(reply["Retry-After"]) <= LONGEST_RETRY, "for what takes no longer than a lease"
        return reply

    return in_time(put)


def assert_only_cached_only_is_away(sync: SyncClient) -> None:
    """Reads of what is in SQL at once, writes after a lease; the rest is refused, and not shown empty."""
    for path in ("/storage/log/a", "/storage/meta/a", "/storage/log?full=1", "/storage/meta?full=1"):
        assert sync.get(path).status == 200
    assert {"log", "meta"} <= sync.get("/info/collections").json.keys()
    assert sync.get("/storage/tabs?full=1").status == 503
    for name in ("log", "meta"):
        put_in_time(sync, name, "without a cache")
        assert sync.get(f"/storage/{name}/a").json["payload"] == "without a cache"
    assert sync.put("/storage/tabs/b", {"payload": "nowhere"}).status == 503
    assert sync.get("/storage/tabs?full=1").status == 503
    assert sync.get("/info/collections").status == 200
