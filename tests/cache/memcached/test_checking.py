"""Whether a memcached answers and keeps what it is given, asked without leaving anything behind."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from syncstore.cache.api import BackendUnavailable, Conflict, Expect, Item, NotFound, StorageFull, Token
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.checking import check
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import SystemClock
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import MemcachedServer

CLOCK = SystemClock()


def test_one_that_is_well_keeps_nothing_of_the_check(
    server: MemcachedServer, open_provider: Callable[..., MemcachedProvider]
) -> None:
    cache = open_provider(server.address)
    cache.store(b"k", b"theirs")
    before = cache.status()["items"]
    for _ in range(3):
        assert check(cache, time.time()) == ""
    assert cache.status()["items"] == before
    assert cache.retrieve(b"k").value == b"theirs"


def test_one_that_is_away_is_told_in_its_own_words() -> None:
    away = f"{HOST}:{free_port()}"
    fault = check(MemcachedProvider(Address.parse(away), CLOCK), time.time())
    assert fault.startswith(f"no connection to memcached at {away}: ")


def test_one_that_hangs_is_told_when_its_time_is_over(
    server: MemcachedServer, open_provider: Callable[..., MemcachedProvider]
) -> None:
    cache = open_provider(server.address, timeout=0.2)
    server.freeze()
    assert "did not answer within 0.2 s" in check(cache, time.time())


class Faulty(MemoryProvider):
    """Does something wrong with what it is given."""

    def __init__(self, fault: str) -> None:
        super().__init__(CLOCK)
        self.fault = fault

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        if self.fault == "full":
            raise StorageFull("no room")
        if self.fault == "alters":
            value = value[1:]
        return super().store(key, value, expires, expect=expect)

    def retrieve(self, key: bytes) -> Item:
        if self.fault == "forgets":
            raise NotFound(repr(key))
        if self.fault == "dies":
            raise BackendUnavailable("it is away now")
        return super().retrieve(key)

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        super().remove(key, expect=expect)
        if self.fault == "interferes":
            raise Conflict("somebody else has changed it")
        if self.fault == "evicts":
            raise NotFound(repr(key))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("full", "no room"),
        ("alters", "it gives back something else than it was given"),
        ("forgets", "it does not keep what it is given"),
        ("evicts", "it does not keep what it is given"),
        ("dies", "it is away now"),
        ("interferes", "somebody else has changed it"),
    ],
)
def test_one_that_is_not_well_is_told_what_is_wrong_and_cleared_up(fault: str, words: str) -> None:
    cache = Faulty(fault)
    assert words in check(cache, time.time())
    assert cache.status()["items"] == 0
