"""What can happen to a memcached and the way to it: no wrong bytes, no second execution, no wait without end."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pytest

from syncstore.cache.api import (
    BackendUnavailable,
    Conflict,
    NotFound,
    Provider,
    Remove,
    Store,
    Token,
    TooLarge,
)
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.testing.cache_conformance.rooms import present, value_of
from syncstore.testing.plugin import started
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.tcp_proxy import SILENT, WELL, Fault, TcpProxy
from syncstore.testing.waiting import await_that

OpenProvider = Callable[..., MemcachedProvider]
T = TypeVar("T")
SHORT = 0.1
"""A deadline in seconds for those who shall miss it."""

LONG = 30.0
"""Seconds that nobody waits for unless a deadline is not kept."""

READS: dict[str, Callable[[Provider], object]] = {
    "retrieve": lambda cache: cache.retrieve(b"k"),
    "fetch": lambda cache: cache.fetch([b"k", b"other"]),
    "fetch and reserve": lambda cache: cache.fetch([b"other"], reserve=10),
    "status": lambda cache: cache.status(),
}
CHANGES: dict[str, Callable[[Provider], object]] = {
    "store": lambda cache: cache.store(b"k", b"new"),
    "remove": lambda cache: cache.remove(b"k"),
    "change": lambda cache: cache.change([Store(b"k", b"new"), Store(b"other", b"x")]),
}
CALLS = READS | CHANGES


def calmly(call: Callable[[], T]) -> T:
    """Call until there is an answer: on a busy machine a healthy one, too, can miss a short deadline."""
    end = time.monotonic() + LONG
    while True:
        try:
            return call()
        except BackendUnavailable:
            if time.monotonic() > end:
                raise


@contextmanager
def frozen(server: MemcachedServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


# -- a server that does not answer


@pytest.mark.parametrize("call", CALLS)
def test_a_frozen_server_is_unavailable_within_the_deadline(
    server: MemcachedServer, open_provider: OpenProvider, call: str
) -> None:
    cache = open_provider(server.address, timeout=SHORT)
    calmly(lambda: cache.store(b"k", b"x"))
    with frozen(server):
        for _ in range(3):  # first on the connection there was, then it connects and gets no answer
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match="did not answer"):
                CALLS[call](cache)
            assert time.monotonic() - began < LONG
    calmly(lambda: cache.store(b"k", b"again"))
    assert calmly(lambda: value_of(cache, b"k")) == b"again"


@pytest.mark.parametrize("fault", [SILENT, Fault(swallow_replies=True)], ids=["half open", "replies lost"])
@pytest.mark.parametrize("call", CALLS)
def test_a_silent_network_is_unavailable_within_the_deadline(
    proxy: TcpProxy, open_provider: OpenProvider, call: str, fault: Fault
) -> None:
    cache = open_provider(proxy.address, timeout=SHORT)
    calmly(lambda: cache.store(b"k", b"x"))
    proxy.fault = fault
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="did not answer"):
            CALLS[call](cache)
    proxy.fault = WELL
    calmly(lambda: cache.store(b"k", b"again"))
    assert calmly(lambda: value_of(cache, b"k")) == b"again"


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_dribbles_does_not_extend_the_deadline(
    proxy: TcpProxy, open_provider: OpenProvider, call: str
) -> None:
    cache = open_provider(proxy.address, timeout=4 * SHORT)
    calmly(lambda: cache.store(b"k", b"x" * 1000))
    proxy.fault = Fault(dribble=2 * SHORT)  # a byte each time: each comes in time, the last one never would
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(BackendUnavailable, match="did not answer"):
            CALLS[call](cache)
        assert time.monotonic() - began < 4 * SHORT + LONG / 10
    proxy.fault = WELL
    assert calmly(lambda: value_of(cache, b"k")) is not None or call == "remove"


def test_a_large_value_that_is_not_taken_does_not_extend_the_deadline(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    with started(lambda: MemcachedServer(options=["-I", "64m"], memory=256)) as large:
        cache = open_provider(large.address, timeout=0.5)
        value = b"x" * (cache.limits.max_value // 2)
        with frozen(large):
            for send in (
                lambda: cache.store(b"k", value),
                lambda: cache.fetch([b"k" * 180] * 100),
            ):
                with pytest.raises(BackendUnavailable, match="did not answer"):
                    send()
            began = time.monotonic()
            cache.change_later([Store(b"k", value)])
            assert time.monotonic() - began < LONG


def test_what_is_changed_later_waits_for_no_answer(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(server.address, timeout=LONG)
    cache.store(b"k", b"x")
    began = time.monotonic()
    with frozen(server):
        for number in range(20):
            cache.change_later([Store(b"k", b"%d" % number), Remove(b"other")])
    assert time.monotonic() - began < LONG
    await_that(lambda: value_of(cache, b"k") == b"19")


def test_answers_that_nobody_reads_do_not_pile_up(proxy: TcpProxy, open_provider: OpenProvider) -> None:
    cache = open_provider(proxy.address, timeout=SHORT)
    calmly(lambda: cache.store(b"k", b"x"))
    proxy.fault = Fault(swallow_replies=True)
    for _ in range(300):
        cache.change_later([Store(b"k", b"y")])
        if proxy.accepted > 1:
            break
    assert proxy.accepted > 1
    proxy.fault = WELL
    calmly(lambda: cache.store(b"k", b"z"))
    assert calmly(lambda: value_of(cache, b"k")) == b"z"


def test_after_as_many_failures_as_connections_it_works_again(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(server.address, timeout=SHORT, pool_size=3)
    calmly(lambda: cache.store(b"k", b"x"))
    with frozen(server), ThreadPoolExecutor(6) as threads:
        for call in (cache.retrieve, cache.remove):
            failures = [threads.submit(call, b"k").exception(LONG) for _ in range(12)]
            assert {type(failure) for failure in failures} == {BackendUnavailable}
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda n: calmly(lambda: cache.store(b"k%d" % n, b"x")), range(30)))
    assert 1 <= int(calmly(cache.status)["connections"]) <= 3


def test_when_all_connections_are_in_use_one_does_not_wait_for_ever(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(server.address, timeout=4 * SHORT, pool_size=1)
    calmly(lambda: cache.store(b"k", b"x"))
    with frozen(server), ThreadPoolExecutor(8) as threads:
        failures = [threads.submit(cache.retrieve, b"k") for _ in range(8)]
        assert all(isinstance(failure.exception(LONG), BackendUnavailable) for failure in failures)
    assert calmly(lambda: value_of(cache, b"k")) == b"x"


# -- a server that starts again


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("connections", [1, 4])
def test_a_restart_in_a_quiet_moment_costs_nothing(
    server: MemcachedServer, open_provider: OpenProvider, call: str, connections: int
) -> None:
    cache = open_provider(server.address, pool_size=4)
    barrier = threading.Barrier(connections)
    use_several(cache, barrier, connections)
    assert cache.status()["connections"] == connections
    server.restart()
    open_provider(server.address).store(b"k", b"x")

    CALLS[call](cache)
    use_several(cache, barrier, connections)


def use_several(cache: MemcachedProvider, barrier: threading.Barrier, number: int) -> None:
    """Use so many connections at once."""

    def use() -> None:
        connection = cache._pool.take_live()
        barrier.wait(LONG)
        assert connection.stats()
        barrier.wait(LONG)
        cache._pool.give_back(connection)

    with ThreadPoolExecutor(number) as threads:
        for future in [threads.submit(use) for _ in range(number)]:
            future.result()


def test_a_restart_does_not_disturb_what_nobody_waited_for(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(server.address)
    for call in ("fetch", "store", "change_later"):
        cache.change_later([Store(b"k", b"before"), Remove(b"other")])
        server.restart()
        if call == "fetch":
            assert cache.fetch([b"k"]) == [None]
        elif call == "store":
            cache.store(b"k", b"after")
        else:
            cache.change_later([Store(b"k", b"after")])
            await_that(lambda: value_of(cache, b"k") == b"after")


def test_what_nobody_waited_for_is_done_though_the_cache_is_closed_at_once(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    reader = open_provider(server.address)
    for number in range(50):
        cache = open_provider(server.address, timeout=LONG)
        cache.change_later([Store(b"k%d" % place, b"%d" % number + b"x" * 500_000) for place in range(4)])
        cache.close()
        found = present(reader.fetch([b"k%d" % place for place in range(4)]))
        assert [item.value[:2].rstrip(b"x") for item in found] == [b"%d" % number] * 4


def test_closing_waits_once_for_a_server_that_hangs(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(server.address, timeout=SHORT, pool_size=8)
    taken = [calmly(cache._pool.take_to_tell) for _ in range(8)]
    for connection in taken:
        connection.owed = 1
        cache._pool.give_back(connection)
    began = time.monotonic()
    cache.close()
    assert SHORT <= time.monotonic() - began < 4 * SHORT


def test_the_token_of_an_earlier_life_is_refused_though_its_number_fits(
    proxy: TcpProxy, server: MemcachedServer, open_provider: OpenProvider
) -> None:
    server.restart()
    cache = open_provider(proxy.address)
    old = cache.store(b"k", b"old")
    server.restart()
    open_provider(server.address).store(b"k", b"new")
    new = cache.retrieve(b"k").token
    assert (old.number, old.incarnation != new.incarnation) == (new.number, True)

    with pytest.raises(Conflict):
        cache.store(b"k", b"late", expect=old)
    with pytest.raises(Conflict):
        cache.remove(b"k", expect=old)
    cache.change_later([Store(b"k", b"late", 0.0, old), Remove(b"k", old)])
    assert cache.retrieve(b"k") == (b"new", new, 0)
    assert b" C%d" % old.number not in proxy.requests  # it was not even sent

    cache.store(b"k", b"newest", expect=new)
    assert value_of(cache, b"k") == b"newest"


def test_a_placeholder_of_an_earlier_life_is_not_filled(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    server.restart()
    cache = open_provider(server.address)
    (old,) = present(cache.fetch([b"k"], reserve=10))
    server.restart()
    (new,) = present(cache.fetch([b"k"], reserve=10))
    assert old.token.number == new.token.number
    with pytest.raises(Conflict):
        cache.store(b"k", b"late", expect=old.token)
    cache.store(b"k", b"right", expect=new.token)


def test_a_server_that_comes_back_with_less_room_is_believed(open_provider: OpenProvider) -> None:
    with started(lambda: MemcachedServer(options=["-I", "4m"])) as server:
        cache = open_provider(server.address)
        value = b"x" * cache.limits.max_value
        cache.store(b"k", value)
        server.stop()
        server.command = [word.replace("4m", "1m") for word in server.command]
        server.start()
        cache.store(b"k", b"small")
        with pytest.raises(TooLarge):
            cache.store(b"k", value)
        assert value_of(cache, b"k") == b"small"


def test_a_server_that_is_away_is_unavailable_until_it_is_back(
    server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(server.address)
    server.stop()
    for call in CALLS.values():
        with pytest.raises(BackendUnavailable):
            call(cache)
    with pytest.raises(BackendUnavailable):
        _ = cache.limits
    cache.change_later([Store(b"k", b"dropped")])
    server.start()
    with pytest.raises(NotFound):
        cache.retrieve(b"k")
    assert cache.limits.max_value > 10_000


# -- a connection that breaks


@pytest.mark.parametrize("reset", [False, True], ids=["hangs up", "resets"])
@pytest.mark.parametrize("call", CALLS)
def test_a_connection_that_broke_while_idle_is_replaced(
    server: MemcachedServer, open_provider: OpenProvider, call: str, reset: bool
) -> None:
    with TcpProxy(server.port, reset=reset) as proxy:
        cache = open_provider(proxy.address)
        cache.store(b"k", b"x")
        (connection,) = cache._pool._idle
        proxy.cut()
        await_that(connection.readable)
        CALLS[call](cache)
        assert proxy.accepted == 2


@pytest.mark.parametrize("bytes_before", [0, 1, 10, 100, 5_000, 90_000, 100_015])
def test_a_reply_cut_anywhere_is_nobody_s(
    proxy: TcpProxy, open_provider: OpenProvider, bytes_before: int
) -> None:
    cache = open_provider(proxy.address)
    cache.store(b"mine", b"m" * 100_000)
    cache.store(b"yours", b"y" * 100_000)
    proxy.fault = Fault(cut_after=bytes_before)
    with pytest.raises(BackendUnavailable):
        cache.retrieve(b"mine")
    proxy.fault = WELL
    for _ in range(3):
        assert value_of(cache, b"yours") == b"y" * 100_000


def test_a_read_is_asked_once_more_on_a_new_connection(proxy: TcpProxy, open_provider: OpenProvider) -> None:
    cache = open_provider(proxy.address)
    cache.store(b"k", b"x" * 100_000)
    proxy.fault = Fault(cut_after=50_000)  # enough for the server to say who it is
    with pytest.raises(BackendUnavailable):
        cache.retrieve(b"k")
    assert proxy.requests.count(b"mg t:k ") == 2
    with pytest.raises(BackendUnavailable):
        cache.retrieve(b"k")  # on a new connection it is not asked again
    assert proxy.requests.count(b"mg t:k ") == 3


@pytest.mark.parametrize("bytes_before", [0, 3])
def test_a_change_is_never_sent_twice(
    proxy: TcpProxy, server: MemcachedServer, open_provider: OpenProvider, bytes_before: int
) -> None:
    cache, witness = open_provider(proxy.address), open_provider(server.address)
    for warm in (True, False):
        proxy.fault = WELL
        if warm:
            cache.store(b"k", b"first")
        sent = proxy.requests.count(b"ms t:k ")
        proxy.fault = Fault(cut_after=bytes_before if warm else 100_000)
        if not warm:
            cache.store(b"other", b"x" * 10)
            proxy.fault = Fault(cut_after=bytes_before)
        with pytest.raises(BackendUnavailable):
            cache.store(b"k", b"second")
        assert proxy.requests.count(b"ms t:k ") == sent + 1
        assert value_of(witness, b"k") == b"second"  # it was made, and nobody could know


def test_a_request_cut_in_the_middle_changes_nothing(
    proxy: TcpProxy, server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache, witness = open_provider(proxy.address), open_provider(server.address)
    cache.store(b"k", b"first")
    proxy.fault = Fault(requests_cut_after=5_000)
    with pytest.raises(BackendUnavailable):
        cache.store(b"k", b"x" * 100_000)
    proxy.fault = WELL
    assert value_of(witness, b"k") == b"first"
    assert value_of(cache, b"k") == b"first"


def test_who_is_no_memcached_is_unavailable(open_provider: OpenProvider) -> None:
    for answer in (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"END\r\nEND\r\n",
        b"x" * 5000,
        b"\r\n",
        b"STAT a 1\r\nE",
    ):
        with speaking(answer) as port, pytest.raises(BackendUnavailable):
            open_provider(f"127.0.0.1:{port}", timeout=0.5).fetch([b"k"])


@contextmanager
def speaking(answer: bytes) -> Iterator[int]:
    """A server that gives everybody the same answer; its port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)
                connection.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        port: int = listener.getsockname()[1]
        yield port
        thread.join(LONG)


