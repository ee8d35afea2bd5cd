"""The provider `sql` while its database is started, frozen, killed and cut off."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Conflict,
    NotFound,
    Provider,
    Remove,
    Store,
    Token,
)
from syncstore.cache.sql import SqlProvider
from syncstore.testing.cache_writers import ended
from syncstore.testing.plugin import need_driver, started
from syncstore.testing.servers import DatabaseServer, MariaDBServer, PostgresServer
from syncstore.testing.sql_cache import PATIENCE, open_sql, run_sql
from syncstore.testing.tcp_proxy import WELL, Fault, TcpProxy

TIMEOUT = 1.0


@pytest.fixture(scope="module", params=["mysql", "postgresql"])
def server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """One of this module's own, which its tests leave running."""
    databases = request.config.getoption("--databases")
    if request.param not in databases:
        pytest.skip("not among --databases")
    need_driver(request.param)
    kind: Callable[[], DatabaseServer] = MariaDBServer if request.param == "mysql" else PostgresServer
    with started(kind) as running:
        yield running


@pytest.fixture
def url(server: DatabaseServer) -> Iterator[str]:
    yield server.create_database("caches")
    server.drop_database("caches")


@pytest.fixture
def cache(url: str) -> Iterator[SqlProvider]:
    made = open_sql(url, timeout=TIMEOUT)
    yield made
    made.close()


def unavailable_soon(*calls: Callable[[], object]) -> None:
    """Each says within its deadline that the database is away: connecting has one, and the answer."""
    for call in calls:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            call()
        assert time.monotonic() - began < 2 * max(2.0, TIMEOUT) + 2


def test_it_works_as_soon_as_the_database_is_there(server: DatabaseServer, cache: SqlProvider) -> None:
    server.stop()
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        cache.store(b"k", b"x")
    assert time.monotonic() - began < TIMEOUT + 0.2
    server.start()
    token = cache.store(b"k", b"x")
    assert cache.retrieve(b"k").token == token


