"""The records in a real ZooKeeper: every rule of records, connections that break, and leaders that lead nobody."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol
from uuid import uuid4

import pytest

from syncstore.cache.memcached.records import RecordStore, ServerRecord
from syncstore.cache.memcached.records_in_zookeeper import ZooKeeperRecords
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.record_conformance import RecordConformance
from syncstore.testing.record_reader import OpenStore
from syncstore.testing.record_stores import open_zookeeper_records
from syncstore.testing.tcp_proxy import SILENT, WELL, Fault, TcpProxy
from syncstore.testing.zookeeper_servers import ZooKeeperEnsemble, ZooKeeperServer, expire
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Digest, Ensemble, parse_hosts
from syncstore.zookeeper.errors import BadArguments, NoNode
from syncstore.zookeeper.handle import Handle

LONG = 20.0
SHORT = 0.5
SLACK = 1.0


class TestInZooKeeper(RecordConformance):
    @pytest.fixture
    def open_store(self, zookeeper_server: ZooKeeperServer) -> OpenStore:
        return partial(open_zookeeper_records, zookeeper_server.hosts, chroot=f"/{uuid4().hex}")

    @pytest.fixture
    def open_other_store(self, zookeeper_server: ZooKeeperServer) -> OpenStore:
        return partial(open_zookeeper_records, zookeeper_server.hosts, path=f"/{uuid4().hex}/deeper/states")

    @pytest.fixture
    def open_unreachable_store(self) -> OpenStore:
        return partial(open_zookeeper_records, f"{HOST}:{free_port()}", timeout=SHORT)


class Opened(Protocol):
    def __call__(
        self, hosts: str, *, path: str = ..., timeout: float = ..., auth: Digest | None = ...
    ) -> tuple[ZooKeeperRecords, Clusters]: ...


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens the states of this test, and the clusters that they are in."""
    all_of_them: list[Clusters] = []
    chroot = f"/{uuid4().hex}"

    def make(
        hosts: str, *, path: str = "/states", timeout: float = LONG, auth: Digest | None = None
    ) -> tuple[ZooKeeperRecords, Clusters]:
        ensemble = Ensemble("main", parse_hosts(hosts), op_timeout=LONG, chroot=chroot, auth=auth)
        clusters = Clusters([ensemble])
        all_of_them.append(clusters)
        return ZooKeeperRecords(clusters["main"], path, SystemClock(), timeout=timeout), clusters

    yield make
    for clusters in all_of_them:
        clusters.close()


def epoch_of(store: RecordStore, server: str = "a") -> int:
    return store.read([server])[0].epoch


def refuses_in_time(call: Callable[[], object], seconds: float = SHORT) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        call()
    assert time.monotonic() - began < seconds + SLACK


# -- what stands where


def test_a_node_tells_a_person_what_is_known(opened: Opened, zookeeper_server: ZooKeeperServer) -> None:
    store, clusters = opened(zookeeper_server.hosts)
    assert store.name == "zookeeper:main/states"
    assert store.advance("10.0.0.1:11211", 0, 4, "seen")
    with clusters.acquire("main") as zk:
        node = zk.get("/states/servers/10%2E0%2E0%2E1%3A11211")
        (record,) = store.read(["10.0.0.1:11211"])
        assert json.loads(node.value) == list(record)
        assert zk.get("/states/identity").value.decode() == store.identity()


def test_it_may_have_a_cluster_for_itself(opened: Opened, zookeeper_server: ZooKeeperServer) -> None:
    store, clusters = opened(zookeeper_server.hosts, path="/")
    assert store.advance("a", 0, 4, "seen")
    assert epoch_of(store) == 4
    with clusters.acquire("main") as zk:
        assert sorted(zk.children("/")) == ["identity", "servers"]


def test_reading_makes_nothing(opened: Opened, zookeeper_server: ZooKeeperServer) -> None:
    store, clusters = opened(zookeeper_server.hosts)
    assert store.read(["a"]) == [ServerRecord()]
    with clusters.acquire("main") as zk:
        assert zk.children("/") == []


def test_what_is_no_path_is_refused(opened: Opened, zookeeper_server: ZooKeeperServer) -> None:
    for path in ("states", "", "/states/", "/a//b"):
        with pytest.raises(BadArguments):
            opened(zookeeper_server.hosts, path=path)