def test_nobody_gets_another_s_value_while_everything_breaks(
    proxy: TcpProxy, server: MemcachedServer, open_provider: OpenProvider
) -> None:
    cache = open_provider(proxy.address, timeout=2 * SHORT, pool_size=3)
    done = threading.Event()
    answers = dict.fromkeys(("right", "missing", "unavailable"), 0)

    def use(number: int) -> None:
        rng = random.Random(number)
        keys = [b"%d" % key for key in range(12)]
        while not done.is_set():
            key = rng.choice(keys)
            mine = Store(key, key + b":" + b"x" * rng.choice((1, 1000, 50_000)))
            try:
                choice = rng.randrange(4)
                if choice == 0:
                    outcomes = cache.change([mine, Remove(b"gone"), mine])
                    kinds = [type(outcome) for outcome in outcomes]
                    assert kinds == [Token, NotFound, Token]
                elif choice == 1:
                    cache.change_later([mine, Remove(rng.choice(keys))])
                else:
                    asked = rng.sample(keys, 3)
                    for name, item in zip(asked, cache.fetch(asked), strict=True):
                        assert item is None or item.value.startswith(name + b":")
                        answers["right" if item else "missing"] += 1
            except BackendUnavailable:
                answers["unavailable"] += 1

    def spoil() -> None:
        rng = random.Random(1)
        faults = (
            SILENT,
            Fault(swallow_replies=True),
            Fault(dribble=0.001),
            Fault(delay=0.05),
            Fault(cut_after=20),
        )
        for turn in range(40):
            proxy.fault = rng.choice((*faults, Fault(cut_after=rng.randrange(100_000)), WELL))
            done.wait(0.05)
            proxy.cut()
            proxy.fault = WELL
            if turn % 10 == 9:
                server.restart()
            done.wait(0.03)

    with ThreadPoolExecutor(6) as threads:
        users = [threads.submit(use, number) for number in range(6)]
        try:
            spoil()
        finally:
            done.set()
        for user in users:
            user.result()
    assert min(answers.values()) > 0, answers
    proxy.cut()
    token = calmly(lambda: cache.store(b"k", b"x"))
    assert calmly(lambda: cache.retrieve(b"k")).token == token
    assert int(calmly(cache.status)["connections"]) <= 3


