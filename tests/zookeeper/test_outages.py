"""An ensemble loses servers, or its quorum: calls end in time, sessions are kept, nothing is left over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperEnsemble, expire
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.connection import State
from syncstore.zookeeper.errors import WatchTimeout, ZKUnavailable

LONG = 20.0
SLACK = 1.0  # for a machine that does other things, too


@pytest.fixture
def ensemble(zookeeper_ensemble: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    yield zookeeper_ensemble.start()
    for server in zookeeper_ensemble.servers:
        if server.alive:
            server.thaw()


@pytest.fixture
def ours(opened: Any, ensemble: ZooKeeperEnsemble) -> Clusters:
    clusters: Clusters = opened(ensemble.hosts, chroot=f"/{uuid4().hex}")
    return clusters


def test_killing_the_clients_server_is_not_noticed_by_readers(
    ours: Clusters, ensemble: ZooKeeperEnsemble
) -> None:
    with ours.acquire("main", LONG) as zk:
        session = zk.session_id
        zk.create("/lock", ephemeral=True)
        server = ensemble.server_of(session)
        while server.mode == "leader":  # that is the next test; let it be elected elsewhere
            server.restart()
            ensemble.await_serving()
            zk.exists("/lock", timeout=LONG)
            server = ensemble.server_of(session)

        server.kill9()

        begun = time.monotonic()
        found = zk.get("/lock")  # within op_timeout, 2 s
        assert time.monotonic() - begun < 2.0 + SLACK
        assert found.stat.owner == session == zk.session_id
        zk.set("/lock", b"still mine")
        assert zk.generation == 1


def test_killing_the_leader_keeps_the_session_and_its_nodes(
    ours: Clusters, ensemble: ZooKeeperEnsemble
) -> None:
    with ours.acquire("main", LONG) as zk:
        session = zk.session_id
        first = zk.create("/lock", ephemeral=True).stat.czxid
        ensemble.leader.kill9()
        begun = time.monotonic()
        number = 0
        while True:
            number += 1
            try:
                second = zk.create(f"/after-{number}", timeout=0.5).stat.czxid
                break
            except ZKUnavailable:
                assert time.monotonic() - begun < 3.0 + SLACK * 3
        assert zk.session_id == session
        assert zk.generation == 1
        assert zk.get("/lock").stat.owner == session
        assert second > first  # what fences go by grows over elections


@pytest.mark.parametrize("session_timeout", [1.5, pytest.param(4.0, marks=pytest.mark.soak)])
def test_without_a_quorum_every_call_ends_in_time_and_nothing_comes_later(
    opened: Any, ensemble: ZooKeeperEnsemble, session_timeout: float
) -> None:
    """Shorter than the outage and longer: the session is a new one, or the same."""
    ours: Clusters = opened(ensemble.hosts, chroot=f"/{uuid4().hex}", session_timeout=session_timeout)
    with ours.acquire("main", LONG) as zk:
        zk.ensure("/queue")
        zk.create("/there")
        seen = zk.watch("/there")
        quick = 0.1
        two = (ensemble.leader, ensemble.follower)
        for server in two:
            server.freeze()  # first frozen: requests that are sent now may yet be carried out
        late: list[Callable[[], object]] = [
            lambda: zk.create("/queue/c0ffee-", ephemeral=True, sequence=True, timeout=quick),
            lambda: zk.create("/queue/c0ffee", ephemeral=True, timeout=quick),
            lambda: zk.create("/queue/c0ffee-lasting-", sequence=True, timeout=quick),
        ]
        for call in late:
            ends_in_time(call, quick)
        for server in two:
            server.kill9()
        (alone,) = (server for server in ensemble.servers if server.alive)
        await_that(lambda: not alone.mode)  # it still answers readers until it knows
        await_that(lambda: zk.state is not State.CONNECTED)

        calls: list[Callable[[], object]] = [
            *late,
            lambda: zk.get("/there", timeout=quick),
            lambda: zk.exists("/there", timeout=quick),
            lambda: zk.children("/", timeout=quick),
            lambda: zk.set("/there", b"x", timeout=quick),
            lambda: zk.delete("/there", timeout=quick),
            lambda: zk.ensure("/a/b", timeout=quick),
            lambda: zk.sync(timeout=quick),
            lambda: zk.transaction([], timeout=quick),
            lambda: zk.watch("/there", timeout=quick),
            lambda: seen.wait(quick),
        ]
        for call in calls:
            ends_in_time(call, quick)
        seen.destroy()
    ends_in_time(lambda: ours.acquire("main", quick), quick)
    ends_in_time(lambda: ours.try_acquire("main"), 0)

    ensemble.start()

    with ours.acquire("main", LONG) as zk:
        back = time.monotonic()
        await_that(lambda: ours.status()["main"].doubtful == 0)
        zk.sync(timeout=LONG)
        await_that(lambda: zk.children("/queue", timeout=LONG) == [], 5.0 + SLACK)
        assert zk.exists("/there", timeout=LONG) is not None
        assert time.monotonic() - back < LONG


def ends_in_time(call: Callable[[], object], timeout: float) -> None:
    begun = time.monotonic()
    with pytest.raises((ZKUnavailable, WatchTimeout)):
        call()
    assert time.monotonic() - begun < timeout + SLACK


def test_a_new_session_is_made_when_nobody_was_reached_for_longer_than_the_old_lasts(
    opened: Any, ensemble: ZooKeeperEnsemble
) -> None:
    ours: Clusters = opened(ensemble.hosts, session_timeout=1.0)
    with ours.acquire("main", LONG) as zk:
        first = zk.session_id
    connection = ours["main"].connection
    assert connection is not None
    for server in ensemble.servers[:2]:
        server.kill9()
    await_that(lambda: connection.failed)
    assert connection.state is State.SUSPENDED

    with pytest.raises(ZKUnavailable):
        ours.acquire("main", 0.2)
    ensemble.start()
    with ours.acquire("main", LONG) as zk:
        assert (zk.generation, zk.session_id != first) == (2, True)


@pytest.mark.soak
def test_sixteen_threads_meet_nothing_but_unavailability_while_servers_restart(
    opened: Any, ensemble: ZooKeeperEnsemble
) -> None:
    threads_before, sockets_before = threading.active_count(), sockets()
    ours: Clusters = opened(ensemble.hosts, session_timeout=2.0, op_timeout=1.0)
    stop = threading.Event()
    strange: list[BaseException] = []
    done = [0] * 16

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                with ours.acquire("main") as zk:
                    name = f"w-{uuid4().hex}-"
                    try:
                        path = zk.create(f"/{name}", ephemeral=True, sequence=True).path
                        assert zk.get(path).stat.owner == zk.session_id
                        with ours.acquire("main") as nested:
                            nested.watch(path, "exists").destroy()
                        zk.delete(path)
                    except ZKUnavailable:
                        zk.reap("/", name)
                        raise
                done[number] += 1
            except ZKUnavailable:
                continue
            except BaseException as error:
                strange.append(error)
                return

    workers = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for worker in workers:
        worker.start()
    end = time.monotonic() + 20
    round_ = 0
    while time.monotonic() < end:
        ensemble.servers[round_ % 3].restart()
        ensemble.await_serving()
        if round_ % 4 == 3 and ours["main"].connection is not None:
            with suppress(LookupError):
                expire(ensemble.hosts, ours["main"])
        round_ += 1
    stop.set()
    for worker in workers:
        worker.join(LONG)
        assert not worker.is_alive()
    assert strange == []
    assert min(done) > 0
    await_that(lambda: ours.status()["main"].doubtful == 0, 60)
    await_that(lambda: ours.status()["main"].handles == 0)  # the reaper's is the last
    with ours.acquire("main", LONG) as zk:
        zk.sync()
        await_that(lambda: not [name for name in zk.children("/") if name.startswith("w")], 5.0)
    ours.close()
    await_that(lambda: threading.active_count() <= threads_before)
    await_that(lambda: sockets() <= sockets_before)


def sockets() -> int:
    return sum(
        1 for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and "socket" in str(fd.readlink())
    )
