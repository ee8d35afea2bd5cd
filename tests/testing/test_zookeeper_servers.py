"""Real ZooKeepers, alone and three together, that can be killed, frozen and asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from syncstore.testing import zookeeper_servers
from syncstore.testing.plugin import started
from syncstore.testing.processes import ProgramMissing
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperEnsemble, ZooKeeperServer, expire
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with started(ZooKeeperServer) as running:
        yield running


@pytest.fixture
def ensemble(zookeeper_ensemble: ZooKeeperEnsemble) -> ZooKeeperEnsemble:
    return zookeeper_ensemble.start()


def test_it_serves_alone_and_says_so(server: ZooKeeperServer) -> None:
    assert server.mode == "standalone"
    assert server.ask("ruok") == "imok"
    assert server.hosts == f"127.0.0.1:{server.port}"


def test_it_has_what_was_committed_before_it_was_killed(server: ZooKeeperServer) -> None:
    clusters = Clusters([Ensemble("main", parse_hosts(server.hosts), session_timeout=20.0)])
    with clusters.acquire("main", 20) as zk:
        zk.create("/kept", b"x", timeout=20)
        zk.create("/mine", ephemeral=True, timeout=20)
        server.kill9()
        server.start()
        assert zk.get("/kept", timeout=20).value == b"x"
        assert zk.get("/mine", timeout=20).stat.owner == zk.session_id
    clusters.close()


def test_it_shows_who_is_connected(server: ZooKeeperServer) -> None:
    clusters = Clusters([Ensemble("main", parse_hosts(server.hosts))])
    with clusters.acquire("main", 20) as zk:
        assert f"{zk.session_id:#x}" in server.sessions()
    clusters.close()
    await_that(lambda: not server.sessions())


def test_a_session_can_be_ended_behind_its_client(server: ZooKeeperServer) -> None:
    clusters = Clusters([Ensemble("main", parse_hosts(server.hosts), session_timeout=20.0)])
    with pytest.raises(LookupError):
        expire(server.hosts, clusters["main"])
    with clusters.acquire("main", 20) as zk:
        zk.create("/ended", ephemeral=True, timeout=20)
        expire(server.hosts, clusters["main"])
    with clusters.acquire("main", 20) as zk:
        assert zk.exists("/ended", timeout=20) is None
    clusters.close()


def test_three_elect_one_and_another_when_it_is_killed(ensemble: ZooKeeperEnsemble) -> None:
    assert sorted(server.mode for server in ensemble.servers) == ["follower", "follower", "leader"]
    first = ensemble.leader
    first.kill9()
    assert ensemble.leader is not first
    assert not first.alive
    ensemble.start()
    assert first.mode == "follower"


def test_one_of_three_does_not_serve(ensemble: ZooKeeperEnsemble) -> None:
    kept = ensemble.servers[0]
    for server in ensemble.servers[1:]:
        server.kill9()
    await_that(lambda: not kept.mode)
    assert not kept.answers()
    ensemble.start()
    assert kept.mode in ("leader", "follower")


def test_the_server_of_a_session_is_known(ensemble: ZooKeeperEnsemble) -> None:
    server = ensemble.servers[1]
    client = KazooClient(server.hosts)
    client.start(timeout=20)
    assert ensemble.server_of(client.client_id[0]) is server
    client.stop()
    client.close()
    with pytest.raises(LookupError):
        ensemble.server_of(1)


def test_a_missing_jar_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(zookeeper_servers, "_JARS", ((tmp_path / "zookeeper.jar", "libzookeeper-java"),))
    with pytest.raises(ProgramMissing, match=r"zookeeper.jar .*apt install libzookeeper-java"):
        ZooKeeperServer()
