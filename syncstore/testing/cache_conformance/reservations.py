"""Placeholders: who misses gets a token over which to store, and a late store never covers what came in between."""

from __future__ import annotations

import pytest

from syncstore.cache.api import ABSENT, Conflict, Provider, Token
from syncstore.clock import SystemClock
from syncstore.testing.cache_conformance.rooms import OpenCache, Rooms, needs_cas, present, value_of
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.waiting import await_that


def reserve(cache: Provider, key: bytes) -> Token:
    """Find nothing, and reserve the place."""
    (item,) = present(cache.fetch([key], reserve=10))
    assert item.value == b""
    return item.token


@needs_cas
class ReservationRules(Rooms):
    """What `fetch(reserve=...)` promises."""

    def test_a_value_is_stored_over_its_placeholder(self, cache: Provider, key: bytes) -> None:
        token = reserve(cache, key)
        cache.store(key, b"filled", expect=token)
        assert value_of(cache, key) == b"filled"

    def test_all_who_miss_get_the_same_placeholder(self, cache: Provider, key: bytes) -> None:
        token = reserve(cache, key)
        assert reserve(cache, key) == token
        assert present(cache.fetch([key, key], reserve=20))[1].token == token

    def test_only_the_first_fills_it(self, cache: Provider, key: bytes) -> None:
        first, second = reserve(cache, key), reserve(cache, key)
        cache.store(key, b"first", expect=first)
        with pytest.raises(Conflict):
            cache.store(key, b"second", expect=second)
        assert value_of(cache, key) == b"first"

    def test_what_is_there_is_not_touched(self, cache: Provider, keys: list[bytes]) -> None:
        token = cache.store(keys[1], b"1")
        empty = cache.store(keys[2], b"")
        found = present(cache.fetch(keys, reserve=10))
        assert [item.value for item in found] == [b"", b"1", b"", b""]
        assert (found[1].token, found[2].token) == (token, empty)
        for key, item in zip(keys, found, strict=True):
            cache.store(key, b"2", expect=item.token)

    def test_without_a_reservation_nothing_is_put_there(self, cache: Provider, key: bytes) -> None:
        assert cache.fetch([key]) == [None]
        assert cache.fetch([key]) == [None]
        cache.store(key, b"x", expect=ABSENT)

    def test_a_placeholder_is_seen_by_those_who_do_not_reserve(self, cache: Provider, key: bytes) -> None:
        token = reserve(cache, key)
        (seen,) = present(cache.fetch([key]))
        assert (seen.value, seen.token) == (b"", token)
        assert cache.retrieve(key).token == token

    def test_a_placeholder_is_not_absent(self, cache: Provider, key: bytes) -> None:
        token = reserve(cache, key)
        with pytest.raises(Conflict):
            cache.store(key, b"x", expect=ABSENT)
        cache.store(key, b"y", expect=token)

    def test_a_late_store_does_not_cover_a_newer_value(self, cache: Provider, key: bytes) -> None:
        token = reserve(cache, key)
        cache.store(key, b"newer")
        with pytest.raises(Conflict):
            cache.store(key, b"late", expect=token)
        assert value_of(cache, key) == b"newer"

    def test_a_late_store_does_not_undo_a_removal(self, cache: Provider, key: bytes) -> None:
        token = reserve(cache, key)
        cache.remove(key)
        with pytest.raises(Conflict):
            cache.store(key, b"late", expect=token)
        assert value_of(cache, key) is None

    def test_a_late_store_does_not_fill_the_next_placeholder(self, cache: Provider, key: bytes) -> None:
        token = reserve(cache, key)
        cache.remove(key)
        again = reserve(cache, key)
        assert again != token
        with pytest.raises(Conflict):
            cache.store(key, b"late", expect=token)
        cache.store(key, b"right", expect=again)
        assert value_of(cache, key) == b"right"

    def test_a_placeholder_is_removed_by_its_token(self, cache: Provider, key: bytes) -> None:
        cache.remove(key, expect=reserve(cache, key))
        assert cache.fetch([key]) == [None]

    def test_the_place_of_what_has_expired_can_be_reserved(
        self, cache: Provider, clock: SteppableClock, key: bytes
    ) -> None:
        old = cache.store(key, b"old", clock.seconds() + 100)
        clock.step(101)
        first, second = reserve(cache, key), reserve(cache, key)
        assert first == second
        cache.store(key, b"new", expect=first)
        assert value_of(cache, key) == b"new"
        with pytest.raises(Conflict):
            cache.store(key, b"late", expect=old)

    def test_a_placeholder_ends_by_itself(self, open_cache: OpenCache, key: bytes) -> None:
        cache = open_cache(SystemClock())
        (item,) = present(cache.fetch([key], reserve=0.2))
        await_that(lambda: cache.fetch([key]) == [None])
        with pytest.raises(Conflict):
            cache.store(key, b"late", expect=item.token)

    def test_no_place_is_reserved_for_a_negative_time(self, cache: Provider, key: bytes) -> None:
        with pytest.raises(ValueError, match="reservation"):
            cache.fetch([key], reserve=-1)
        assert cache.fetch([key]) == [None]
