"""The locks in a real ZooKeeper: every rule of locks, and sessions that end, connections that break, a server away."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from syncstore.errors import LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import Key, Locks, Mode
from syncstore.locks.zookeeper import ZooKeeperGrant, ZooKeeperLocks
from syncstore.locks.zookeeper_queue import ROOT, directory_of, number_of
from syncstore.testing.lock_conformance import LockConformance
from syncstore.testing.lock_holder import HolderProcess, HolderThread, OpenLocks
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.tcp_proxy import SILENT, WELL, Fault, TcpProxy
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_locks import open_zookeeper_locks
from syncstore.testing.zookeeper_servers import ZooKeeperServer, expire
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.connection import Connection, State
from syncstore.zookeeper.ensemble import Digest, Ensemble, parse_hosts
from syncstore.zookeeper.errors import NoNode
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.nodes import join

SESSION = 1.5
PATIENT = 3.0  # seconds of grace, for a machine that does other things, too
LONG = 20.0
SLACK = 1.0
KEY: Key = (7, "bookmarks")


class TestInZooKeeper(LockConformance):
    """With sessions that are long enough for a busy machine, and short enough to wait for their ends."""

    freed_after_death = freed_after_pause = SESSION + 1.0

    @pytest.fixture
    def open_locks(self, zookeeper_server: ZooKeeperServer) -> OpenLocks:
        chroot = f"/{uuid4().hex}"
        return partial(
            open_zookeeper_locks,
            zookeeper_server.hosts,
            chroot=chroot,
            session_timeout=SESSION,
            grace=PATIENT,
        )

    @pytest.fixture
    def open_unreachable_locks(self) -> OpenLocks:
        return partial(open_zookeeper_locks, f"{HOST}:{free_port()}")


# -- one lock, looked at closely


@pytest.fixture
def chroot() -> str:
    return f"/{uuid4().hex}"


@pytest.fixture
def open_here(zookeeper_server: ZooKeeperServer, chroot: str) -> OpenLocks:
    return partial(
        open_zookeeper_locks, zookeeper_server.hosts, chroot=chroot, session_timeout=SESSION, grace=PATIENT
    )


def backend(locks: Locks) -> ZooKeeperLocks:
    assert isinstance(locks.backend, ZooKeeperLocks)
    return locks.backend


def acquire(locks: Locks, mode: Mode = "write", timeout: float = LONG, key: Key = KEY) -> ZooKeeperGrant:
    return backend(locks).acquire(key, mode, timeout)


def children(locks: Locks, path: str) -> list[str]:
    with backend(locks).cluster.acquire(LONG) as zk:
        zk.sync(timeout=LONG)
        try:
            return sorted(zk.children(path, timeout=LONG))
        except NoNode:
            return []


def queued(locks: Locks, key: Key = KEY) -> int:
    return len(children(locks, directory_of(key)))


def directories(locks: Locks) -> list[str]:
    return [name for folder in children(locks, ROOT) for name in children(locks, join(ROOT, folder))]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of requests that are sent from now on."""
    sent: list[str] = []
    call = Connection.call

    def counted(self: Connection, request: Any, *arguments: Any, **more: Any) -> Any:
        sent.append(type(request).__name__)
        return call(self, request, *arguments, **more)

    monkeypatch.setattr(Connection, "call", counted)
    return sent


def test_an_undisturbed_lock_costs_three_round_trips_and_leaves_nothing(
    ours: Locks, calls: list[str]
) -> None:
    acquire(ours).release()  # the folders above
    calls.clear()
    with ours.write(*KEY):
        assert calls == ["Create", "Create2"]
        assert queued(ours) == 1
        calls.clear()
    assert calls == ["Transaction"]
    assert directories(ours) == []


def test_the_number_of_a_grant_grows_also_when_the_directory_is_new(ours: Locks, others: Locks) -> None:
    tokens = []
    for locks in (ours, others, ours):
        with locks.write(*KEY) as handle:
            tokens.append(handle.token)
        assert directories(ours) == []
    assert tokens == sorted(set(tokens))


