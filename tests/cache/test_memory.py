"""The provider `memory` keeps the contract, and its bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.cache.api import NotFound, Provider, Remove, Store
from syncstore.cache.memory import MemoryProvider
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.clocks import SteppableClock


class TestConformance(CacheConformance):
    can_be_unreachable = False

    @pytest.fixture
    def open_cache(self) -> Iterator[OpenCache]:
        with OpenCaches(MemoryProvider) as open_cache:
            yield open_cache


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


def keys_of(cache: Provider) -> list[bytes]:
    return [key for key, _ in cache.iterate()]


def test_the_oldest_make_room_when_there_are_too_many(clock: SteppableClock) -> None:
    cache = MemoryProvider(clock, max_items=3)
    for key in (b"a", b"b", b"c"):
        cache.store(key, b"x")
    cache.store(b"a", b"again")

    cache.store(b"d", b"x")
    assert keys_of(cache) == [b"c", b"a", b"d"]
    cache.fetch([b"e"], reserve=10)
    assert keys_of(cache) == [b"a", b"d", b"e"]
    assert cache.status()["evicted"] == 2


def test_the_oldest_make_room_when_they_are_too_large(clock: SteppableClock) -> None:
    cache = MemoryProvider(clock, max_bytes=1250, max_value=1000)
    for key in (b"a", b"b", b"c"):
        cache.store(key, b"x" * 400)
    assert keys_of(cache) == [b"a", b"b", b"c"]
    assert cache.status()["bytes"] == 1203

    cache.store(b"d", b"x" * 47)
    assert keys_of(cache) == [b"b", b"c", b"d"]
    cache.store(b"e" * 250, b"x" * 1000)
    assert keys_of(cache) == [b"e" * 250]
    assert cache.status()["bytes"] == 1250


def test_its_bytes_are_those_it_holds(clock: SteppableClock) -> None:
    cache = MemoryProvider(clock)
    cache.change([Store(b"a", b"1234"), Store(b"a", b"12"), Store(b"b", b"1"), Store(b"c", b"123")])
    cache.change([Remove(b"b")])
    cache.store(b"d", b"12345", clock.seconds() + 1)
    assert cache.status()["bytes"] == 3 + 4 + 6
    clock.step(2)
    assert cache.fetch([b"d"]) == [None]
    assert cache.status()["bytes"] == 3 + 4
    cache.close()
    assert (cache.status()["bytes"], cache.status()["items"]) == (0, 0)


def test_what_has_expired_is_culled_a_few_at_a_time(clock: SteppableClock) -> None:
    cache = MemoryProvider(clock)
    for number in range(10):
        cache.store(b"dead%d" % number, b"x", clock.seconds() + 10)
        cache.store(b"live%d" % number, b"x", clock.seconds() + 20)
    assert cache.cull() == 0
    assert cache.cull(now=clock.seconds() + 10, limit=3) == 3
    clock.step(10)
    assert len(keys_of(cache)) == 10
    assert cache.cull(limit=4) == 4
    assert cache.cull() == 3
    assert cache.status()["items"] == 10


def test_it_counts_hits_and_misses(clock: SteppableClock) -> None:
    cache = MemoryProvider(clock)
    cache.store(b"a", b"x")
    cache.fetch([b"a", b"b", b"a"])
    with pytest.raises(NotFound):
        cache.retrieve(b"c")
    status = cache.status()
    assert (status["hits"], status["misses"]) == (2, 2)


def test_two_memories_have_nothing_in_common(clock: SteppableClock) -> None:
    one, other = MemoryProvider(clock), MemoryProvider(clock)
    token = one.store(b"a", b"x")
    assert other.store(b"a", b"x") != token


@pytest.mark.parametrize(
    "bounds", [{"max_items": 0}, {"max_value": 0}, {"max_bytes": 1000, "max_value": 900}]
)
def test_it_refuses_bounds_in_which_nothing_fits(clock: SteppableClock, bounds: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="room"):
        MemoryProvider(clock, **bounds)
