"""The line of the cache: what the doctor finds in a memcached that is well, away, too small or unfit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from syncstore.cache.api import Conflict, Expect, Item, NotFound, Provider, StorageFull, Token
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memcached.records import after_failure, on_return
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import SystemClock
from syncstore.doctor import cache
from syncstore.doctor.findings import Finding
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import MemcachedServer

CLOCK = SystemClock()
TABS = {"tabs": 2_621_440}


@contextmanager
def provider(address: str) -> Iterator[Provider]:
    opened = MemcachedProvider(Address.parse(address), CLOCK, prefix=b"doctor-test:")
    yield opened
    opened.close()


def examine(server: MemcachedServer, needed: dict[str, int]) -> Finding:
    with provider(server.address) as opened:
        return cache.examine(opened, CLOCK, server.address, needed)


def test_a_memcached_that_is_well_keeps_nothing_of_the_doctor(memcached_server: MemcachedServer) -> None:
    with provider(memcached_server.address) as opened:
        before = opened.status()["items"]
        found = cache.examine(opened, CLOCK, memcached_server.address, {})
        assert opened.status()["items"] == before
    assert str(found) == f"cache memcached at {memcached_server.address}: ok"


def test_one_that_is_away() -> None:
    address = f"{HOST}:{free_port()}"
    with provider(address) as opened:
        found = cache.examine(opened, CLOCK, address, {})
    assert found.advice.startswith("it cannot be used (")
    assert found.advice.endswith(
        "): start a memcached of 1.6 or later there, without -C, or correct memcached.servers"
    )


def test_one_without_compare_and_set() -> None:
    with started(lambda: MemcachedServer(options=["-C"])) as server:
        assert "was started with -C: it has no cas" in examine(server, {}).advice


def test_items_that_are_smaller_than_what_clients_are_told() -> None:
    with started(MemcachedServer) as server:
        assert examine(server, {}).ok, "what SQL has need not fit"
        advice = examine(server, TABS).advice
        assert advice.startswith(
            "its items have 1048064 bytes at most, and clients are told that one of tabs"
        )
        assert "start memcached with -I 3m, or lower limits.collections" in advice
    with started(lambda: MemcachedServer(options=["-I", "3m"])) as server:
        assert examine(server, TABS).ok


def test_values_that_were_dropped_matter_where_nobody_else_has_them() -> None:
    with started(lambda: MemcachedServer(memory=1, options=["-I", "512k"])) as server:
        with provider(server.address) as opened:
            for number in range(200):
                opened.store(b"%d" % number, bytes(50_000))
        assert examine(server, {}).ok
        advice = examine(server, {"tabs": 1000}).advice
        assert "values for want of room, and of tabs nobody else has any" in advice
        assert advice.endswith("start memcached with more than 1 MiB (-m)")


class Forgetful(MemoryProvider):
    """Stores nothing."""

    def retrieve(self, key: bytes) -> Item:
        raise NotFound(key)


class Careless(MemoryProvider):
    """Stores over anything."""

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        return super().store(key, value, expires)


class Jealous(MemoryProvider):
    """Takes every token for a stale one."""

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        if expect is not None:
            raise Conflict(repr(key))
        return super().store(key, value, expires)


class Full(MemoryProvider):
    """Has no room."""

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        raise StorageFull("no room")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Forgetful, "it does not keep what is stored in it"),
        (Jealous, "it does not keep what is stored in it"),
        (Careless, "it stores over what has changed"),
        (Full, "it stores nothing (no room): start memcached without -M"),
    ],
)
def test_one_that_does_not_do_what_it_says(kind: type[MemoryProvider], words: str) -> None:
    assert cache.examine(kind(CLOCK), CLOCK, "h:1", {}).advice.startswith(words)


def test_one_that_was_declared_failed() -> None:
    assert cache.state("a", 0, 15.0) == cache.state("a", 16, 15.0) == ""
    for odd in (after_failure(16), on_return(after_failure(16))):
        assert cache.state("a", odd, 15.0).startswith(
            "it answers, but was declared failed and is out of use: servers that run try it again every 15 s"
        )


def test_one_that_waits_for_somebody_to_bring_it_back() -> None:
    held, failed = after_failure(16, held=True), after_failure(16)
    for advice in (
        cache.state("a", held, 15.0),
        cache.state("a", held, -1.0),
        cache.state("a", failed, -1.0),
    ):
        assert advice.endswith("is out of use until somebody brings it back: syncstore cache up a")
