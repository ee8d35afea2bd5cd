"""The pool: as many connections as allowed, and none is ever lost."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncstore.cache.api import BackendUnavailable, Busy
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.connection import Connection
from syncstore.cache.memcached.connections import Connections
from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.tcp_proxy import WELL, Fault, TcpProxy
from syncstore.testing.waiting import await_that

PATIENCE = 20.0
OpenConnections = Callable[..., Connections]


@pytest.fixture
def open_pool(proxy: TcpProxy) -> Iterator[OpenConnections]:
    opened: list[Connections] = []

    def open_one(size: int, wait: float = PATIENCE) -> Connections:
        def connect() -> Connection:
            return Connection(Address.parse(proxy.address), connect_timeout=PATIENCE, timeout=PATIENCE)

        opened.append(Connections(connect, size=size, wait=wait))
        return opened[-1]

    yield open_one
    for pool in opened:
        pool.close()


def test_it_connects_when_it_must(open_pool: OpenConnections, proxy: TcpProxy) -> None:
    pool = open_pool(3)
    assert proxy.accepted == 0
    first = pool.take()
    assert not first.reused
    pool.give_back(first)
    again = pool.take()
    assert again is first
    assert again.reused
    assert (proxy.accepted, pool.connections) == (1, 1)


def test_the_last_to_come_is_the_first_to_go(open_pool: OpenConnections) -> None:
    pool = open_pool(3)
    taken = [pool.take() for _ in range(3)]
    for connection in taken:
        pool.give_back(connection)
    assert [pool.take() for _ in range(3)] == taken[::-1]


@pytest.mark.parametrize("way", [Connections.take, Connections.take_live, Connections.take_to_tell])
def test_there_are_no_more_than_allowed(
    open_pool: OpenConnections, way: Callable[[Connections], Connection]
) -> None:
    pool = open_pool(2, wait=0.05)
    taken = [way(pool), way(pool)]
    began = time.monotonic()
    with pytest.raises(Busy, match="all 2 connections"):
        way(pool)
    assert time.monotonic() - began >= 0.05
    pool.give_back(taken[0])
    assert way(pool) is taken[0]


def test_who_waits_gets_what_is_given_back(open_pool: OpenConnections) -> None:
    pool = open_pool(1, wait=2 * PATIENCE)
    connection = pool.take()
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(pool.take)
        await_that(lambda: pool._waiting == 1)
        pool.give_back(connection)
        assert waiting.result(PATIENCE) is connection


def test_who_waits_may_connect_when_one_is_discarded(open_pool: OpenConnections) -> None:
    pool = open_pool(1, wait=2 * PATIENCE)
    connection = pool.take()
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(pool.take)
        await_that(lambda: pool._waiting == 1)
        pool.discard(connection)
        assert not waiting.result(PATIENCE).reused


def test_many_threads_share_a_few(open_pool: OpenConnections, proxy: TcpProxy) -> None:
    pool = open_pool(3)
    users: set[int] = set()
    lock = threading.Lock()

    def use(number: int) -> None:
        for turn in range(50):
            connection = pool.take()
            with lock:
                assert id(connection) not in users
                users.add(id(connection))
            assert connection.stats()
            with lock:
                users.remove(id(connection))
            if (turn + number) % 10:
                pool.give_back(connection)
            else:
                pool.discard(connection)

    with ThreadPoolExecutor(10) as threads:
        for future in [threads.submit(use, number) for number in range(10)]:
            future.result()
    assert pool.connections <= 3
    assert proxy.accepted > 3


def test_a_failure_to_connect_leaves_room(open_pool: OpenConnections, proxy: TcpProxy) -> None:
    pool = open_pool(2)
    proxy.refuse()
    for _ in range(5):
        with pytest.raises(BackendUnavailable, match="no connection"):
            pool.take()
    assert pool.connections == 0
    proxy.accept()
    assert pool.take().stats()
    assert pool.take().stats()


def test_one_that_nobody_has_any_more_leaves_room(open_pool: OpenConnections) -> None:
    pool = open_pool(1)
    lost = weakref.ref(pool.take())
    assert lost() is None  # at once, and not when the garbage is collected
    gc.collect()  # an open socket would be reported here
    assert pool.take().stats()


def test_a_new_one_takes_the_place_of_all_whose_server_is_gone(open_pool: OpenConnections) -> None:
    pool = open_pool(3)
    taken = [pool.take() for _ in range(3)]
    for connection in taken[1:]:
        pool.give_back(connection)
    new = pool.take_new_instead(taken[0])
    assert new not in taken
    assert pool.connections == 1


def test_a_new_one_is_made_though_others_gave_back_old_ones(open_pool: OpenConnections) -> None:
    pool = open_pool(2)
    one, other = pool.take(), pool.take()
    pool.discard(one)
    pool.give_back(other)
    pool.give_back(pool._take_new())
    pool.give_back(other)
    new = pool._take_new()
    assert new is not other
    assert not new.reused


def test_it_sees_that_an_idle_one_was_closed(open_pool: OpenConnections, proxy: TcpProxy) -> None:
    pool = open_pool(2)
    connection = pool.take()
    pool.give_back(connection)
    assert pool.take_live() is connection
    pool.give_back(connection)
    proxy.cut()
    await_that(connection.readable)
    assert pool.take_live() is not connection


def test_what_is_owed_is_read_before_another_asks(
    open_pool: OpenConnections, server: MemcachedServer
) -> None:
    pool = open_pool(1)
    for take in (pool.take, pool.take_live):
        connection = pool.take_to_tell()
        connection.tell(b"ms k 1 c\r\nx\r\nmd k\r\n", 2)
        pool.give_back(connection)
        assert take() is connection
        assert connection.owed == 0
        assert connection.stats()
        pool.give_back(connection)


def test_what_is_owed_to_a_server_that_is_gone_is_forgotten(
    open_pool: OpenConnections, proxy: TcpProxy
) -> None:
    pool = open_pool(1)
    for take in (pool.take, pool.take_live, pool.take_to_tell):
        connection = pool.take_to_tell()
        connection.tell(b"md k\r\n", 1)
        await_that(connection.readable)
        pool.give_back(connection)
        proxy.cut()
        connection.owed += 1  # as if the last answer had not come before the end
        new = take()
        assert new is not connection
        assert new.stats()
        pool.give_back(new)


def test_one_that_owes_too_much_is_given_up(open_pool: OpenConnections, proxy: TcpProxy) -> None:
    pool = open_pool(1)
    first = pool.take()
    pool.give_back(first)
    proxy.fault = Fault(swallow_replies=True)
    for _ in range(10):
        connection = pool.take_to_tell()
        assert connection is first
        connection.tell(b"md k\r\n" * 10, 10)
        pool.give_back(connection)
    proxy.fault = WELL
    assert pool.take_to_tell() is not first


def test_it_can_be_closed_while_one_is_in_use(open_pool: OpenConnections) -> None:
    pool = open_pool(2)
    used, idle = pool.take(), pool.take()
    pool.give_back(idle)
    pool.close()
    assert pool.connections == 1
    assert used.stats()
    pool.give_back(used)
    assert pool.connections == 0


def test_a_child_closes_what_it_inherited_without_a_word(open_pool: OpenConnections, proxy: TcpProxy) -> None:
    pool = open_pool(2)
    used, idle = pool.take(), pool.take()
    pool.give_back(idle)
    said = proxy.requests

    def look() -> None:
        assert pool.connections == 0
        for inherited in (used, idle):
            with pytest.raises(BackendUnavailable):
                inherited.stats()
        new = pool.take()
        assert new not in (used, idle)
        assert new.stats()

    assert Child(lambda: None).join() == ""
    assert proxy.requests == said
    assert Child(look).join() == ""
    assert used.stats()
    assert pool.take() is idle
    assert idle.stats()


def test_a_child_does_not_wait_for_a_lock_of_its_parent(open_pool: OpenConnections) -> None:
    pool = open_pool(1)
    with pool._changed:
        child = Child(lambda: pool.take().stats())
    assert child.join() == ""
