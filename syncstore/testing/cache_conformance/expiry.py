"""Expiry: a value is never handed out late, by the provider's own clock."""

from __future__ import annotations

import time

import pytest

from syncstore.cache.api import NotFound, Provider, Remove, Store
from syncstore.clock import SystemClock
from syncstore.testing.cache_conformance.rooms import PATIENCE, OpenCache, Rooms, needs_cas, present, value_of
from syncstore.testing.clocks import SteppableClock

DAY = 86_400.0


class ExpiryRules(Rooms):
    """What has expired is missing."""

    def test_a_value_is_there_until_it_expires(
        self, cache: Provider, clock: SteppableClock, key: bytes
    ) -> None:
        cache.store(key, b"x", clock.seconds() + 10)
        clock.step(9.999)
        assert value_of(cache, key) == b"x"
        clock.step(0.001)
        with pytest.raises(NotFound):
            cache.retrieve(key)
        assert cache.fetch([key]) == [None]

    @needs_cas
    def test_it_tells_when_a_value_expires(self, cache: Provider, clock: SteppableClock, key: bytes) -> None:
        expires = clock.seconds() + 12.345678
        token = cache.store(key, b"\r\n\0x", expires)
        assert cache.retrieve(key) == (b"\r\n\0x", token, expires)
        cache.store(key, b"", expires, expect=token)
        assert present(cache.fetch([key]))[0][::2] == (b"", expires)

    def test_a_value_without_expiry_stays(self, cache: Provider, clock: SteppableClock, key: bytes) -> None:
        cache.store(key, b"x")
        clock.step(3650 * DAY)
        assert cache.retrieve(key).expires == 0
        clock.step(-3650 * DAY)

    @pytest.mark.parametrize("days", [29.9999, 30, 31, 365, 365 * 80, 365 * 5000])
    def test_a_value_may_live_long(
        self, cache: Provider, clock: SteppableClock, key: bytes, days: float
    ) -> None:
        expires = clock.seconds() + days * DAY
        cache.store(key, b"x", expires)
        assert cache.retrieve(key).expires == expires

    @pytest.mark.parametrize("seconds", [0.0, -0.001, -100, -1e10, float("nan")])
    def test_what_has_expired_before_is_not_stored(
        self, cache: Provider, clock: SteppableClock, keys: list[bytes], seconds: float
    ) -> None:
        cache.store(keys[0], b"old")
        cache.store(keys[1], b"old")
        expires = clock.seconds() + seconds
        with pytest.raises(ValueError, match="expired"):
            cache.store(keys[0], b"new", expires)
        with pytest.raises(ValueError, match="expired"):
            cache.change([Remove(keys[1]), Store(keys[0], b"new", expires)])
        with pytest.raises(ValueError, match="expired"):
            cache.change_later([Store(keys[0], b"new", expires)])
        assert [value_of(cache, key) for key in keys[:2]] == [b"old", b"old"]

    def test_the_last_store_says_when(
        self, cache: Provider, clock: SteppableClock, keys: list[bytes]
    ) -> None:
        now = clock.seconds()
        for key in keys:
            cache.store(key, b"first", now + 50)
        cache.store(keys[0], b"for ever")
        cache.store(keys[1], b"longer", now + 100)
        cache.store(keys[2], b"shorter", now + 20)
        clock.step(30)
        values = [value_of(cache, key) for key in keys]
        assert values == [b"for ever", b"longer", None, b"first"]
        clock.step(30)
        assert [value_of(cache, key) for key in keys] == [b"for ever", b"longer", None, None]

    def test_the_place_of_what_has_expired_can_be_used(
        self, cache: Provider, clock: SteppableClock, key: bytes
    ) -> None:
        cache.store(key, b"old", clock.seconds() + 10)
        clock.step(11)
        cache.store(key, b"new")
        assert value_of(cache, key) == b"new"

    def test_no_value_is_seen_after_its_time(self, open_cache: OpenCache, key: bytes) -> None:
        cache = open_cache(SystemClock())
        expires = time.time() + 0.25
        cache.store(key, b"x", expires)
        seen = 0
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            before = time.time()
            if cache.fetch([key]) == [None]:
                break
            seen += 1
            assert before < expires
        assert seen > 0
        assert time.time() >= expires

    def test_culling_leaves_what_is_alive(
        self, cache: Provider, clock: SteppableClock, keys: list[bytes]
    ) -> None:
        cache.store(keys[0], b"kept")
        cache.store(keys[1], b"kept", clock.seconds() + 100)
        cache.store(keys[2], b"dead", clock.seconds() + 10)
        clock.step(20)
        assert cache.cull() >= 0
        assert [value_of(cache, key) for key in keys[:3]] == [b"kept", b"kept", None]
        assert cache.cull(limit=0) == 0
