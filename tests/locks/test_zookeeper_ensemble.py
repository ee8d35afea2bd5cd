"""Locks in an ensemble that loses its leader, or its quorum: nobody hangs, and nothing is left over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from uuid import uuid4

import pytest

from syncstore.errors import LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import Key, Locks
from syncstore.locks.zookeeper import ZooKeeperGrant, ZooKeeperLocks
from syncstore.locks.zookeeper_queue import directory_of
from syncstore.testing.lock_holder import OpenLocks
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_locks import open_zookeeper_locks
from syncstore.testing.zookeeper_servers import ZooKeeperEnsemble
from syncstore.zookeeper.errors import NoNode

LONG = 20.0
SLACK = 1.0
KEY: Key = (7, "bookmarks")


@pytest.fixture
def ensemble(zookeeper_ensemble: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    yield zookeeper_ensemble.start()
    for server in zookeeper_ensemble.servers:
        if server.alive:
            server.thaw()


@pytest.fixture
def open_here(ensemble: ZooKeeperEnsemble) -> OpenLocks:
    return partial(open_zookeeper_locks, ensemble.hosts, chroot=f"/{uuid4().hex}", session_timeout=3.0)


def backend(locks: Locks) -> ZooKeeperLocks:
    assert isinstance(locks.backend, ZooKeeperLocks)
    return locks.backend


def acquire(locks: Locks, timeout: float = LONG) -> ZooKeeperGrant:
    return backend(locks).acquire(KEY, "write", timeout)


def queued(locks: Locks) -> int:
    with backend(locks).cluster.acquire(LONG) as zk:
        zk.sync(timeout=LONG)
        try:
            return len(zk.children(directory_of(KEY), timeout=LONG))
        except NoNode:
            return 0


def test_a_lock_outlives_the_leader_and_the_next_number_is_greater(
    ours: Locks, others: Locks, ensemble: ZooKeeperEnsemble
) -> None:
    acquire(others).release()
    held = acquire(ours)
    ensemble.leader.kill9()
    with ThreadPoolExecutor(1) as thread:
        next_one = thread.submit(acquire, others)
        await_that(lambda: held.valid() and queued(ours) == 2)
        held.release()
        grant = next_one.result(LONG)
    assert grant.token > held.token
    assert grant.valid()
    grant.release()


@pytest.mark.parametrize("seconds", [3.0, pytest.param(10.0, marks=pytest.mark.soak)])
def test_without_a_quorum_all_end_in_time_and_all_contenders_are_gone_afterwards(
    ours: Locks, others: Locks, ensemble: ZooKeeperEnsemble, seconds: float
) -> None:
    acquire(others).release()
    held = acquire(ours)
    two = (ensemble.leader, ensemble.follower)
    for server in two:
        server.freeze()  # first, so that what is asked now is in their buffers
    gone = time.monotonic() + seconds

    def contend(locks: Locks) -> None:
        while time.monotonic() < gone:
            for timeout in (0.0, 0.5):
                began = time.monotonic()
                with pytest.raises((LockUnavailable, LockTimeout)):
                    acquire(locks, timeout)
                assert time.monotonic() - began < timeout + 0.2 + SLACK

    with ThreadPoolExecutor(4) as threads:
        contenders = [threads.submit(contend, locks) for locks in (ours, others, ours, others)]
        time.sleep(0.7)
        for server in two:
            server.kill9()
        await_that(lambda: not held.valid(), 3.0 + SLACK)
        for contender in contenders:
            contender.result(seconds + LONG)
        with pytest.raises(LockUnavailable):
            acquire(ours, 0.2)
    ensemble.start()

    assert queued(ours) >= 0  # waits until it is connected again
    await_that(lambda: queued(others) <= 1, 5.0 + SLACK)
    with suppress(LockLost):
        held.release()  # the session is still there if the servers have not noticed: they stood still as well
    grant = acquire(others)
    assert grant.valid()
    with pytest.raises(LockTimeout):
        acquire(ours, 0.5)
    grant.release()
    await_that(lambda: not queued(others), 5.0 + SLACK)