def _delete(zk: Handle, path: str) -> None:
    for name in zk.children(path):
        _delete(zk, f"{path}/{name}")
    zk.delete(path)


def test_all_notice_at_once_that_all_was_removed_and_begin_anew(
    opened: Opened, zookeeper_server: ZooKeeperServer
) -> None:
    store, clusters = opened(zookeeper_server.hosts)
    again, _ = opened(zookeeper_server.hosts)
    assert store.advance("a", 0, 4, "lost")
    identity = again.identity()
    with clusters.acquire("main") as zk:
        _delete(zk, "/states")
    assert again.read(["a"]) == [ServerRecord()]
    assert not again.advance("a", 4, 5, "of what is not known any more")
    assert store.advance("a", 0, 8, "anew")
    assert epoch_of(again) == 8
    assert again.identity() == store.identity() != identity


def test_an_identity_that_was_removed_alone_is_drawn_anew_at_the_next_change(
    opened: Opened, zookeeper_server: ZooKeeperServer
) -> None:
    store, clusters = opened(zookeeper_server.hosts)
    assert store.advance("a", 0, 4, "kept")
    identity = store.identity()
    with clusters.acquire("main") as zk:
        zk.delete("/states/identity")
    assert not store.advance("a", 0, 8, "not as it is")
    assert epoch_of(store) == 4
    assert store.identity() != identity


def test_what_is_no_record_is_refused_with_words_that_say_what_to_do(
    opened: Opened, zookeeper_server: ZooKeeperServer
) -> None:
    store, clusters = opened(zookeeper_server.hosts)
    for name in "ab":
        assert store.advance(name, 0, 4, "sound")
    with clusters.acquire("main") as zk:
        for value in (b"", b"{}", b'["4",0,"",""]', b"\xff"):
            zk.set("/states/servers/a", value)
            with pytest.raises(Unavailable, match=r"/states/servers/a holds no record, so remove it"):
                store.read(["b", "a"])
            with pytest.raises(Unavailable, match="no record"):
                store.advance("a", 4, 5, "after")
        zk.set("/states/identity", b"not an identity")
        with pytest.raises(Unavailable, match=r"/states/identity holds no identity: remove it"):
            store.identity()
    assert epoch_of(store, "b") == 4


def test_what_others_may_not_change_is_unavailable_to_them(
    opened: Opened, zookeeper_server: ZooKeeperServer
) -> None:
    store, _ = opened(zookeeper_server.hosts, auth=Digest("we", "secret"))
    stranger, _ = opened(zookeeper_server.hosts)
    assert store.advance("a", 0, 4, "ours")
    for call in (stranger.identity, partial(stranger.read, ["a"]), partial(stranger.advance, "a", 4, 5, "")):
        with pytest.raises(Unavailable, match="access list"):
            call()


# -- connections that break


def test_a_connection_that_breaks_is_not_noticed_by_readers(
    opened: Opened, zookeeper_server: ZooKeeperServer
) -> None:
    with TcpProxy(zookeeper_server.port) as proxy:
        store, _ = opened(proxy.address)
        others, _ = opened(zookeeper_server.hosts)
        assert store.advance("a", 0, 1, "before")
        identity = store.identity()
        for epoch, after in enumerate((0, 1, 60, 100, 150, 200), 1):
            assert others.advance("a", epoch, epoch + 1, "meanwhile")
            proxy.fault = Fault(cut_after=after)
            timer = _well_soon(proxy)
            assert epoch_of(store) == epoch + 1
            assert store.identity() == identity
            timer()


def _well_soon(proxy: TcpProxy) -> Callable[[], None]:
    """Let the proxy be well in a moment; call what it gives to wait for that."""

    def mend() -> None:
        proxy.fault = WELL

    timer = threading.Timer(0.2, mend)
    timer.start()
    return timer.join


def test_a_session_that_ends_is_not_noticed_by_readers(
    opened: Opened, zookeeper_server: ZooKeeperServer
) -> None:
    store, clusters = opened(zookeeper_server.hosts)
    assert store.advance("a", 0, 4, "before")
    expire(zookeeper_server.hosts, clusters["main"])
    assert epoch_of(store) == 4
    assert store.identity()


