"""Values with copies on several memcacheds: one may die, and nothing is missed; and nothing old is ever read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from syncstore.cache.api import ABSENT, BackendUnavailable, NotFound, NotSupported, Provider, Remove, Store
from syncstore.cache.memcached.replicas import ReplicatedPool
from syncstore.clock import Clock, SystemClock
from syncstore.testing.cache_conformance import CacheConformance, OpenCache
from syncstore.testing.cache_conformance.rooms import value_of
from syncstore.testing.memcached_pools import (
    OpenPool,
    PoolDescription,
    PoolServer,
    PoolStand,
    keys_of,
    open_pool,
)
from syncstore.testing.waiting import PATIENCE, await_that

ATTEMPTS = 1  # so that servers return in two steps


class Replicated(NamedTuple):
    """A replicated pool, and the plain one whose servers it has."""

    cache: ReplicatedPool
    plain: OpenPool


Open = Callable[..., Replicated]


@pytest.fixture(scope="module")
def stand(_memcacheds: PoolStand) -> PoolStand:
    """Memcacheds that this module's tests of the contract share, without emptying them in between."""
    return _memcacheds


@pytest.fixture(scope="module")
def description(stand: PoolStand, tmp_path_factory: pytest.TempPathFactory) -> PoolDescription:
    """The pool that the contract is proved on."""
    return stand.describe(tmp_path_factory.mktemp("replicas"), attempts=ATTEMPTS, timeout=20.0)


class TestConformance(CacheConformance):
    """The contract, but for compare-and-set."""

    @pytest.fixture
    def open_cache(self, stand: PoolStand, description: PoolDescription) -> Iterator[OpenCache]:
        with ExitStack() as pools:

            def open_it(clock: Clock) -> Provider:
                opened = pools.enter_context(stand.open(description, clock=clock))
                return ReplicatedPool(opened.group, clock, copies=1)

            yield open_it

    @pytest.fixture
    def open_unreachable_cache(self, tmp_path: Path, stand: PoolStand) -> Iterator[OpenCache]:
        nowhere = tuple(PoolServer(name, number + 1) for number, name in enumerate("abc"))
        description = stand.describe(tmp_path, servers=nowhere, attempts=ATTEMPTS, keep=False)
        with ExitStack() as pools:

            def open_it(clock: Clock) -> Provider:
                opened = pools.enter_context(open_pool(description, clock))
                return ReplicatedPool(opened.group, clock, copies=1)

            yield open_it


@pytest.fixture
def open_one(memcacheds: PoolStand, tmp_path: Path) -> Iterator[Open]:
    """Opens replicated pools on the same servers, with the same states, closed at the end of the test."""
    description = memcacheds.describe(tmp_path, attempts=ATTEMPTS)
    with ExitStack() as pools:

        def open_it(copies: int = 1) -> Replicated:
            plain = pools.enter_context(memcacheds.open(description))
            return Replicated(ReplicatedPool(plain.group, SystemClock(), copies=copies), plain)

        yield open_it


def insist(call: Callable[[], object]) -> None:
    """Call until it is done: while a failure is news, changes are refused."""

    def done() -> bool:
        try:
            call()
        except BackendUnavailable:
            return False
        return True

    await_that(done)


def remove_if_there(cache: Provider, key: bytes) -> None:
    """One that was not confirmed may have been made."""
    with suppress(NotFound):
        cache.remove(key)


def test_each_value_is_on_as_many_servers_as_was_said(open_one: Open, memcacheds: PoolStand) -> None:
    one, two = open_one(1), open_one(2)
    keys = [key for name in memcacheds.servers for key in keys_of(one.plain.control, name, 20)]
    for key in keys:
        home, *others = one.cache.servers(key)
        assert home == one.plain.control.find_server(key)
        assert len({home, *others}) == 2
        assert set(two.cache.servers(key)) == {"a", "b", "c"}


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_all_values_are_there_when_their_first_server_is_not(
    open_one: Open, memcacheds: PoolStand, how: str
) -> None:
    cache, plain = open_one()
    keys = [key for name in memcacheds.servers for key in keys_of(plain.control, name, 20)]
    for key in keys:
        cache.store(key, b"of " + key)
    dead = memcacheds.servers["a"]
    if how == "killed":
        dead.kill9()
    else:
        dead.freeze()
    assert [value_of(cache, key) for key in keys] == [b"of " + key for key in keys]
    found = cache.fetch([*keys, b"9:missing"])
    assert [item and item.value for item in found] == [*(b"of " + key for key in keys), None]


