"""Culling: one process of all does it, and nothing that was refreshed is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from syncstore.cache.api import BackendUnavailable, Store
from syncstore.cache.culling import Culling
from syncstore.cache.zookeeper.provider import ZooKeeperProvider
from syncstore.clock import Clock, SystemClock
from syncstore.testing.cache_conformance.rooms import present, value_of
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer, expire

Open = Callable[..., Any]


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def cache(opened: Open, clock: SteppableClock) -> ZooKeeperProvider:
    made: ZooKeeperProvider = opened(clock=clock).cache
    return made


def fill(cache: ZooKeeperProvider, clock: Clock, *, dead: int, alive: int) -> None:
    """Values that expire in 10 seconds, and others that do so later or never."""
    now = clock.seconds()
    cache.change(
        [Store(b"dead%d" % number, b"x", now + 10) for number in range(dead)]
        + [Store(b"alive%d" % number, b"x", (0, now + 1000)[number % 2]) for number in range(alive)]
    )


def nodes(cache: ZooKeeperProvider) -> int:
    count = cache.status()["nodes"]
    assert isinstance(count, int)
    return count


def test_what_has_expired_is_removed_and_nothing_else(
    cache: ZooKeeperProvider, clock: SteppableClock
) -> None:
    fill(cache, clock, dead=30, alive=30)
    assert cache.cull() == 0
    clock.step(20)
    assert nodes(cache) == 60
    assert cache.cull() == 30
    assert nodes(cache) == 30
    assert cache.cull() == 0
    assert len(list(cache.iterate())) == 30
    assert cache.status()["culled"] == 30


def test_it_is_done_in_steps_that_come_to_all(cache: ZooKeeperProvider, clock: SteppableClock) -> None:
    fill(cache, clock, dead=100, alive=10)
    clock.step(20)
    steps = [cache.cull(limit=30) for _ in range(5)]
    assert steps == [30, 30, 30, 10, 0]
    assert nodes(cache) == 10


def test_the_moment_can_be_given(cache: ZooKeeperProvider, clock: SteppableClock) -> None:
    fill(cache, clock, dead=3, alive=4)
    assert cache.cull(clock.seconds() + 5) == 0
    assert cache.cull(clock.seconds() + 10) == 3
    assert cache.cull(clock.seconds() + 2000) == 2
    assert nodes(cache) == 2


def test_with_nothing_stored_it_makes_nothing(opened: Open) -> None:
    cache, cluster = opened()
    assert cache.cull() == 0
    with cluster.acquire() as zk:
        assert zk.exists(cache._places.root) is None


def test_what_is_met_when_it_has_expired_goes_soon(cache: ZooKeeperProvider, clock: SteppableClock) -> None:
    fill(cache, clock, dead=5, alive=5)
    clock.step(20)
    assert cache.fetch([b"dead%d" % number for number in range(5)]) == [None] * 5
    await_that(lambda: nodes(cache) == 5)
    assert len(list(cache.iterate())) == 5


def test_large_values_are_read_a_few_at_a_time(
    cache: ZooKeeperProvider, clock: SteppableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncstore.cache.zookeeper.culler._PAGE_BYTES", 80_800)
    bucket = cache._places.of(b"key").bucket
    keys = [key for key in (b"n%d" % n for n in range(10_000)) if cache._places.of(key).bucket == bucket][:30]
    cache.change([Store(key, b"x" * 9_991, clock.seconds() + 10) for key in keys])
    assert cache.cull() == 0
    assert cache._culler._page == 8
    clock.step(20)
    assert cache.cull() == 30


def test_what_is_not_ours_is_left_alone(opened: Open, clock: SteppableClock) -> None:
    cache, cluster = opened(clock=clock)
    cache.store(b"key", b"x")
    bucket, node = cache._places.of(b"key")
    foreign = [f"{bucket}/a%2fb", f"{bucket}/.well-known", f"{bucket}/%ff%"]
    with cluster.acquire() as zk:
        for path in foreign:
            zk.create(path, b"theirs")
        zk.create(f"{bucket}/key2", b"\1" + bytes(8))
        assert cache.cull(clock.seconds() + 10**9) == 0
        assert [key for key, _ in cache.iterate()] == [b"key"]
        assert sorted(zk.children(bucket)) == sorted(
            path.rpartition("/")[2] for path in [*foreign, node, "/key2"]
        )


# -- who does it


@pytest.mark.soak
def test_one_of_two_processes_does_all_the_work(opened: Open, clock: SteppableClock) -> None:
    """2,000 values of which half have expired."""
    first, second = (opened(clock=clock).cache for _ in range(2))
    fill(first, clock, dead=1000, alive=1000)
    clock.step(20)
    counts: list[list[int]] = [[], []]

    def work(place: int, cache: ZooKeeperProvider) -> None:
        while nodes(cache) > 1000:
            counts[place].append(cache.cull(limit=100))

    threads = [threading.Thread(target=work, args=each) for each in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    culled = [cache.status()["culled"] for cache in (first, second)]
    assert sorted(map(sum, counts)) == sorted(culled) == [0, 1000]
    leaders = sorted(str(cache.status()["culler"]) for cache in (first, second))
    assert leaders == ["another", "this process"]
    assert len(list(first.iterate())) == 1000


def test_a_value_that_is_refreshed_meanwhile_survives_each_time(opened: Open, clock: SteppableClock) -> None:
    """A hundred times, at each moment of the culling."""
    cache, other = (opened(clock=clock).cache for _ in range(2))
    stop = threading.Event()
    keys = [b"fresh%d" % number for number in range(20)]

    def refresh() -> None:
        while not stop.is_set():
            for key in keys:
                other.store(key, b"refreshed", clock.seconds() + 1000)

    for round_ in range(5):
        now = clock.seconds()
        cache.change([Store(key, b"old", now + 10) for key in keys])
        fill(cache, clock, dead=60, alive=0)
        clock.step(20)
        stop.clear()
        thread = threading.Thread(target=refresh)
        thread.start()
        dropped = cache.cull()
        stop.set()
        thread.join()
        assert 60 <= dropped <= 80
        assert [item.value for item in present(cache.fetch(keys))] == [b"refreshed"] * 20, round_


@contextmanager
def between_look_and_delete(cache: ZooKeeperProvider, act: Callable[[], object]) -> Iterator[None]:
    """Do something each time when values have been read that are about to be deleted."""
    transactions = cache._transactions
    original = transactions.change

    def change(*arguments: Any) -> Any:
        act()
        return original(*arguments)

    transactions.change = change  # type: ignore[assignment,method-assign]
    yield
    transactions.change = original  # type: ignore[method-assign]


@pytest.mark.soak
def test_a_value_refreshed_between_look_and_delete_survives_100_times_of_100(
    opened: Open, clock: SteppableClock
) -> None:
    cache, other = (opened(clock=clock).cache for _ in range(2))
    for number in range(100):
        key = b"fresh%d" % number
        cache.store(key, b"old", clock.seconds() + 10)
        fill(cache, clock, dead=1, alive=0)
        clock.step(20)
        refresh = (partial(other.store, key, b"new"), partial(other.fetch, [key], reserve=1000))
        with between_look_and_delete(cache, refresh[number % 2]):
            assert cache.cull() == 1
        assert value_of(cache, key) == (b"new", b"")[number % 2]
        other.remove(key)


def test_who_closes_leaves_it_to_the_next(opened: Open, clock: SteppableClock) -> None:
    first, second = (opened(clock=clock).cache for _ in range(2))
    fill(first, clock, dead=2, alive=0)
    clock.step(20)
    assert first.cull(limit=1) == 1
    assert second.cull() == 0
    first.close()
    assert second.status()["culler"] == "nobody"
    assert second.cull() == 1


def test_who_has_lost_the_session_begins_anew(
    opened: Open, clock: SteppableClock, zookeeper_server: ZooKeeperServer
) -> None:
    cache, cluster = opened(clock=clock)
    fill(cache, clock, dead=3, alive=0)
    assert cache.cull() == 0
    expire(zookeeper_server.hosts, cluster)
    clock.step(20)
    await_that(lambda: cache.cull() == 3)


def test_when_the_leader_is_killed_another_culls(opened: Open) -> None:
    clock = SystemClock()
    interval, session = 0.5, 1.5
    cache = opened(session_timeout=session).cache
    cache.store(b"first", b"x", clock.seconds() + 0.05)
    leader = forked(lambda: cull_for_ever(cache))
    await_that(lambda: nodes(cache) == 0)
    assert cache.status()["culler"] == "another"
    os.kill(leader, signal.SIGKILL)
    os.waitpid(leader, 0)
    cache.change([Store(b"dead%d" % number, b"x", clock.seconds() + 0.05) for number in range(20)])
    culling = Culling(cache, interval, name="objects")
    culling.start()
    began = time.monotonic()
    await_that(lambda: cache.status()["culled"] == 20)
    assert (
        time.monotonic() - began < (session + interval) * 3 + 5
    )  # for a machine that does other things, too
    assert nodes(cache) == 0
    culling.stop()


def cull_for_ever(cache: ZooKeeperProvider) -> None:
    while True:
        cache.cull()
        time.sleep(0.01)


def forked(work: Callable[[], object]) -> int:
    """The process that does it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns whenever there are threads
        child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    return child


@pytest.mark.soak
def test_five_thousand_values_are_culled_by_one_process_and_the_refreshed_kept(
    opened: Open, clock: SteppableClock
) -> None:
    first, second = (opened(clock=clock).cache for _ in range(2))
    fill(first, clock, dead=5000, alive=5000)
    clock.step(20)
    fresh = [b"dead%d" % number for number in range(0, 5000, 50)]
    thread = threading.Thread(
        target=lambda: [second.store(key, b"new", clock.seconds() + 1000) for key in fresh]
    )
    thread.start()
    began = time.monotonic()
    total = 0
    while (step := first.cull()) or nodes(first) > 5000 + len(fresh):
        total += step
        assert second.cull() == 0
    took = time.monotonic() - began
    thread.join()
    print(f"{total} culled in {took:.2f} s")  # noqa: T201 - what a soak is run for
    kept = [key for key in fresh if value_of(first, key) == b"new"]
    assert kept == fresh
    assert 4900 <= total <= 5000
    assert len(list(first.iterate())) == 5000 + len(fresh)


def test_a_culler_that_asks_nobody_is_told(opened: Open) -> None:
    cache = opened("127.0.0.1:1", timeout=0.2).cache
    with pytest.raises(BackendUnavailable):
        cache.cull()