def test_each_collection_of_each_user_is_a_lock_of_its_own(ours: Locks, others: Locks) -> None:
    with ours.write(7, "a"), others.write(7, "a.", 0), others.write(7, "b", 0), others.write(8, "a", 0):
        assert sorted(directories(ours)) == ["7-a", "7-a.", "7-b", "8-a"]


def test_those_who_wait_are_served_in_the_order_in_which_they_came(ours: Locks, others: Locks) -> None:
    served: list[int] = []

    def wait(number: int) -> None:
        with (ours if number % 2 else others).write(*KEY, LONG):
            served.append(number)

    threads = []
    with ours.write(*KEY):
        for number in range(8):
            threads.append(threading.Thread(target=wait, args=(number,)))
            threads[-1].start()
            await_that(lambda: queued(ours) == len(threads) + 1)
    for thread in threads:
        thread.join(LONG)
    assert served == list(range(8))
    await_that(lambda: directories(ours) == [])


def test_only_the_next_one_wakes(ours: Locks, others: Locks, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        holder = acquire(others)
        waiters = [stack.enter_context(HolderThread(ours)) for _ in range(6)]
        for place, waiter in enumerate(waiters):
            waiter.begin_to_enter("write", *KEY, LONG)
            await_that(lambda place=place: queued(others) == place + 2)  # type: ignore[misc]  # a default
        await_that(lambda: backend(ours).cluster.status().watches == 6)
        looks: list[str] = []
        look = Handle.children

        def counted(self: Handle, path: str, timeout: float | None = None) -> list[str]:
            looks.append(path)
            return look(self, path, timeout)

        monkeypatch.setattr(Handle, "children", counted)
        holder.release()
        assert waiters[0].outcome() == "held"
        assert looks == [directory_of(KEY)]
        for waiter, after in itertools.pairwise(waiters):
            assert after.waits(0.0)
            assert waiter.leave() == "left"
            assert after.outcome() == "held"
        assert len(looks) == 6
        waiters[-1].leave()


def test_readers_enter_together_and_wait_for_a_writer_who_came_before(ours: Locks, others: Locks) -> None:
    with HolderThread(ours) as writer, HolderThread(others) as reader:
        first, second = acquire(ours, "read"), acquire(others, "read")
        writer.begin_to_enter("write", *KEY, LONG)
        await_that(lambda: queued(ours) == 3)
        with pytest.raises(LockTimeout):
            acquire(others, "read", 0)
        reader.begin_to_enter("read", *KEY, LONG)
        await_that(lambda: queued(ours) == 4)
        first.release()
        assert writer.waits(0.1)
        second.release()
        assert writer.outcome() == "held"
        assert reader.waits(0.1)
        assert writer.leave() == "left"
        assert reader.outcome() == "held"


def test_who_finds_the_one_before_gone_leaves_no_watch_on_the_server(
    ours: Locks, others: Locks, zookeeper_server: ZooKeeperServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [acquire(others)]
    before = zookeeper_server.ask("wchs")
    watch = Handle.watch

    def too_late(self: Handle, *arguments: Any, **more: Any) -> Any:
        if held:
            held.pop().release()
        return watch(self, *arguments, **more)

    monkeypatch.setattr(Handle, "watch", too_late)
    acquire(ours).release()
    assert not held
    assert zookeeper_server.ask("wchs") == before


@pytest.mark.parametrize("timeout", [0.0, 0.2])
def test_who_gave_up_leaves_nothing_and_is_in_nobodys_way(ours: Locks, others: Locks, timeout: float) -> None:
    held = acquire(ours)
    for _ in range(3):
        with pytest.raises(LockTimeout):
            acquire(others, timeout=timeout)
        assert queued(ours) == 1
    held.release()
    acquire(others, timeout=0).release()
    assert directories(ours) == []


def test_a_directory_that_is_given_up_by_two_at_once_is_removed(
    ours: Locks, others: Locks, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = acquire(ours)
    transaction = Handle.transaction

    def the_other_leaves(self: Handle, *arguments: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(Handle, "transaction", transaction)
            with HolderThread(others) as other:
                other.begin_to_enter("write", *KEY, 0.5)
                await_that(lambda: queued(others) == 2)
                try:
                    return transaction(self, *arguments)
                finally:
                    assert other.outcome() == "LockTimeout"

    monkeypatch.setattr(Handle, "transaction", the_other_leaves)
    held.release()
    assert directories(ours) == []


@pytest.mark.parametrize("mode", ["write", "read"])
def test_a_release_has_one_deadline_for_all_of_it(
    ours: Locks, others: Locks, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HolderThread(others) as waiter:
        held = [acquire(ours, mode)]
        if mode == "read":
            held.append(acquire(ours, mode))  # which is not the first
        waiter.begin_to_enter("write", *KEY, LONG)
        await_that(lambda: queued(ours) == len(held) + 1)
        deadlines: list[float] = []
        call = Connection.call

        def slow(self: Connection, request: Any, path: str, deadline: float, **more: Any) -> Any:
            if threading.current_thread() is threading.main_thread():
                deadlines.append(deadline)
                time.sleep(0.2)
            return call(self, request, path, deadline, **more)

        monkeypatch.setattr(Connection, "call", slow)
        begun = time.monotonic()
        held[-1].release()
        monkeypatch.setattr(Connection, "call", call)
        assert len(deadlines) > 1
        assert max(deadlines) - begun < 1.15
        for one in held[:-1]:
            one.release()
        assert waiter.outcome() == "held"


# -- a session that ends


def test_a_holder_whose_session_expired_knows_and_takes_nothing_from_the_next_one(
    ours: Locks, others: Locks, zookeeper_server: ZooKeeperServer
) -> None:
    for _ in range(3):
        with ours.write(*KEY, LONG) as handle:
            assert handle.valid()
            expire(zookeeper_server.hosts, backend(ours).cluster)
            held = acquire(others)  # at once: ZooKeeper has removed the node
            await_that(lambda: not handle.valid())
            with pytest.raises(LockLost):
                handle.check()
        assert ours.lost_at_release > 0
        with pytest.raises(LockTimeout):
            acquire(ours, timeout=0)
        assert held.valid()
        assert queued(others) == 1
        held.release()
    assert ours.lost_at_release == 3
    assert others.lost_at_release == 0


def test_a_holder_who_has_heard_nothing_for_long_does_not_believe_in_its_lock(
    zookeeper_server: ZooKeeperServer, chroot: str
) -> None:
    """It woke up just now, and has not noticed that the servers have hung up."""
    with open_zookeeper_locks(zookeeper_server.hosts, chroot=chroot, session_timeout=20.0) as locks:
        held = acquire(locks)
        connection = backend(locks).cluster.connection
        assert connection is not None
        assert held.valid()
        answered = connection.client.proof
        connection.client.proof = answered - 20.0 * 2 / 3
        assert connection.state is State.CONNECTED
        assert not held.valid()
        with backend(locks).cluster.acquire(LONG) as zk:
            zk.exists("/")  # an answer says that the session lives
        assert held.valid()


def test_who_waits_through_the_end_of_its_session_queues_again(
    ours: Locks, others: Locks, zookeeper_server: ZooKeeperServer
) -> None:
    with HolderThread(ours) as waiter:
        held = acquire(others)
        waiter.begin_to_enter("write", *KEY, LONG)
        await_that(lambda: queued(others) == 2)
        expire(zookeeper_server.hosts, backend(ours).cluster)
        await_that(lambda: backend(ours).cluster.status().generation == 2)
        await_that(lambda: queued(others) == 2)
        assert waiter.waits(0.0)
        held.release()
        assert waiter.outcome() == "held"
        assert queued(others) == 1


def test_a_node_that_somebody_removed_is_made_again_by_who_waits_and_missed_by_who_holds(
    ours: Locks, others: Locks
) -> None:
    held = acquire(ours)
    with backend(others).cluster.acquire(LONG) as zk, HolderThread(ours) as waiter:
        waiter.begin_to_enter("write", *KEY, LONG)
        await_that(lambda: queued(others) == 2)
        for name in sorted(zk.children(directory_of(KEY)), key=number_of, reverse=True):
            zk.delete(join(directory_of(KEY), name))
        assert waiter.outcome() == "held"
        with pytest.raises(LockLost, match="somebody has removed"):
            held.release()
        assert queued(others) == 1


def test_a_child_neither_holds_nor_ends_its_parents_locks(ours: Locks, others: Locks) -> None:
    with ours.write(*KEY) as handle:
        pid = os.fork()
        if pid == 0:
            try:
                lost = not handle.valid()
                handle.__exit__(None, None, None)
                with ours.write(8, "of the child", LONG) as own:
                    fine = lost and own.valid()
                try:
                    ours.write(*KEY, 0)
                except LockTimeout:
                    os._exit(0 if fine else 3)
                os._exit(4)
            finally:
                os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert handle.valid()
        with pytest.raises(LockTimeout):
            acquire(others, timeout=0.1)
    assert ours.lost_at_release == 0


# -- answers that get lost, connections that break


@pytest.fixture
def proxy(zookeeper_server: ZooKeeperServer) -> Iterator[TcpProxy]:
    with TcpProxy(zookeeper_server.port) as running:
        yield running


@pytest.fixture
def behind(proxy: TcpProxy, chroot: str) -> Iterator[Locks]:
    """Locks of a process whose connection goes through the proxy."""
    with open_zookeeper_locks(proxy.address, chroot=chroot, session_timeout=SESSION) as locks:
        acquire(locks, key=(1, "warm")).release()
        yield locks


class Breaking:
    """Breaks the connection after the first request of a kind was carried out, before its answer arrives."""

    def __init__(self, proxy: TcpProxy, others: Locks, kind: str, patched: pytest.MonkeyPatch) -> None:
        self.proxy, self.others, self.kind = proxy, others, kind
        self.happened = threading.Event()
        ask = Connection.call

        def call(connection: Connection, request: Any, *arguments: Any, **more: Any) -> Any:
            if type(request).__name__ == kind and not self.happened.is_set():
                self.happened.set()
                proxy.fault = Fault(swallow_replies=True)
                threading.Timer(0.1, self.cut).start()
            return ask(connection, request, *arguments, **more)

        patched.setattr(Connection, "call", call)

    def cut(self) -> None:
        self.proxy.fault = WELL
        self.proxy.cut()


@pytest.mark.parametrize("kind", ["Create", "Create2"])
def test_a_node_whose_making_was_not_answered_is_replaced_and_removed(
    behind: Locks, others: Locks, proxy: TcpProxy, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = Breaking(proxy, others, kind, monkeypatch)
    held = acquire(behind)
    assert breaking.happened.is_set()
    assert held.valid()
    await_that(lambda: queued(others) == 1)
    with pytest.raises(LockTimeout):
        acquire(others, timeout=0)
    await_that(lambda: backend(behind).cluster.status().doubtful == 0)
    assert queued(others) == 1
    held.release()
    acquire(others).release()


def test_who_waits_keeps_its_place_when_its_connection_breaks(
    behind: Locks, others: Locks, proxy: TcpProxy
) -> None:
    with HolderThread(behind) as waiter:
        held = acquire(others)
        waiter.begin_to_enter("write", *KEY, LONG)
        await_that(lambda: queued(others) == 2)
        before = children(others, directory_of(KEY))
        proxy.cut()
        await_that(lambda: proxy.connections)
        held.release()
        assert waiter.outcome() == "held"
        assert children(others, directory_of(KEY)) == before[1:] or len(before) == 2
        assert queued(others) == 1


def test_a_holder_without_a_connection_does_not_believe_in_its_lock_until_it_is_back(
    proxy: TcpProxy, chroot: str
) -> None:
    with open_zookeeper_locks(proxy.address, chroot=chroot, session_timeout=20.0) as locks:
        held = acquire(locks)
        connection = backend(locks).cluster.connection
        assert connection is not None
        proxy.refuse()
        proxy.cut()
        await_that(lambda: connection.state is State.SUSPENDED)
        assert time.monotonic() - connection.proof < 10
        assert not held.valid()
        proxy.accept()
        await_that(held.valid)
        held.release()


def test_what_is_given_up_without_a_connection_is_removed_when_it_is_back(
    proxy: TcpProxy, chroot: str, others: Locks
) -> None:
    """By a process whose session goes on, so that nobody else removes it."""
    with (
        open_zookeeper_locks(proxy.address, chroot=chroot, session_timeout=20.0) as locks,
        HolderThread(locks) as waiter,
    ):
        held = acquire(locks)
        waiter.begin_to_enter("write", *KEY, 2.0)
        await_that(lambda: queued(others) == 2)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(LockUnavailable):
            held.release()
        assert waiter.outcome() == "LockUnavailable"
        assert queued(others) == 2
        proxy.accept()
        await_that(lambda: queued(others) == 0)
        assert backend(locks).cluster.status().generation == 1


def test_a_release_that_was_not_answered_leaves_nothing(
    behind: Locks, others: Locks, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with behind.write(*KEY, LONG):
        Breaking(proxy, others, "Transaction", monkeypatch)
    assert behind.lost_at_release == 1
    acquire(others).release()
    await_that(lambda: backend(behind).cluster.status().doubtful == 0)
    assert queued(others) == 0


def test_a_process_that_is_cut_off_loses_its_lock_and_says_so_before_others_have_it(
    behind: Locks, others: Locks, proxy: TcpProxy
) -> None:
    held = acquire(behind)
    proxy.fault = SILENT
    with HolderThread(others) as other:
        other.begin_to_enter("write", *KEY, LONG)
        await_that(lambda: not held.valid())
        assert other.waits(0.0)
        assert other.outcome() == "held"
        proxy.fault = WELL
        proxy.cut()
        with pytest.raises((LockLost, LockUnavailable)):
            held.release()
        await_that(lambda: backend(behind).cluster.status().doubtful == 0)
        assert queued(others) == 1


# -- a server that is away


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    """One that tests may mistreat."""
    with started(ZooKeeperServer) as running:
        yield running


@pytest.fixture
def open_there(server: ZooKeeperServer, chroot: str) -> OpenLocks:
    if not server.alive:
        server.start()
    return partial(open_zookeeper_locks, server.hosts, chroot=chroot, session_timeout=SESSION)


@pytest.mark.parametrize("trouble", ["freeze", pytest.param("kill9", marks=pytest.mark.soak)])
def test_a_service_that_is_away_is_unavailable_in_time_and_serves_again_when_it_is_back(
    open_there: OpenLocks, server: ZooKeeperServer, trouble: str
) -> None:
    with open_there() as locks, HolderThread(locks) as waiter:
        acquire(locks, key=(1, "warm")).release()
        holder = acquire(locks)
        waiter.begin_to_enter("write", *KEY, 1.0)  # who waits when it happens is told in time, too
        await_that(lambda: queued(locks) == 2)
        getattr(server, trouble)()
        for timeout in (0.0, 0.3):
            began = time.monotonic()
            with pytest.raises(LockUnavailable):
                acquire(locks, timeout=timeout)
            assert time.monotonic() - began < timeout + 0.2 + SLACK
        assert waiter.outcome(5.0) == "LockUnavailable"
        began = time.monotonic()
        with pytest.raises(LockUnavailable):
            holder.release()
        assert time.monotonic() - began < 1.0 + SLACK
        if trouble == "freeze":
            server.thaw()
        else:
            server.start()
        acquire(locks).release()
        await_that(lambda: backend(locks).cluster.status().doubtful == 0)
        assert queued(locks) == 0


def test_an_outage_at_release_masks_neither_an_exception_nor_a_result(
    open_there: OpenLocks, server: ZooKeeperServer
) -> None:
    error = ZeroDivisionError("mine")

    def fail(locks: Locks) -> None:
        with locks.write(*KEY, LONG):
            server.kill9()
            raise error

    with open_there() as locks:
        with pytest.raises(ZeroDivisionError) as caught:
            fail(locks)
        assert caught.value is error
        assert locks.lost_at_release == 1
        server.start()


# -- what is left behind


def test_a_backend_that_is_closed_ends_its_session_and_its_threads(
    open_here: OpenLocks, others: Locks
) -> None:
    acquire(others, key=(1, "warm")).release()
    before = set(threading.enumerate())
    with open_here() as locks:
        acquire(locks)
        assert set(threading.enumerate()) - before
    assert acquire(others, timeout=0).valid()  # which is not held until a session times out
    await_that(lambda: not set(threading.enumerate()) - before)
    with pytest.raises(LockUnavailable):
        acquire(locks, timeout=0)


def test_what_dead_holders_leave_is_swept_and_nothing_else(open_here: OpenLocks, ours: Locks) -> None:
    with HolderProcess(open_here) as process:
        for uid in range(20):
            assert process.enter("write", uid + 100, "col", LONG) == "held"
        process.kill9()
    held = acquire(ours)
    await_that(lambda: all(queued(ours, (uid + 100, "col")) == 0 for uid in range(20)))
    assert len(directories(ours)) == 21
    assert sum(ours.sweep()) == 20
    assert directories(ours) == ["7-bookmarks"]
    assert held.valid()
    assert len(children(ours, ROOT)) == 1
    held.release()
    assert sum(ours.sweep()) == 0
    assert children(ours, ROOT) == []
    with ours.write(*KEY):
        """All of it is made again."""


def test_a_sweep_of_what_is_not_ours_is_unavailable(
    zookeeper_server: ZooKeeperServer, chroot: str, ours: Locks
) -> None:
    auth = Digest("me", "s3cret")
    theirs = Clusters([Ensemble("theirs", parse_hosts(zookeeper_server.hosts), chroot=chroot, auth=auth)])
    with closing(theirs), theirs.acquire("theirs", LONG) as zk:
        zk.ensure(ROOT)
    with pytest.raises(LockUnavailable, match="access list"):
        list(ours.sweep())
    with pytest.raises(LockUnavailable, match="access list"):
        acquire(ours, timeout=0.5)


def test_a_sweep_beside_those_who_lock_is_not_noticed(ours: Locks, others: Locks) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            for _ in others.sweep():
                pass

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(100):
            with ours.write(*KEY, LONG), ours.write(8, "other", LONG):
                pass
    finally:
        stop.set()
        sweeper.join(LONG)
    assert ours.lost_at_release == 0


@pytest.mark.soak
def test_ten_thousand_users_leave_less_than_a_hundred_directories(ours: Locks) -> None:
    for uid in range(10_000):
        with ours.write(uid, "col", LONG):
            pass
    for _ in ours.sweep():
        pass
    assert len(directories(ours)) + len(children(ours, ROOT)) < 100


@pytest.mark.soak
def test_a_thousand_late_releases_take_nothing_from_anybody(
    ours: Locks, others: Locks, zookeeper_server: ZooKeeperServer
) -> None:
    grants = [acquire(ours, key=(uid, "col")) for uid in range(1000)]
    expire(zookeeper_server.hosts, backend(ours).cluster)
    held = [acquire(others, key=(uid, "col")) for uid in range(1000)]
    for grant in grants:
        with pytest.raises((LockLost, LockUnavailable)):
            grant.release()
    await_that(lambda: backend(ours).cluster.status().doubtful == 0, 60)
    for grant in held:
        grant.release()  # raises if it is gone