# -- a caller who is interrupted


class Killed(BaseException):
    """What a green thread may be ended with."""


@contextmanager
def interrupted_by(error: BaseException, when: Callable[[], bool]) -> Iterator[None]:
    """Raise `error` in this, the main thread, once `when` says so, wherever it is then."""

    def strike(number: int, frame: object) -> None:
        raise error

    def watch() -> None:
        await_that(when)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, strike)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(type(error)):
            yield
    finally:
        watcher.join(LONG)
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), Killed(), RuntimeError("a time limit")])
@pytest.mark.parametrize("call", CALLS)
def test_the_answer_to_one_who_was_interrupted_goes_to_nobody(
    proxy: TcpProxy, open_provider: OpenProvider, call: str, error: BaseException
) -> None:
    cache = open_provider(proxy.address, pool_size=1)
    cache.change([Store(b"k", b"mine"), Store(b"yours", b"yours")])
    said = len(proxy.requests)
    proxy.fault = Fault(delay=0.2)
    with interrupted_by(error, lambda: len(proxy.requests) > said):
        CALLS[call](cache)
    proxy.fault = WELL
    assert proxy.accepted == 1
    for _ in range(3):
        assert value_of(cache, b"yours") == b"yours"
    assert proxy.accepted == 2


def test_an_interruption_in_the_middle_of_a_value_leaves_nothing_behind(
    proxy: TcpProxy, open_provider: OpenProvider
) -> None:
    cache = open_provider(proxy.address, pool_size=1)
    cache.change([Store(b"mine", b"m" * 300), Store(b"yours", b"yours")])
    told = proxy.passed
    proxy.fault = Fault(dribble=0.005)
    with interrupted_by(Killed(), lambda: proxy.passed > told + 20):
        cache.retrieve(b"mine")
    proxy.fault = WELL
    assert value_of(cache, b"yours") == b"yours"


def test_an_interruption_while_waiting_for_a_connection_costs_none(
    proxy: TcpProxy, open_provider: OpenProvider
) -> None:
    cache = open_provider(proxy.address, pool_size=1)
    connection = cache._pool.take()
    with interrupted_by(Killed(), lambda: cache._pool._waiting == 1):
        cache.retrieve(b"k")
    cache._pool.give_back(connection)
    assert cache._pool._waiting == 0
    assert cache.fetch([b"k"]) == [None]


def test_a_wait_is_not_made_longer_by_signals(server: MemcachedServer, open_provider: OpenProvider) -> None:
    cache = open_provider(server.address, timeout=4 * SHORT)
    calmly(lambda: cache.store(b"k", b"x"))
    done = threading.Event()
    began = time.monotonic()

    def disturb() -> None:
        while not done.wait(SHORT) and time.monotonic() - began < LONG:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with frozen(server), pytest.raises(BackendUnavailable):
            cache.retrieve(b"k")
        assert time.monotonic() - began < LONG / 2
    finally:
        done.set()
        thread.join(LONG)
        signal.signal(signal.SIGUSR1, before)
