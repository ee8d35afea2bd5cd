"""Limits: what is within them is taken, and one byte more is refused before anything changes."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from syncstore.cache.api import ABSENT, BadKey, Provider, TooLarge
from syncstore.testing.cache_conformance.rooms import Rooms, needs_cas, value_of
from syncstore.testing.clocks import SteppableClock

WAYS_TO_NAME_A_KEY: dict[str, Callable[[Provider, bytes], object]] = {
    "retrieve": lambda cache, key: cache.retrieve(key),
    "fetch": lambda cache, key: cache.fetch([key]),
    "fetch and reserve": lambda cache, key: cache.fetch([b"good", key], reserve=1),
    "store": lambda cache, key: cache.store(key, b"x"),
    "store where nothing is": lambda cache, key: cache.store(key, b"x", expect=ABSENT),
    "remove": lambda cache, key: cache.remove(key),
}


class LimitRules(Rooms):
    """What `limits` tells is true to the byte."""

    @pytest.mark.parametrize("filling", [b"k", b"\xff", b" ", b"~"])
    def test_the_longest_key_is_taken(self, cache: Provider, key: bytes, filling: bytes) -> None:
        longest = (filling + key).ljust(cache.limits.max_key, filling)
        cache.store(longest, b"x")
        assert value_of(cache, longest) == b"x"
        assert value_of(cache, longest[:-1]) is None
        cache.remove(longest)

    @pytest.mark.parametrize("way", WAYS_TO_NAME_A_KEY)
    def test_a_longer_key_is_refused(self, cache: Provider, way: str) -> None:
        limit = cache.limits.max_key
        for size in (limit + 1, limit + 1000):
            with pytest.raises(BadKey) as refused:
                WAYS_TO_NAME_A_KEY[way](cache, b"k" * size)
            assert (refused.value.size, refused.value.limit) == (size, limit)

    @pytest.mark.parametrize("way", WAYS_TO_NAME_A_KEY)
    def test_an_empty_key_is_refused(self, cache: Provider, way: str) -> None:
        with pytest.raises(BadKey):
            WAYS_TO_NAME_A_KEY[way](cache, b"")

    def test_the_shortest_key_is_taken(self, cache: Provider) -> None:
        assert cache.limits.min_key == 1
        cache.store(b"k", b"x")
        assert value_of(cache, b"k") == b"x"
        cache.remove(b"k")

    @needs_cas
    @pytest.mark.parametrize("lives_for", [0, 100, 10**9], ids=["for ever", "100 s", "30 years"])
    def test_the_largest_value_is_taken(
        self, cache: Provider, clock: SteppableClock, key: bytes, lives_for: float
    ) -> None:
        largest = random.Random(3).randbytes(cache.limits.max_value)
        longest_key = key.ljust(cache.limits.max_key, b"\xff")
        token = cache.store(longest_key, largest, clock.seconds() + lives_for if lives_for else 0)
        item = cache.retrieve(longest_key)
        assert item.value == largest
        assert item.token == token
        cache.remove(longest_key, expect=token)

    @needs_cas
    def test_a_larger_value_is_refused_and_nothing_changes(
        self, cache: Provider, clock: SteppableClock, keys: list[bytes]
    ) -> None:
        limit = cache.limits.max_value
        token = cache.store(keys[0], b"old")
        for size in (limit + 1, limit * 3):
            for key in keys[:2]:
                for expires in (0, clock.seconds() + 100):
                    with pytest.raises(TooLarge) as refused:
                        cache.store(key, b"x" * size, expires)
                    assert (refused.value.size, refused.value.limit) == (size, limit)
            with pytest.raises(TooLarge):
                cache.store(keys[0], b"x" * size, expect=token)
        assert cache.retrieve(keys[0]) == (b"old", token, 0)
        assert value_of(cache, keys[1]) is None

    @needs_cas
    def test_after_a_refusal_it_works_as_before(self, cache: Provider, keys: list[bytes]) -> None:
        for number, key in enumerate(keys):
            with pytest.raises(TooLarge):
                cache.store(key, b"x" * (cache.limits.max_value + 1))
            with pytest.raises(BadKey):
                cache.fetch([key, b""], reserve=1)
            cache.store(key, b"%d" % number)
        assert [value_of(cache, key) for key in keys] == [b"0", b"1", b"2", b"3"]

    def test_its_limits_leave_room_for_a_record(self, cache: Provider) -> None:
        limits = cache.limits
        assert limits.max_key >= 100
        assert limits.max_value >= 10_000
        assert limits.ttl_step >= 0