@pytest.mark.parametrize("how", ["kill9", "stop"])
def test_connections_that_a_restart_ended_cost_nobody_an_error(
    server: DatabaseServer, cache: SqlProvider, how: str
) -> None:
    token = cache.store(b"k", b"x")
    threads = [threading.Thread(target=cache.fetch, args=([b"k"],)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    getattr(server, how)()
    server.start()
    again = cache.store(b"k", b"y", expect=token)
    assert cache.change([Remove(b"k", again), Store(b"l", b"x", 0.0, ABSENT)])[0] is None


def test_one_that_is_frozen_is_not_waited_for(server: DatabaseServer, cache: SqlProvider, url: str) -> None:
    token = cache.store(b"k", b"before")
    other = open_sql(url, timeout=TIMEOUT)
    server.freeze()
    try:
        unavailable_soon(
            lambda: cache.retrieve(b"k"),
            lambda: cache.store(b"k", b"x", expect=Token("another", 1)),
            lambda: cache.change([Store(b"k", b"x", 0.0, ABSENT), Remove(b"never")]),
            lambda: other.fetch([b"k"], reserve=10),  # which has no connection
        )
    finally:
        server.thaw()
        other.close()
    assert cache.retrieve(b"k") == (b"before", token, 0)
    assert cache.store(b"k", b"after", expect=token)


def test_a_change_whose_answer_is_lost_is_not_sent_again(server: DatabaseServer, url: str) -> None:
    with TcpProxy(server.port) as proxy:
        cache = open_sql(url.replace(f":{server.port}", f":{proxy.port}"), timeout=TIMEOUT)
        token = cache.store(b"k", b"0")
        missing = b"m"
        calls: list[Callable[[], object]] = [
            lambda: cache.store(b"k", b"1", expect=token),
            lambda: cache.store(missing, b"1", expect=ABSENT),
            lambda: cache.remove(b"k"),
            lambda: cache.change(
                [Store(b"n", b"1", 0.0, ABSENT), Remove(b"n"), Store(b"o", b"1", 0.0, ABSENT)]
            ),
        ]
        for number, call in enumerate(calls):
            cache.status()  # so that there is a connection
            before = proxy.accepted
            proxy.fault = Fault(cut_after=0)
            with pytest.raises(BackendUnavailable):
                call()
            assert proxy.accepted == before, number
            proxy.fault = WELL
            proxy.cut()
        found = cache.fetch([b"k", missing, b"n", b"o"])
        assert [item and item.value for item in found] == [None, b"1", None, b"1"]  # all were made
        cache.close()


def test_a_read_whose_answer_is_lost_is_asked_again(server: DatabaseServer, url: str) -> None:
    with TcpProxy(server.port) as proxy:
        cache = open_sql(url.replace(f":{server.port}", f":{proxy.port}"), timeout=PATIENCE)
        cache.store(b"k", b"0")
        before = proxy.accepted

        def heal() -> None:
            while proxy.connections:
                time.sleep(0.001)
            proxy.fault = WELL

        healer = threading.Thread(target=heal)
        proxy.fault = Fault(cut_after=0)
        healer.start()
        with suppress(BackendUnavailable):  # it may be asked again before the line is well
            assert cache.retrieve(b"k").value == b"0"
        healer.join()
        assert proxy.accepted == before + 1
        assert cache.retrieve(b"k").value == b"0"
        cache.close()


def test_a_database_that_is_killed_amid_changes_has_each_whole_or_not_at_all(
    server: DatabaseServer, cache: SqlProvider, url: str
) -> None:
    keys = [b"%d" % number for number in range(20)]
    said: dict[bytes, int] = {}
    tried: dict[bytes, int] = {}
    killed = threading.Event()

    def change(some: list[bytes]) -> None:
        number = 0
        own = open_sql(url, timeout=TIMEOUT)
        try:
            while True:
                number += 1
                tried.update(dict.fromkeys(some, number))
                value = b"%d " % number * 2000
                outcomes = own.change([Store(key, value) for key in some])
                assert all(isinstance(outcome, Token) for outcome in outcomes)
                said.update(dict.fromkeys(some, number))
        except BackendUnavailable:
            killed.set()
        finally:
            own.close()

    threads = [threading.Thread(target=change, args=(keys[start : start + 5],)) for start in range(0, 20, 5)]
    for thread in threads:
        thread.start()
    while len(said) < 20 or min(said.values()) < 5:
        time.sleep(0.001)
    server.kill9()
    for thread in threads:
        thread.join(PATIENCE)
    server.start()
    for start in range(0, 20, 5):
        some = keys[start : start + 5]
        found = {item.value for item in cache.fetch(some) if item}
        assert len(found) == 1  # of a transaction all or nothing
        (value,) = found
        number = int(value.split()[0])
        assert value == b"%d " % number * 2000
        assert said[some[0]] <= number <= tried[some[0]]


@pytest.mark.soak
def test_what_is_kept_outlives_ten_restarts_of_the_server(server: DatabaseServer, cache: SqlProvider) -> None:
    tokens: dict[bytes, Token] = {}
    for number in range(10):
        key = b"%d" % number
        tokens[key] = cache.store(key, b"kept")
        cache.store(b"dies", b"x", time.time() + 0.01)
        if number % 2:
            server.kill9()
            server.start()
        else:
            server.restart()
        cache.cull(now=time.time() + 10)
        assert {key: item.token for key, item in cache.iterate()} == tokens
        with pytest.raises(NotFound):
            cache.remove(b"dies")


def test_a_client_that_is_killed_amid_changes_stands_in_nobody_s_way(url: str, cache: SqlProvider) -> None:
    cache.store(b"k", b"x")

    def change_and_die() -> None:
        own = open_sql(url)
        own.change([Store(b"k", b"y")])
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        while True:
            own.change([Store(b"%d" % number, b"x" * 5000) for number in range(200)] + [Store(b"k", b"z")])

    for _ in range(3):
        assert ended(change_and_die) == -signal.SIGKILL
        cache.change([Store(b"%d" % number, b"mine") for number in range(200)])
        assert all(item and item.value == b"mine" for item in cache.fetch([b"1", b"199"]))


def test_how_large_a_value_may_be_the_database_says() -> None:
    need_driver("mysql")

    def small() -> MariaDBServer:
        return MariaDBServer(options=["--max-allowed-packet=1M"])

    with started(small) as running:
        cache: Provider = open_sql(running.create_database("caches"), max_value=2**20)
        largest = cache.limits.max_value
        assert 2**18 < largest < 2**19
        for worst in (b"'" * largest, b"\0" * largest):
            token = cache.store(b"k" * 250, worst)
            assert cache.retrieve(b"k" * 250).value == worst
            cache.change([Store(b"k" * 250, worst, 0.0, token), Store(b"l", worst)])
        with pytest.raises(Conflict):
            cache.store(b"l", worst, expect=token)
        cache.close()


def test_one_that_may_only_be_read_says_so(server: DatabaseServer, cache: SqlProvider, url: str) -> None:
    cache.store(b"k", b"x")
    if "mysql" in url:
        pytest.skip("root may write to it all the same")
    name = url.rpartition("/")[2]
    run_sql(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    cache.close()
    with pytest.raises(BackendUnavailable, match="read-only"):
        cache.store(b"k", b"y")
    assert cache.retrieve(b"k").value == b"x"
    again = f"ALTER DATABASE {name} RESET default_transaction_read_only"
    run_sql(url.replace(f"/{name}", "/postgres"), again)
    cache.close()
    cache.store(b"k", b"y")
