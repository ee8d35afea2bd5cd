"""The locks in a real memcached: every rule of locks, and a server that forgets, freezes, dies or fills up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import pytest

from syncstore.errors import LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import Locks, Mode
from syncstore.testing.cache_locks import open_memcached_locks
from syncstore.testing.lock_conformance import PATIENCE, LockConformance
from syncstore.testing.lock_holder import HolderProcess, OpenLocks
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import MemcachedServer

TTL = 5.0
LATE = 2.5  # seconds that memcached may keep a value longer than it was told, and some for a busy machine
ANSWER = 0.3


class TestInMemcached(LockConformance):
    """With leases that are long enough for every test that holds one, and short enough to wait for their ends."""

    freed_after_death = freed_after_pause = TTL + LATE
    shared_reads = True

    @pytest.fixture
    def open_locks(self, memcached_server: MemcachedServer) -> OpenLocks:
        return partial(
            open_memcached_locks, memcached_server.address, ttl=TTL, shared_reads=self.shared_reads
        )

    @pytest.fixture
    def open_unreachable_locks(self) -> OpenLocks:
        return partial(open_memcached_locks, f"{HOST}:{free_port()}", shared_reads=self.shared_reads)


@pytest.mark.soak
class TestInMemcachedWithoutSharedReads(TestInMemcached):
    """The same record with every mode exclusive, and so a soak."""

    shared_reads = False
    readers_share = False
    readers_let_writers_in = False


# -- a server of our own, which can be mistreated


@pytest.fixture(scope="module")
def server() -> Iterator[MemcachedServer]:
    with started(partial(MemcachedServer, memory=2)) as server:
        yield server


@pytest.fixture
def healthy(server: MemcachedServer) -> MemcachedServer:
    """The server, started anew: memcached is empty at each start."""
    return server.restart()


@pytest.fixture
def open_here(healthy: MemcachedServer) -> OpenLocks:
    return partial(open_memcached_locks, healthy.address, answer_timeout=ANSWER)


def flush(server: MemcachedServer) -> None:
    with server.connect(5.0) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(64) == b"OK\r\n"


def crash(server: MemcachedServer) -> None:
    server.kill9()
    server.start()


def fill(server: MemcachedServer) -> None:
    """Store small values, of the size class of lock records among them, until it evicts a lot."""
    with server.connect(20.0) as connection, connection.makefile("rb") as answers:
        for start in range(0, 60_000, 500):
            many = range(start, start + 500)
            connection.sendall(b"".join(b"set fill%d 0 0 44\r\n%044d\r\n" % (one, one) for one in many))
            for _ in many:
                answers.readline()
        connection.sendall(b"stats\r\n")
        stats = dict(line.split()[1:3] for line in iter(answers.readline, b"END\r\n"))
    assert int(stats[b"evictions"]) > 10_000


@pytest.mark.parametrize("forget", [flush, crash, fill])
@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_holder_whose_lock_was_forgotten_disturbs_nobody_and_counts_it(
    ours: Locks, others: Locks, healthy: MemcachedServer, mode: Mode, forget: object
) -> None:
    assert callable(forget)
    forgotten = ours.backend.acquire((7, "col"), mode, 0)
    forget(healthy)
    with others.write(7, "col", PATIENCE) as handle:
        with pytest.raises(LockLost):
            forgotten.release()
        with pytest.raises(LockTimeout):
            ours.write(7, "col", 0.1)
        assert handle.valid()
    assert others.lost_at_release == 0
    with ours.write(7, "col"):
        """It is free."""


def test_a_frozen_server_is_unavailable_in_time_and_its_thaw_brings_no_second_holder(
    ours: Locks, others: Locks, healthy: MemcachedServer
) -> None:
    with ours.write(7, "warm"), others.write(8, "warm"):
        """Both are connected."""
    healthy.freeze()
    began = time.monotonic()
    with pytest.raises(LockUnavailable):
        ours.write(7, "col", 1.0)
    assert time.monotonic() - began < 1.0 + 4 * ANSWER + 0.5
    healthy.thaw()
    held = 0
    for locks in (others, ours):  # the request of the frozen time may have been carried out by now, or not
        with suppress(LockTimeout):
            locks.write(7, "col", 0.3).__enter__()
            held += 1
    assert held == 1


def test_a_dead_server_at_release_masks_nothing_and_the_next_one_serves_at_once(
    ours: Locks, healthy: MemcachedServer
) -> None:
    handle = ours.write(7, "col").__enter__()
    healthy.kill9()
    handle.__exit__(None, None, None)
    assert ours.lost_at_release == 1
    with pytest.raises(LockUnavailable):
        ours.write(7, "col", 1.0)
    healthy.start()
    with ours.write(7, "col", 1.0):
        """No restart of ours is needed."""


def test_a_server_that_restarts_while_others_wait_serves_them(
    ours: Locks, others: Locks, healthy: MemcachedServer
) -> None:
    handle = ours.write(7, "col").__enter__()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(others.backend.acquire, (7, "col"), "write", PATIENCE)
        time.sleep(0.1)  # so that it waits; if it does not yet the test proves less and holds
        crash(healthy)
        with suppress(LockUnavailable):  # when it asked in the moment that nobody was there
            waiting.result(PATIENCE).release()
    handle.__exit__(None, None, None)
    assert ours.lost_at_release == 1


def test_a_process_that_waits_gets_the_lock_of_a_server_that_was_emptied(
    open_here: OpenLocks, healthy: MemcachedServer
) -> None:
    with HolderProcess(open_here) as one, HolderProcess(open_here) as two:
        assert one.enter("write", 7) == "held"
        two.begin_to_enter("write", 7, "col", PATIENCE)
        assert two.waits(0.2)
        flush(healthy)
        assert two.outcome() == "held"
        assert one.leave() == "left"
        assert one.enter("write", 7) == "LockTimeout"
        assert two.leave() == "left"
        assert one.enter("write", 7, timeout=PATIENCE) == "held"
