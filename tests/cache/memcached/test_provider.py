"""The provider `memcached` keeps the contract, over TCP and a unix socket, and leaves in the server what it should."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from pymemcache.client.base import Client  # type: ignore[import-untyped]  # pymemcache ships no types

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Busy,
    Conflict,
    Remove,
    StorageFull,
    Store,
    Token,
    TooLarge,
)
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.connection import Connection
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.clock import SystemClock
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.cache_conformance.rooms import present, value_of
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.waiting import await_that

OpenProvider = Callable[..., MemcachedProvider]
DAY = 86_400


class _Conformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, address: str) -> Iterator[OpenCache]:
        with OpenCaches(
            lambda clock: MemcachedProvider(
                Address.parse(address), clock, prefix=b"t:", timeout=20, connect_timeout=20, pool_size=6
            )
        ) as open_cache:
            yield open_cache


class TestOverTcp(_Conformance):
    @pytest.fixture
    def address(self, memcached_server: MemcachedServer) -> str:
        return memcached_server.address

    @pytest.fixture
    def open_unreachable_cache(self) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: MemcachedProvider(Address(HOST, 1), clock)) as open_cache:
            yield open_cache


@pytest.fixture(scope="module")
def unix_server() -> Iterator[MemcachedServer]:
    with started(lambda: MemcachedServer(unix=True, options=["-I", "2m"])) as server:
        yield server


class TestOverAUnixSocket(_Conformance):
    """Also with a larger limit for values."""

    @pytest.fixture
    def address(self, unix_server: MemcachedServer) -> str:
        assert unix_server.address.startswith("unix:/")
        return unix_server.address

    @pytest.fixture
    def open_unreachable_cache(self) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: MemcachedProvider(Address.parse("/nowhere"), clock)) as open_cache:
            yield open_cache


@pytest.fixture
def cache(server: MemcachedServer, open_provider: OpenProvider) -> MemcachedProvider:
    return open_provider(server.address)


@pytest.fixture
def client(server: MemcachedServer) -> Iterator[Client]:
    """A plain client of the same server."""
    client = Client((HOST, server.port), connect_timeout=20, timeout=20, default_noreply=False)
    yield client
    client.close()


def ttl_of(client: Client, name: bytes) -> int:
    """How many seconds the server will keep a value, -1 for ever."""
    reply: bytes = client.raw_command(b"mg %b t" % name)
    assert reply.startswith(b"HD t")
    return int(reply[4:].split()[0])


# -- what is in the server


def test_a_value_without_expiry_is_stored_as_it_is(cache: MemcachedProvider, client: Client) -> None:
    cache.store(b"1:meta", b"value")
    assert client.get(b"t:1:meta") == b"value"
    assert ttl_of(client, b"t:1:meta") == -1


def test_a_value_that_expires_says_when(cache: MemcachedProvider, client: Client) -> None:
    expires = time.time() + 100.25
    cache.store(b"k", b"value", expires)
    assert client.get(b"t:k") == struct.pack(">d", expires) + b"value"


@pytest.mark.parametrize("seconds", [0.5, 1, 10, 29.99 * DAY, 30 * DAY, 30 * DAY + 10, 400 * DAY])
def test_the_server_drops_a_value_soon_after_its_time(
    cache: MemcachedProvider, client: Client, seconds: float
) -> None:
    cache.store(b"k", b"value", time.time() + seconds)
    # it counts in whole seconds, from a clock that may be one behind; dates by one that is further from ours
    assert math.ceil(seconds) - 3 <= ttl_of(client, b"t:k") <= math.ceil(seconds) + 5


def test_the_server_is_not_told_of_dates_it_does_not_know(cache: MemcachedProvider, client: Client) -> None:
    for expires in (2.0**31 + 10, 2.0**32 + 10, 1e12, 1e300):
        cache.store(b"k", b"value", expires)
        assert ttl_of(client, b"t:k") == -1
        assert cache.retrieve(b"k").expires == expires


def test_a_short_life_does_not_end_early(cache: MemcachedProvider) -> None:
    expires = time.time() + 1.2  # a TTL of 1 may end at once, at the server's next tick
    cache.store(b"k", b"value", expires)
    while (present_before := time.time()) < expires - 0.01:
        assert cache.fetch([b"k"]) != [None] or time.time() >= expires, present_before


def test_a_placeholder_lives_as_long_as_asked(cache: MemcachedProvider, client: Client) -> None:
    cache.fetch([b"k"], reserve=10)
    assert 10 <= ttl_of(client, b"t:k") <= 12
    with pytest.raises(ValueError, match="reservation"):
        cache.fetch([b"k"], reserve=31 * DAY)


@pytest.mark.parametrize(("flags", "value"), [(2, b"foreign"), (2**31, b"foreign"), (1, b"short"), (1, b"")])
def test_what_others_put_there_reads_as_missing(
    cache: MemcachedProvider, client: Client, flags: int, value: bytes
) -> None:
    client.set(b"t:k", value, flags=flags)
    assert cache.fetch([b"k"]) == [None]
    assert value_of(cache, b"k") is None
    (item,) = present(cache.fetch([b"k"], reserve=10))
    assert item.value == b""
    cache.store(b"k", b"ours", expect=item.token)
    assert value_of(cache, b"k") == b"ours"


def test_prefixes_keep_providers_apart(server: MemcachedServer, open_provider: OpenProvider) -> None:
    one, other = open_provider(server.address, prefix=b"a:"), open_provider(server.address, prefix=b"b:")
    one.store(b"k", b"of one")
    assert value_of(other, b"k") is None
    other.store(b"k", b"of other", expect=ABSENT)
    assert value_of(one, b"k") == b"of one"


def test_an_emptied_server_knows_no_old_token(cache: MemcachedProvider, server: MemcachedServer) -> None:
    token = cache.store(b"k", b"old")
    server.flush()
    with pytest.raises(Conflict):
        cache.store(b"k", b"late", expect=token)
    cache.store(b"k", b"new", expect=ABSENT)
    with pytest.raises(Conflict):
        cache.store(b"k", b"late", expect=token)
    assert value_of(cache, b"k") == b"new"


# -- who the server is


def test_all_connections_agree_on_the_incarnation(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    one, other = open_provider(server.address), open_provider(server.address)
    token = one.store(b"k", b"1")
    assert other.retrieve(b"k").token == token
    assert isinstance(token.incarnation, tuple)
    assert token.incarnation[:2] == (server.address, server.pid)
    assert abs(token.incarnation[2] - time.time()) < 3600


def test_it_finds_the_address_of_a_name_that_works(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(f"localhost:{server.port}")  # which may be ::1 first, where nobody listens
    cache.store(b"k", b"x")
    assert value_of(cache, b"k") == b"x"


@pytest.mark.parametrize("host", ["host.invalid", "cache..invalid", f"{'a' * 64}.invalid"])
def test_a_name_that_is_none_is_unavailable(open_provider: OpenProvider, host: str) -> None:
    cache = open_provider(f"{host}:11211")
    with pytest.raises(BackendUnavailable, match="no connection"):
        cache.fetch([b"k"])
    cache.change_later([Remove(b"k")])


def test_what_was_sent_in_part_is_not_known(
    cache: MemcachedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = [Remove(b"%d" % number) for number in range(1001)]
    pool = cache._pool
    connections = iter([pool.take_live()])

    def take_live() -> Connection:
        try:
            return next(connections)
        except StopIteration:
            raise Busy("all are in use") from None

    monkeypatch.setattr(pool, "take_live", take_live)
    with pytest.raises(BackendUnavailable, match="1 changes were not sent") as refused:
        cache.change(changes)
    assert not isinstance(refused.value, Busy)
    with pytest.raises(Busy):
        cache.change(changes)


def test_a_server_without_cas_is_refused() -> None:
    with started(lambda: MemcachedServer(options=["-C"])) as server:
        cache = MemcachedProvider(Address.parse(server.address), SystemClock(), timeout=20)
        with pytest.raises(BackendUnavailable, match="-C"):
            cache.fetch([b"k"])


def test_it_tells_of_the_server(cache: MemcachedProvider, server: MemcachedServer) -> None:
    cache.store(b"k", b"x")
    cache.fetch([b"k", b"missing"])
    status = cache.status()
    assert (status["address"], status["pid"], status["connections"]) == (server.address, server.pid, 1)
    assert status["items"] == 1
    assert cache.limits.max_value == 1024 * 1024 - 512


# -- little room


def test_a_server_that_evicts_has_always_room(open_provider: OpenProvider) -> None:
    with started(lambda: MemcachedServer(memory=2)) as server:
        cache = open_provider(server.address)
        names = [b"k%d" % number for number in range(300)]
        for name in names:
            cache.store(name, name * 4000)
        assert cache.status()["evicted"]
        values = [item and item.value for item in cache.fetch(names)]
        assert None in values
        assert all(value in (None, name * 4000) for name, value in zip(names, values, strict=True))


def test_a_server_that_must_not_evict_is_full(open_provider: OpenProvider) -> None:
    with started(lambda: MemcachedServer(memory=2, options=["-M"])) as server:
        cache = open_provider(server.address)
        cache.store(b"first", b"x" * 20_000)
        outcomes = cache.change([Store(b"k%d" % number, b"x" * 20_000) for number in range(200)])
        kinds = [type(outcome) for outcome in outcomes]
        assert set(kinds) == {Token, StorageFull}
        kept = [number for number, kind in enumerate(kinds) if kind is Token]
        assert None not in cache.fetch([b"first", *(b"k%d" % number for number in kept)])
        with pytest.raises(StorageFull):
            cache.store(b"more", b"x" * 20_000)
        cache.remove(b"first")
        cache.store(b"more", b"x" * 20_000)
        assert value_of(cache, b"more") == b"x" * 20_000


def test_a_larger_value_goes_into_a_server_that_takes_it(open_provider: OpenProvider) -> None:
    with started(lambda: MemcachedServer(options=["-I", "8m"])) as server:
        cache = open_provider(server.address)
        largest = bytes(range(256)) * ((8 * 1024 * 1024 - 512) // 256)
        cache.store(b"k", largest, time.time() + 100)
        assert cache.retrieve(b"k").value == largest
        with pytest.raises(TooLarge):
            cache.store(b"k", largest + b"x" * 256)
        assert value_of(cache, b"k") == largest


def test_a_value_dropped_by_the_server_is_a_miss(cache: MemcachedProvider) -> None:
    cache.store(b"k", b"x", time.time() + 0.1)
    await_that(lambda: cache.fetch([b"k"]) == [None])
    await_that(lambda: _can_add(cache))


def _can_add(cache: MemcachedProvider) -> bool:
    try:
        cache.store(b"k", b"y", expect=ABSENT)
    except Conflict:
        return False
    return True


# -- what it is made with


@pytest.mark.parametrize(
    "wrong",
    [{"timeout": 0}, {"timeout": -1}, {"connect_timeout": 0.0001}, {"pool_size": 0}, {"prefix": b"a b"}],
)
def test_it_refuses_what_cannot_be(wrong: dict[str, float | bytes]) -> None:
    with pytest.raises(ValueError, match=r"millisecond|prefix"):
        MemcachedProvider(Address(HOST), SystemClock(), **wrong)  # type: ignore[arg-type]  # that is the point