@pytest.mark.parametrize("place", [0, 1])
def test_what_was_changed_while_one_was_frozen_is_never_read_from_it(
    open_one: Open, memcacheds: PoolStand, place: int
) -> None:
    writer, reader = open_one(), open_one()
    keys = keys_of(writer.plain.control, "a", 20)
    for key in keys:
        writer.cache.store(key, b"old")
    frozen = memcacheds.servers[writer.cache.servers(keys[0])[place]]
    same = [key for key in keys if writer.cache.servers(key) == writer.cache.servers(keys[0])]
    kept, removed = same[::2], same[1::2]
    frozen.freeze()
    for key in kept:
        insist(lambda key=key: writer.cache.store(key, b"new"))  # type: ignore[misc]  # its own key
    for key in removed:
        insist(lambda key=key: remove_if_there(writer.cache, key))  # type: ignore[misc]  # its own key
    frozen.thaw()
    name = writer.cache.servers(keys[0])[place]

    def all_see() -> bool:
        for key in same:
            for replicated in (writer, reader):
                assert value_of(replicated.cache, key) in ((b"new", None) if key in kept else (None,))
        return all(
            replicated.plain.group.members[name].state.trusted() is not None
            for replicated in (writer, reader)
        )

    await_that(all_see)
    assert all_see()


def test_of_many_writers_none_leaves_an_old_copy(open_one: Open, memcacheds: PoolStand) -> None:
    """Whoever leads later has what the first one had, or nothing."""
    pools = [open_one() for _ in range(2)]
    keys = keys_of(pools[0].plain.control, "a", 6)
    stop = threading.Event()

    def write(number: int) -> int:
        done = 0
        while not stop.is_set() and done < 400:
            for key in keys:
                pools[number % 2].cache.change_later([Store(key, b"%d of %d" % (done, number))])
            done += 1
        return done

    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(write, number) for number in range(4)]
        try:
            assert all(future.result(PATIENCE * 3) > 0 for future in writing)
        finally:
            stop.set()
    before = {key: value_of(pools[0].cache, key) for key in keys}
    memcacheds.servers["a"].kill9()
    for key in keys:
        assert value_of(pools[1].cache, key) in (before[key], None)


def test_it_has_no_compare_and_set_and_says_so(open_one: Open) -> None:
    cache = open_one().cache
    token = cache.store(b"1:k", b"x")
    assert not cache.features.cas
    refused: list[Callable[[], object]] = [
        lambda: cache.store(b"1:k", b"y", expect=token),
        lambda: cache.store(b"1:new", b"y", expect=ABSENT),
        lambda: cache.remove(b"1:k", expect=token),
        lambda: cache.fetch([b"1:k"], reserve=1),
        lambda: next(cache.iterate()),
    ]
    for call in refused:
        with pytest.raises(NotSupported):
            call()
    outcomes = cache.change(
        [Store(b"1:k", b"y", expect=token), Remove(b"1:k", token), Store(b"1:other", b"z")]
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["NotSupported", "NotSupported", "Token"]
    assert [value_of(cache, key) for key in (b"1:k", b"1:new", b"1:other")] == [b"x", None, b"z"]


def test_servers_that_return_in_one_step_are_refused(memcacheds: PoolStand, tmp_path: Path) -> None:
    with memcacheds.open(memcacheds.describe(tmp_path, attempts=0)) as plain:
        with pytest.raises(ValueError, match="two steps"):
            ReplicatedPool(plain.group, SystemClock(), copies=1)
        with pytest.raises(ValueError, match="at least one copy"):
            ReplicatedPool(plain.group, SystemClock(), copies=0)
