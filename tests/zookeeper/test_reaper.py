"""What a call creates after its caller has left is removed, and nothing else is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl

from syncstore.testing.plugin import started
from syncstore.testing.tcp_proxy import WELL, Fault, TcpProxy
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.connection import State
from syncstore.zookeeper.errors import NodeExists, ZKTimeout, ZKUnavailable
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.nodes import Stat
from syncstore.zookeeper.reaper import Reaper, _Job

LONG = 20.0
NO_ANSWERS = Fault(swallow_replies=True)


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    """One that tests may freeze."""
    with started(ZooKeeperServer) as running:
        yield running


@pytest.fixture
def chroot() -> str:
    return f"/{uuid4().hex}"


@pytest.fixture
def proxy(server: ZooKeeperServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as running:
        yield running


@pytest.fixture
def ours(opened: Any, proxy: TcpProxy, chroot: str) -> Clusters:
    """Through the proxy."""
    clusters: Clusters = opened(proxy.address, chroot=chroot, session_timeout=1.0)
    return clusters


@pytest.fixture
def patient(opened: Any, server: ZooKeeperServer, chroot: str) -> Clusters:
    """Whose connection outlasts a frozen server."""
    clusters: Clusters = opened(server.hosts, chroot=chroot, session_timeout=20.0)
    return clusters


@pytest.fixture
def others(opened: Any, server: ZooKeeperServer, chroot: str) -> Clusters:
    """On the same server, past the proxy."""
    clusters: Clusters = opened(server.hosts, chroot=chroot, session_timeout=20.0)
    return clusters


def names(clusters: Clusters) -> list[str]:
    with clusters.acquire("main", LONG) as zk:
        zk.sync(timeout=LONG)
        return sorted(zk.children("/", timeout=LONG))


def reaped(clusters: Clusters) -> bool:
    return clusters.status()["main"].doubtful == 0


EACH = pytest.mark.parametrize(
    "facts",
    [
        {"ephemeral": True, "sequence": True},
        {"ephemeral": True},
        {"unique": True},
        {"sequence": True},
    ],
    ids=str,
)


@EACH
def test_what_a_frozen_server_creates_late_is_removed(
    patient: Clusters, server: ZooKeeperServer, facts: dict[str, Any]
) -> None:
    with patient.acquire("main", LONG) as zk:
        zk.create("/stays")
        server.freeze()
        try:
            with pytest.raises(ZKTimeout) as caught:
                zk.create("/c0ffee-", timeout=0.2, **facts)
            assert caught.value.maybe_done
        finally:
            server.thaw()
    await_that(lambda: reaped(patient))
    assert names(patient) == ["stays"]


@EACH
def test_what_was_created_on_a_connection_that_broke_is_removed(
    ours: Clusters, others: Clusters, proxy: TcpProxy, facts: dict[str, Any]
) -> None:
    with ours.acquire("main", LONG) as zk:
        session = zk.session_id
        proxy.fault = NO_ANSWERS
        with pytest.raises(ZKUnavailable):
            zk.create("/c0ffee-", timeout=0.2, **facts)
        await_that(lambda: len(names(others)) == 1)
        proxy.fault = WELL
        proxy.cut()
        await_that(lambda: names(others) == [])
        assert zk.session_id == session
    await_that(lambda: reaped(ours))
    assert names(others) == []


@EACH
def test_what_was_created_before_its_connection_broke_is_removed(
    ours: Clusters, others: Clusters, proxy: TcpProxy, facts: dict[str, Any]
) -> None:
    """The call ends by the loss of the connection, and not by its deadline."""
    with ours.acquire("main", LONG) as zk:
        proxy.fault = NO_ANSWERS

        def break_it() -> None:
            await_that(lambda: len(names(others)) == 1)
            proxy.fault = WELL
            proxy.cut()

        breaker = threading.Thread(target=break_it)
        breaker.start()
        with pytest.raises(ZKUnavailable, match="the connection broke") as caught:
            zk.create("/c0ffee-", timeout=LONG, **facts)
        breaker.join(LONG)
        assert caught.value.maybe_done
    await_that(lambda: reaped(ours))
    assert names(others) == []


def test_a_lasting_node_that_is_told_of_late_is_removed(patient: Clusters, server: ZooKeeperServer) -> None:
    with patient.acquire("main", LONG) as zk:
        server.freeze()
        try:
            with pytest.raises(ZKTimeout):
                zk.create("/plain", timeout=0.2)
        finally:
            server.thaw()
    await_that(lambda: reaped(patient))
    assert names(patient) == []


def test_a_lasting_node_that_may_be_anybodys_stays(ours: Clusters, others: Clusters, proxy: TcpProxy) -> None:
    with ours.acquire("main", LONG) as zk:
        proxy.fault = NO_ANSWERS
        with pytest.raises(ZKUnavailable):
            zk.create("/plain", timeout=0.2)
        proxy.fault = WELL
        proxy.cut()
        await_that(lambda: reaped(ours))
        assert zk.exists("/plain", timeout=LONG) is not None
    assert names(others) == ["plain"]


def test_an_ephemeral_node_of_another_session_stays(
    ours: Clusters, others: Clusters, proxy: TcpProxy
) -> None:
    with others.acquire("main", LONG) as theirs, ours.acquire("main", LONG) as zk:
        proxy.fault = Fault(swallow_requests=True)
        with pytest.raises(ZKUnavailable):
            zk.create("/wanted", ephemeral=True, timeout=0.2)
        made = theirs.create("/wanted", ephemeral=True)
        proxy.fault = WELL
        proxy.cut()
        await_that(lambda: reaped(ours))
        assert theirs.exists("/wanted") == made.stat


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_node_that_the_caller_then_knows_of_stays(ours: Clusters, proxy: TcpProxy, succeeds: bool) -> None:
    with ours.acquire("main", LONG) as zk:
        proxy.fault = Fault(swallow_requests=True) if succeeds else NO_ANSWERS
        with pytest.raises(ZKUnavailable):
            zk.create("/mine", ephemeral=True, timeout=0.2)
        proxy.fault = WELL
        proxy.cut()
        again(zk, "/mine")
        await_that(lambda: reaped(ours))
        assert zk.exists("/mine", timeout=LONG) is not None


def test_a_second_attempt_that_is_not_sent_does_not_save_the_first(
    ours: Clusters, others: Clusters, proxy: TcpProxy
) -> None:
    with ours.acquire("main", LONG) as zk:
        connection = ours["main"].connection
        assert connection is not None
        proxy.fault = NO_ANSWERS
        with pytest.raises(ZKUnavailable):
            zk.create("/mine", ephemeral=True, timeout=0.2)
        await_that(lambda: names(others) == ["mine"])
        proxy.refuse()
        proxy.cut()
        await_that(lambda: connection.state is State.SUSPENDED)
        with pytest.raises(ZKUnavailable):
            zk.create("/mine", ephemeral=True, timeout=0)
    proxy.fault = WELL
    proxy.accept()
    await_that(lambda: names(others) == [])


def again(zk: Handle, path: str) -> None:
    while True:
        try:
            zk.create(path, ephemeral=True, timeout=LONG)
        except NodeExists:
            return
        except ZKUnavailable:  # sent just before the cut was noticed
            continue
        return


def test_what_is_given_up_is_removed_by_its_name(clusters: Clusters) -> None:
    with clusters.acquire("main", LONG) as zk:
        zk.ensure("/queue")
        for name in ("c0ffee-w-", "c0ffee-r-", "decaf-w-"):
            zk.create(f"/queue/{name}", ephemeral=True, sequence=True)
        zk.reap("/queue", "c0ffee-")
        await_that(lambda: len(zk.children("/queue")) == 1)
        assert zk.children("/queue")[0].startswith("decaf-")


def test_what_cannot_be_looked_for_keeps_nothing_else_waiting(
    opened: Any, server: ZooKeeperServer, chroot: str
) -> None:
    ours: Clusters = opened(server.hosts, chroot=chroot, session_timeout=1.0)
    with ours.acquire("main", LONG) as zk:
        zk.ensure("/queue")
        zk.create("/queue/c0ffee-", ephemeral=True, sequence=True)
        raw = KazooClient(server.hosts)
        raw.start(timeout=LONG)
        raw.create(f"{chroot}/closed", acl=[make_acl("world", "anyone", create=True)])
        raw.stop()
        raw.close()
        zk.reap("/closed", "c0ffee-")
        zk.reap("/queue", "c0ffee-")
        await_that(lambda: zk.children("/queue") == [])
    await_that(lambda: reaped(ours))


class FakeHandle:
    """A handle on one node, "c0ffee", and no server."""

    session_timeout = 0.0
    there = True
    looks = 0

    def __enter__(self) -> FakeHandle:
        return self

    def __exit__(self, *_: object) -> None: ...

    def sync(self) -> None: ...

    def children(self, _parent: str) -> list[str]:
        return ["c0ffee"] if self.there else []

    def exists(self, _path: str) -> Stat | None:
        self.looks += 1
        return Stat(1, 1, 1, 0, 0, 0, 0) if self.there else None

    def delete(self, _path: str, _version: int) -> None:
        self.there = False


class SlowHandle(FakeHandle):
    """Whose first delete hangs, and then comes to nothing."""

    def __init__(self) -> None:
        self.deleting, self.go_on = threading.Event(), threading.Event()

    def delete(self, path: str, version: int) -> None:
        if not self.deleting.is_set():
            self.deleting.set()
            assert self.go_on.wait(LONG)
            raise ZKUnavailable("main", "gone away")
        super().delete(path, version)


def test_it_looks_for_as_long_as_a_server_may_keep_what_it_was_sent() -> None:
    handle = FakeHandle()
    handle.there, handle.session_timeout = False, 1.0
    reaper = Reaper("main", lambda _: handle)  # type: ignore[arg-type, return-value]
    reaper._add(_Job("/", "c0ffee", unique=True))
    await_that(lambda: handle.looks > 1)
    handle.there = True
    await_that(lambda: not handle.there)
    await_that(lambda: len(reaper) == 0)


def test_who_cannot_wait_for_a_removal_leaves_it_to_go_on() -> None:
    handle = SlowHandle()
    reaper = Reaper("main", lambda _: handle)  # type: ignore[arg-type, return-value]
    reaper._add(_Job("/", "c0ffee", unique=True))
    assert handle.deleting.wait(LONG)
    with pytest.raises(ZKTimeout):
        reaper.leave("/c0ffee", time.monotonic())
    handle.go_on.set()
    await_that(lambda: not handle.there)
    await_that(lambda: len(reaper) == 0)


def test_it_goes_on_when_the_cluster_is_back(ours: Clusters, others: Clusters, proxy: TcpProxy) -> None:
    connection = None
    with ours.acquire("main", LONG) as zk:
        zk.ensure("/queue")
        zk.create("/queue/c0ffee-", ephemeral=True, sequence=True)
        connection = ours["main"].connection
        proxy.refuse()
        proxy.cut()
        await_that(lambda: connection is not None and connection.state is State.SUSPENDED)
        zk.reap("/queue", "c0ffee-")
    proxy.accept()
    with others.acquire("main", LONG) as theirs:
        await_that(lambda: theirs.children("/queue") == [])
