"""The provider `redis` keeps the contract, on a real server."""

from __future__ import annotations

import math
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Conflict,
    NotFound,
    Provider,
    Remove,
    StorageFull,
    Store,
    Token,
)
from syncstore.cache.making import Description, Options, Surroundings, make
from syncstore.cache.redis import server as server_module
from syncstore.cache.redis.address import parse_address
from syncstore.cache.redis.provider import RedisProvider
from syncstore.cache.redis.server import Server
from syncstore.clock import Clock, SystemClock
from syncstore.errors import ConfigError
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.cache_conformance.sharing import together
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.redis_server import RedisServer
from syncstore.testing.tcp_proxy import WELL, Fault, TcpProxy
from syncstore.testing.waiting import await_that

PATIENCE = 20.0


def opened(
    address: str,
    clock: Clock,
    *,
    namespace: str = "a",
    timeout: float = PATIENCE,
    connections: int = 8,
    max_value: int = 2**20,
    password_file: Path | None = None,
) -> RedisProvider:
    server = Server(parse_address(address, password_file), connections=connections, timeout=timeout)
    return RedisProvider(server, clock, namespace=namespace, max_value=max_value)


class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, redis_server: RedisServer) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: opened(redis_server.address, clock)) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: opened(f"{HOST}:{free_port()}", clock)) as open_cache:
            yield open_cache


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock(time.time_ns() // 1_000_000)


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    """One that tests fill, freeze and kill, and leave running."""
    with started(RedisServer) as running:
        yield running


@pytest.fixture
def redis(own_server: RedisServer) -> RedisServer:
    """That one, empty."""
    own_server.ask("FLUSHALL")
    return own_server


def live(cache: Provider) -> dict[bytes, bytes]:
    return {key: item.value for key, item in cache.iterate()}


# -- settings


def made(text: str, here: Path) -> Provider:
    def nobody(name: str) -> object:
        raise AssertionError(name)

    description = Description.parse(text)
    return make(
        description,
        Surroundings("a", SystemClock(), here, Options(description.options), nobody, nobody, ""),  # type: ignore[arg-type]  # neither is asked
    )


ADDRESSES = {
    "redis:cache": "redis://cache:6379/0",
    "redis:cache:1": "redis://cache:1/0",
    "redis:[::1]:7000": "redis://[::1]:7000/0",
    "redis://cache": "redis://cache:6379/0",
    "redis://cache:7000/3": "redis://cache:7000/3",
    "redis:redis://cache:7000/": "redis://cache:7000/0",
    "redis:rediss://cache": "rediss://cache:6379/0",
    "redis://:secret@cache/1": "redis://cache:6379/1",
    "redis://me:se%63ret@[::1]/1": "redis://[::1]:6379/1",
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_a_place_or_a_url(tmp_path: Path, text: str) -> None:
    cache: Any = made(text, tmp_path)
    assert str(cache._server._address) == ADDRESSES[text]
    assert "secret" not in repr(cache._server._address)
    assert cache._server._address.password == ("" if "@" not in text else "secret")


@pytest.mark.parametrize(
    "text",
    ["redis", "redis:", "redis://", "redis:///1", "redis:cache:0", "redis:cache:99999", "redis:cache:x",
     "redis:cache/1", "redis:http://cache", "redis://cache/x", "redis://cache/01", "redis://cache/1/2",
     "redis://cache/99999", "redis://cache?db=1", "redis://cache#x", "redis:unix:///run/redis.sock",
     "redis://:secret@", "redis://:secret@cache:x", "redis://:secr%00et@cache", "redis://:secr%FFet@cache",
     "redis:a,b", "redis://[::1/0"],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="must have an address such as") as refused:
        made(text, tmp_path)
    assert "secr" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("redis:h timeout=0", "timeout=0: must be"),
        ("redis:h max_value=1", "max_value=1: must be"),
        ("redis:h size=1", "size is not an option"),
        ("redis:h password_file=none", "cannot read .*none: No such file"),
        ("redis:h password_file=empty", "must have one password"),
        ("redis://me@h", "a user needs a password"),
        ("redis://:secret@h password_file=good", "keep that one"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "good").write_text("another\n")
    with pytest.raises(ConfigError, match=fault) as refused:
        made(text, tmp_path)
    assert "secret" not in str(refused.value)


def test_without_its_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.connection", None)
    monkeypatch.delitem(sys.modules, "syncstore.cache.redis.server")
    monkeypatch.delitem(sys.modules, "syncstore.cache.redis.provider")
    with pytest.raises(ConfigError, match=r"pip install syncstore\[redis\]"):
        made("redis:h", tmp_path)


def test_a_password_is_said_to_the_server_and_to_nobody_else(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a-secret\n")
    with started(lambda: RedisServer(options=["--requirepass", "a-secret"])) as server:
        place = f"{HOST}:{server.port}"
        for text in (f"redis:{place} password_file=password", f"redis://:a-secret@{place}/2"):
            cache = made(text, tmp_path)
            cache.store(b"k", b"x")
            assert cache.retrieve(b"k").value == b"x"
            assert "secret" not in str(cache.status())
            cache.close()
        for text, words in (
            (f"redis:{place}", "Authentication required"),
            (f"redis://:secret@{place}", "WRONGPASS|invalid|password"),
        ):
            cache = made(text, tmp_path)
            with pytest.raises(BackendUnavailable, match=words) as refused:
                cache.store(b"k", b"x")
            assert "secret" not in str(refused.value)


def test_it_is_made_at_once_and_works_as_soon_as_the_server_is_there(
    tmp_path: Path, redis: RedisServer
) -> None:
    redis.stop()
    times = []
    for _ in range(5):
        began = time.thread_time()  # of this thread alone: the machine may be busy
        cache = made(f"redis:{redis.address}", tmp_path)
        times.append(time.thread_time() - began)
    assert min(times) < 0.01
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        cache.store(b"k", b"x")
    assert time.monotonic() - began < 1.2
    redis.start()
    token = cache.store(b"k", b"x")
    assert cache.retrieve(b"k").token == token
    cache.close()


# -- races and forks


def test_of_two_processes_that_add_exactly_one_wins(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock())
    reading, writing = os.pipe()

    def add(name: bytes) -> None:
        for number in range(1000):
            try:
                cache.store(b"race%d" % number, name, expect=ABSENT)
            except Conflict:
                continue
            os.write(writing, b"%d " % number)

    children = [Child(lambda name=name: add(name)) for name in (b"one", b"other")]  # type: ignore[misc]  # its own name
    os.close(writing)
    with open(reading, "rb") as pipe:
        won = sorted(map(int, pipe.read().split()))
    assert [child.join() for child in children] == [""] * 2
    assert won == list(range(1000))
    cache.close()


@pytest.mark.soak
def test_eight_children_store_and_find_a_thousand_values_each(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock())
    cache.store(b"parent", b"x")

    def use(name: bytes) -> None:
        for number in range(1000):
            key = name + b"%d" % (number % 50)
            token = cache.store(key, b"%d" % number + name)
            assert cache.retrieve(key)[:2] == (b"%d" % number + name, token)

    children = [Child(lambda name=b"c%d:" % number: use(name)) for number in range(8)]  # type: ignore[misc]  # its own name
    use(b"parent:")
    assert [child.join() for child in children] == [""] * 8
    assert cache.retrieve(b"parent").value == b"x"
    cache.close()


def test_two_namespaces_do_not_meet(redis: RedisServer, clock: SteppableClock) -> None:
    one, other = opened(redis.address, clock), opened(redis.address, clock, namespace="ab")
    one.change([Store(b"b", b"one"), Store(b"\xff" * 250, b"last"), Store(b"*?[", b"glob")])
    token = other.store(b"b", b"other")
    with pytest.raises(Conflict):
        one.store(b"b", b"x", expect=token)
    assert live(one) == {b"*?[": b"glob", b"b": b"one", b"\xff" * 250: b"last"}
    assert live(other) == {b"b": b"other"}
    one.remove(b"b")
    assert other.retrieve(b"b").value == b"other"
    one.close()
    other.close()


def test_it_lists_each_key_once_however_many_there_are(redis: RedisServer, clock: SteppableClock) -> None:
    cache = opened(redis.address, clock)
    cache.change([Store(b"%d" % number, b"%d" % number * 3) for number in range(3000)])
    found = []
    for key, item in cache.iterate():
        found.append(key)
        assert item.value == key * 3
        cache.store(b"new" + key, b"x" * 10)  # so that Redis moves what it has while it is listed
        cache.remove(b"new" + key)
    assert sorted(found) == sorted(b"%d" % number for number in range(3000))
    cache.close()


def test_a_key_that_redis_names_twice_is_listed_once(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened(redis.address, SystemClock())
    cache.store(b"k", b"x")
    names = [(b"1", [b"k", b"k"]), (b"2", [b"k"]), (b"0", [])]
    monkeypatch.setattr(cache, "_names", lambda link, cursor: names[int(cursor)])
    assert [key for key, _ in cache.iterate()] == [b"k"]
    cache.close()


# -- expiry


def test_times_come_back_as_they_were_and_redis_drops_nothing_before(
    redis: RedisServer, clock: SteppableClock
) -> None:
    cache = opened(redis.address, clock)
    rng = random.Random(4)
    times = [clock.seconds() + 1 + rng.random() * 10 ** rng.randrange(0, 9) for _ in range(200)]
    cache.change([Store(b"%d" % number, b"x", expires) for number, expires in enumerate(times)])
    found = cache.fetch([b"%d" % number for number in range(200)])
    assert [item and item.expires for item in found] == times
    for number in range(0, 200, 10):
        told = int(redis.ask(f"PEXPIRETIME socache:a:{number}").strip(b":\r\n"))
        assert 0 <= told / 1000 - times[number] < 0.001
    for expires in (math.inf, 1e200, 0.0):
        token = cache.store(b"kept", b"x", expires)
        assert redis.ask("PTTL socache:a:kept") == b":-1\r\n"
        token = cache.store(b"kept", b"x", expires, expect=token)
        assert cache.retrieve(b"kept")[1:] == (token, 0 if expires == math.inf else expires)
    cache.close()


def test_what_expires_leaves_redis(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock())
    token = cache.store(b"1", b"x", time.time() + 0.05)
    cache.store(b"2", b"x", time.time() + 0.05, expect=ABSENT)
    cache.fetch([b"3"], reserve=0.05)
    cache.store(b"1", b"x", time.time() + 0.1, expect=token)
    await_that(lambda: redis.ask("DBSIZE") == b":0\r\n")
    cache.close()


# -- lives of the server


def test_tokens_and_values_of_another_life_of_the_server_are_nothing_in_this_one() -> None:
    """Redis comes back with what was there a while ago: it must not pass for what is there."""
    options = ["--appendonly", "yes", "--appendfsync", "always"]
    with started(lambda: RedisServer(options=options)) as server:
        cache = opened(server.address, SystemClock())
        stale = cache.store(b"k", b"old")
        cache.store(b"gone", b"x")
        for number in range(700):
            cache.store(b"%d" % number, b"x")
        server.restart()
        assert server.ask("EXISTS socache:a:k") == b":1\r\n"
        assert cache.fetch([b"k", b"gone"]) == [None, None]
        assert live(cache) == {}
        with pytest.raises(NotFound):
            cache.remove(b"k")
        with pytest.raises(NotFound):
            cache.remove(b"k", expect=stale)
        with pytest.raises(Conflict):
            cache.store(b"k", b"late", expect=stale)
        token = cache.store(b"k", b"new", expect=ABSENT)
        assert token.incarnation != stale.incarnation
        (item,) = cache.fetch([b"gone"], reserve=10)
        assert item is not None
        assert item.value == b""
        assert cache.cull() == 700  # what is of a former life
        assert cache.cull() == 0
        assert live(cache) == {b"k": b"new", b"gone": b""}
        with pytest.raises(Conflict):
            cache.store(b"k", b"late", expect=stale)
        assert cache.retrieve(b"k") == (b"new", token, 0)
        cache.close()


def test_an_empty_server_after_a_kill_gives_no_old_token_a_meaning(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock())
    tokens = [cache.store(b"k", b"x") for _ in range(50)]
    redis.kill9()
    redis.start()
    with pytest.raises(NotFound):
        cache.retrieve(b"k")
    for _ in range(50):
        cache.store(b"k", b"y")
        with pytest.raises(Conflict):
            cache.store(b"k", b"late", expect=tokens.pop())
    cache.close()


def test_a_server_that_is_too_old_is_told_so(monkeypatch: pytest.MonkeyPatch, redis: RedisServer) -> None:
    monkeypatch.setattr(server_module, "_OLDEST", (999, 0))
    cache = opened(redis.address, SystemClock())
    with pytest.raises(BackendUnavailable, match=r"too old: 999\.0 is needed"):
        cache.store(b"k", b"x")


# -- faults


def test_removed_scripts_are_brought_again(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock())
    token = cache.store(b"k", b"x")
    redis.ask("SCRIPT FLUSH")
    token = cache.store(b"k", b"y", expect=token)
    redis.ask("SCRIPT FLUSH")
    outcomes = cache.change([Store(b"l", b"1"), Store(b"k", b"z", 0.0, token), Store(b"k", b"w", 0.0, token)])
    assert [type(outcome) for outcome in outcomes] == [Token, Token, Conflict]
    redis.ask("SCRIPT FLUSH")
    # The second is done and the first is not: nobody can say any more that they were in this order.
    with pytest.raises(BackendUnavailable, match="removed amid"):
        cache.change([Remove(b"k"), Store(b"k", b"last")])
    assert cache.change([Remove(b"k"), Store(b"k", b"last")])[0] is None
    assert live(cache) == {b"l": b"1", b"k": b"last"}
    cache.close()


def test_a_full_server_stores_nothing_and_removes() -> None:
    options = ["--maxmemory-policy", "noeviction"]
    with started(lambda: RedisServer(memory=8, options=options)) as server:
        cache = opened(server.address, SystemClock())
        token = cache.store(b"first", b"x" * 100_000)
        count = 0
        while isinstance(cache.change([Store(b"%d" % count, b"x" * 100_000)])[0], Token):
            count += 1
        assert count > 20
        calls: list[Callable[[], object]] = [
            lambda: cache.store(b"new", b"x" * 100_000),
            lambda: cache.store(b"new", b"x" * 100_000, expect=ABSENT),
            lambda: cache.store(b"first", b"x" * 100_000, expect=token),
            lambda: cache.fetch([b"new"], reserve=10),
        ]
        for call in calls:
            with pytest.raises(StorageFull, match="no room"):
                call()
        assert cache.retrieve(b"first").token == token
        outcomes = cache.change(
            [Store(b"new", b"x" * 100_000, 0.0, ABSENT), Remove(b"0"), Remove(b"first", token)]
        )
        assert [type(outcome) for outcome in outcomes] == [StorageFull, type(None), type(None)]
        cache.close()


def test_one_that_is_frozen_is_not_waited_for(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock(), timeout=0.3)
    other = opened(redis.address, SystemClock(), timeout=0.3)
    token = cache.store(b"k", b"before")
    redis.freeze()
    try:
        calls: list[Callable[[], object]] = [
            lambda: cache.retrieve(b"k"),
            lambda: cache.store(b"k", b"x", expect=Token("another", 1)),
            lambda: cache.change([Store(b"k", b"x", 0.0, ABSENT), Remove(b"never")]),
            lambda: other.fetch([b"k"], reserve=10),  # which has no connection
        ]
        for call in calls:
            began = time.monotonic()
            with pytest.raises(BackendUnavailable):
                call()
            assert time.monotonic() - began < 3
    finally:
        redis.thaw()
    assert cache.retrieve(b"k") == (b"before", token, 0)
    assert cache.store(b"k", b"after", expect=token)
    cache.close()
    other.close()


def test_a_change_whose_answer_is_lost_is_not_sent_again(redis: RedisServer) -> None:
    with TcpProxy(redis.port) as proxy:
        cache = opened(proxy.address, SystemClock(), timeout=1.0)
        token = cache.store(b"k", b"0")
        calls: list[Callable[[], object]] = [
            lambda: cache.store(b"k", b"1", expect=token),
            lambda: cache.store(b"m", b"1", expect=ABSENT),
            lambda: cache.remove(b"k"),
            lambda: cache.fetch([b"n"], reserve=100),
            lambda: cache.change([Store(b"o", b"1", 0.0, ABSENT), Remove(b"o"), Store(b"p", b"1")]),
        ]
        for call in calls:
            cache.status()  # so that there is a connection
            before = proxy.accepted
            proxy.fault = Fault(cut_after=0)
            with pytest.raises(BackendUnavailable):
                call()
            assert proxy.accepted == before
            proxy.fault = WELL
            proxy.cut()
        found = cache.fetch([b"k", b"m", b"n", b"o", b"p"])
        assert [item and item.value for item in found] == [None, b"1", b"", None, b"1"]  # all were made
        cache.close()


def test_answers_that_come_too_slowly_are_not_taken_for_those_of_the_next_call(redis: RedisServer) -> None:
    with TcpProxy(redis.port) as proxy:
        cache = opened(proxy.address, SystemClock(), timeout=0.3)
        cache.change([Store(b"%d" % number, b"%d" % number) for number in range(50)])
        proxy.fault = Fault(dribble=0.01)
        with pytest.raises(BackendUnavailable):
            cache.change([Store(b"%d" % number, b"%d" % number) for number in range(50)])
        proxy.fault = WELL
        for number in range(50):
            assert cache.retrieve(b"%d" % number).value == b"%d" % number
        cache.close()


def test_connections_that_a_restart_ended_cost_nobody_an_error(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock())
    for how in ("stop", "kill9"):
        together(*[lambda: cache.store(b"k", b"x")] * 6)
        getattr(redis, how)()
        redis.start()
        cache.store(b"k", b"y", expect=ABSENT)
    cache.close()


def test_a_server_that_is_killed_amid_changes_leaves_none_in_halves(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock(), timeout=1.0)
    went = threading.Event()

    def change() -> None:
        with suppress(BackendUnavailable):
            while True:
                cache.change([Store(b"%d" % number, b"x" * 5000) for number in range(50)])
                went.set()

    threads = [threading.Thread(target=change) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert went.wait(PATIENCE)
    redis.kill9()
    for thread in threads:
        thread.join(PATIENCE)
    with pytest.raises(BackendUnavailable):
        cache.retrieve(b"1")
    redis.start()
    assert live(cache) == {}
    token = cache.store(b"k", b"x", expect=ABSENT)
    assert cache.retrieve(b"k").token == token
    cache.close()


def test_what_is_not_ours_is_not_there(redis: RedisServer) -> None:
    cache = opened(redis.address, SystemClock())
    redis.ask("SET socache:a:text hello")
    redis.ask("LPUSH socache:a:list x")
    assert cache.fetch([b"text", b"list"]) == [None, None]
    cache.store(b"text", b"x", expect=ABSENT)
    with pytest.raises(BackendUnavailable, match=r"WRONGTYPE|wrong kind"):
        cache.store(b"list", b"x", expect=ABSENT)
    assert live(cache) == {b"text": b"x"}
    cache.store(b"list", b"x")
    assert cache.retrieve(b"list").value == b"x"
    cache.close()


def test_a_replica_takes_no_changes(redis: RedisServer) -> None:
    with started(lambda: RedisServer(options=["--replicaof", f"{HOST} {redis.port}"])) as replica:
        cache = opened(replica.address, SystemClock(), timeout=2.0)
        with pytest.raises(BackendUnavailable, match=r"read.?only|READONLY"):
            cache.store(b"k", b"x")
        replica.ask("REPLICAOF NO ONE")
        cache.store(b"k", b"x")
        cache.close()
