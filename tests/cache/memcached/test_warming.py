"""A cache that is filled from an older one keeps the contract, and nothing that was changed comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Conflict,
    Item,
    NotFound,
    Provider,
    Remove,
    Store,
    Token,
)
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memcached.warming import LONGEST, WarmingCache
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import Clock
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.cache_conformance.rooms import value_of
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.servers import MemcachedServer


class TestConformance(CacheConformance):
    can_be_unreachable = False

    @pytest.fixture
    def open_cache(self) -> Iterator[OpenCache]:
        def open_one(clock: Clock) -> Provider:
            return WarmingCache(MemoryProvider(clock), MemoryProvider(clock), clock)

        with OpenCaches(open_one) as open_cache:
            yield open_cache


class Hooked(MemoryProvider):
    """A memory in which something happens just after it was asked."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.then: list[Callable[[], object]] = []
        self.away = False

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        self._check()
        found = super().fetch(keys, reserve=reserve)
        if self.then:
            self.then.pop(0)()
        return found

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        self._check()
        super().remove(key, expect=expect)

    def _check(self) -> None:
        if self.away:
            raise BackendUnavailable("away")


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def old(clock: SteppableClock) -> Hooked:
    return Hooked(clock)


@pytest.fixture
def new(clock: SteppableClock) -> MemoryProvider:
    return MemoryProvider(clock)


@pytest.fixture
def cache(new: MemoryProvider, old: Hooked, clock: SteppableClock) -> WarmingCache:
    return WarmingCache(new, old, clock)


def test_what_the_old_one_has_is_found_and_is_in_the_new_one_from_then_on(
    cache: WarmingCache, new: MemoryProvider, old: Hooked, clock: SteppableClock
) -> None:
    old.store(b"k", b"x", clock.seconds() + 10)
    found = cache.retrieve(b"k")
    assert found[::2] == (b"x", clock.seconds() + 10)
    assert new.retrieve(b"k") == found
    assert cache.retrieve(b"k") == found


def test_what_came_from_the_old_one_is_asked_for_again_after_a_while(
    cache: WarmingCache, new: MemoryProvider, old: Hooked, clock: SteppableClock
) -> None:
    """Who still knows the old one alone may have changed it there."""
    old.store(b"k", b"x")
    assert value_of(cache, b"k") == b"x"
    old.store(b"k", b"y")
    clock.step(LONGEST)
    assert value_of(cache, b"k") == b"y"


def test_a_miss_leaves_nothing_behind(cache: WarmingCache, new: MemoryProvider) -> None:
    assert cache.fetch([b"k"]) == [None]
    assert list(new.iterate()) == []
    cache.store(b"k", b"x", expect=ABSENT)


@pytest.mark.parametrize(("step", "reserve"), [(0, 0.0), (1, 0.0), (0, 10.0)])
@pytest.mark.parametrize("change", ["store", "remove", "both"])
def test_what_is_changed_while_it_moves_stays_changed(
    cache: WarmingCache, old: Hooked, change: str, step: int, reserve: float
) -> None:
    def meanwhile() -> None:
        if change != "remove":
            cache.store(b"k", b"new")
        if change != "store":
            cache.remove(b"k")

    old.store(b"k", b"old")
    old.then = [*[lambda: None] * step, meanwhile]
    cache.fetch([b"k"], reserve=reserve)
    assert not old.then
    assert value_of(cache, b"k") == (b"new" if change == "store" else None)


@pytest.mark.parametrize(("step", "reserve"), [(0, 0.0), (1, 0.0), (0, 10.0)])
def test_of_two_who_move_at_once_both_find_it(
    cache: WarmingCache, new: MemoryProvider, old: Hooked, step: int, reserve: float
) -> None:
    old.store(b"k", b"x")
    seen: list[Item | None] = []
    old.then = [*[lambda: None] * step, lambda: seen.extend(cache.fetch([b"k"]))]
    seen += cache.fetch([b"k"], reserve=reserve)
    assert [item and item.value for item in seen] == [b"x", b"x"]
    assert value_of(new, b"k") == b"x"


def test_nothing_comes_back_from_the_old_one_after_a_change(
    cache: WarmingCache, new: MemoryProvider, old: Hooked
) -> None:
    for key in (b"a", b"b", b"c"):
        old.store(key, b"old")
    cache.store(b"a", b"new")
    cache.remove(b"b")
    cache.change_later([Store(b"c", b"new"), Remove(b"d")])
    for key, _ in list(new.iterate()):
        new.remove(key)  # it is evicted
    assert cache.fetch([b"a", b"b", b"c"]) == [None] * 3


def test_a_change_is_refused_while_the_old_one_cannot_be_told(
    cache: WarmingCache, new: MemoryProvider, old: Hooked
) -> None:
    old.store(b"k", b"old")
    old.away = True
    with pytest.raises(BackendUnavailable):
        cache.store(b"k", b"new")
    with pytest.raises(BackendUnavailable):
        cache.remove(b"k")
    assert cache.fetch([b"k"]) == [None]
    assert list(new.iterate()) == []
    old.away = False
    assert value_of(cache, b"k") == b"old"


def test_what_is_expected_is_expected_of_both(cache: WarmingCache, old: Hooked) -> None:
    for key in (b"a", b"b", b"c"):
        old.store(key, b"old")
    with pytest.raises(Conflict):
        cache.store(b"a", b"new", expect=ABSENT)
    assert value_of(cache, b"a") == b"old"
    cache.store(b"b", b"new", expect=cache.retrieve(b"b").token)
    assert value_of(cache, b"b") == b"new"
    token = cache.retrieve(b"c").token
    cache.remove(b"c", expect=token)
    with pytest.raises(NotFound):
        cache.remove(b"c")
    assert old.status()["items"] == 0


def test_it_works_between_two_memcacheds(server: MemcachedServer, clock: SteppableClock) -> None:
    def opened(prefix: bytes) -> MemcachedProvider:
        return MemcachedProvider(
            Address.parse(server.address), clock, prefix=prefix, timeout=20, connect_timeout=20
        )

    old, new = opened(b"old:"), opened(b"new:")
    cache = WarmingCache(new, old, clock)
    try:
        old.change([Store(b"k%d" % number, b"%d" % number) for number in range(50)])
        assert [item and item.value for item in cache.fetch([b"k%d" % number for number in range(51)])] == [
            *(b"%d" % number for number in range(50)),
            None,
        ]
        assert value_of(new, b"k7") == b"7"
        cache.store(b"k7", b"new")
        assert value_of(old, b"k7") is None
    finally:
        cache.close()