@pytest.mark.parametrize("fault", [SILENT, Fault(swallow_replies=True)], ids=["silent", "no-replies"])
def test_a_server_that_does_not_answer_is_unavailable_in_time_and_what_was_asked_is_done_once_or_never(
    opened: Opened, zookeeper_server: ZooKeeperServer, fault: Fault
) -> None:
    others, _ = opened(zookeeper_server.hosts)
    with TcpProxy(zookeeper_server.port) as proxy:
        store, _ = opened(proxy.address, timeout=SHORT)
        assert store.read(["a"])
        proxy.fault = fault
        refuses_in_time(lambda: store.read(["a"]))
        refuses_in_time(store.identity)
        refuses_in_time(lambda: store.advance("a", 0, 4, "perhaps"))
        proxy.fault = WELL
        seen = epoch_of(others)
        assert seen in (0, 4)
        _eventually(lambda: epoch_of(store) == seen)


def _eventually(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while True:
        try:
            assert happens()
        except Unavailable:
            assert time.monotonic() < end
        else:
            return


def test_a_record_whose_making_was_answered_too_late_stays(
    opened: Opened, zookeeper_server: ZooKeeperServer
) -> None:
    """Somebody may know of it, so it must not be taken back."""
    others, clusters = opened(zookeeper_server.hosts)
    assert others.identity()
    with TcpProxy(zookeeper_server.port) as proxy:
        store, own = opened(proxy.address, timeout=1.0)
        assert store.read(["a"]) == [ServerRecord()]
        proxy.fault = Fault(delay=0.3)  # each way, and the record is the fourth question
        refuses_in_time(lambda: store.advance("a", 0, 4, "late"), 1.0)
        proxy.fault = WELL
        for _ in range(20):
            assert own["main"].status().doubtful == 0
            time.sleep(0.05)
    with clusters.acquire("main") as zk:
        try:
            made = zk.get("/states/servers/a")
        except NoNode:
            assert epoch_of(others) == 0
        else:
            assert made.stat.version == 0
            assert epoch_of(others) == 4


# -- an ensemble


@pytest.fixture
def ensemble(zookeeper_ensemble: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    yield zookeeper_ensemble.start()
    for server in zookeeper_ensemble.servers:
        if server.alive:
            server.thaw()


def test_a_leader_that_leads_nobody_answers_no_reader(opened: Opened, ensemble: ZooKeeperEnsemble) -> None:
    """Others may have elected another, and have changed what this one remembers."""
    leader = ensemble.leader
    store, clusters = opened(leader.hosts)
    assert store.advance("a", 0, 4, "before")
    hasty = ZooKeeperRecords(clusters["main"], "/states", SystemClock(), timeout=SHORT)
    followers = [server for server in ensemble.servers if server is not leader]
    for server in followers:
        server.freeze()
    with clusters.acquire("main") as zk:
        zk.sync("/states", SHORT)  # which does answer
        assert zk.get("/states/servers/a", SHORT).stat.version == 0
    refuses_in_time(lambda: hasty.read(["a"]))
    refuses_in_time(hasty.identity)
    for server in followers:
        server.thaw()
    _eventually(lambda: epoch_of(store) == 4)


def test_a_follower_that_lags_behind_serves_no_old_record(
    opened: Opened, ensemble: ZooKeeperEnsemble
) -> None:
    leader, follower = ensemble.leader, ensemble.follower
    ours, _ = opened(follower.hosts)
    theirs, _ = opened(leader.hosts)
    assert theirs.advance("a", 0, 1, "first")
    for epoch in range(1, 6):
        assert epoch_of(ours) == epoch
        follower.freeze()
        assert theirs.advance("a", epoch, epoch + 1, "while it was frozen")
        follower.thaw()
        assert epoch_of(ours) == epoch + 1


def test_a_change_that_was_confirmed_outlives_the_leader(opened: Opened, ensemble: ZooKeeperEnsemble) -> None:
    store, _ = opened(ensemble.hosts)
    identity = store.identity()
    assert store.advance("a", 0, 4, "confirmed")
    ensemble.leader.kill9()
    _eventually(lambda: epoch_of(store) == 4)
    assert store.identity() == identity
    assert store.advance("a", 4, 5, "after")
