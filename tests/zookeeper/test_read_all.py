"""Several questions in one round trip."""

from __future__ import annotations

import pytest

from syncstore.testing.tcp_proxy import SILENT, Fault, TcpProxy
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.errors import BadArguments, ZKTimeout
from syncstore.zookeeper.nodes import ANY_VERSION, Check, Get, List, Look, Node, Question, Stat

AFTER = [None, Check("/", ANY_VERSION), Check("/none", ANY_VERSION), Check("/", 77)]


@pytest.mark.parametrize("after", AFTER)
def test_each_has_its_answer(clusters: Clusters, after: Check | None) -> None:
    with clusters.acquire("main") as zk:
        zk.create("/a", b"1")
        stat = zk.create("/a/b", b"2").stat
        questions: list[Question] = [
            Get("/a"),
            Look("/a/b"),
            List("/a"),
            Get("/none"),
            Look("/none"),
            List("/none"),
        ]
        answers = zk.read_all(questions, after=after)
        assert isinstance(answers[0], Node)
        assert answers[0].value == b"1"
        assert isinstance(answers[1], Stat)
        assert answers[1] == stat
        assert answers[1].ctime > 1_700_000_000_000
        assert answers[2:] == [["b"], None, None, None]


def test_no_questions_have_no_answers(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        assert zk.read_all([]) == []


def test_there_may_be_many(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        zk.create("/a", b"1")
        answers = zk.read_all([Get("/a"), Get("/b")] * 2000, timeout=20)
        assert [isinstance(answer, Node) for answer in answers] == [True, False] * 2000


def test_what_is_no_path_is_refused_before_anything_is_sent(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk, pytest.raises(BadArguments):
        zk.read_all([Get("/a"), Get("a")])


def test_all_are_asked_again_when_the_connection_breaks(
    opened: object, zookeeper_server: ZooKeeperServer
) -> None:
    assert callable(opened)
    with TcpProxy(zookeeper_server.port) as proxy:
        ours: Clusters = opened(proxy.address)
        with ours.acquire("main", 20) as zk:
            for after in (0, 50, 100, 200):
                proxy.fault = Fault(cut_after=after)
                with pytest.raises(ZKTimeout):
                    zk.read_all([Get("/zookeeper/quota")] * 100, timeout=0.3)
                proxy.fault = Fault()
                answers = zk.read_all([Get("/zookeeper/quota")] * 100, timeout=20)
                assert all(isinstance(answer, Node) for answer in answers)


def test_it_ends_in_time(opened: object, zookeeper_server: ZooKeeperServer) -> None:
    assert callable(opened)
    with TcpProxy(zookeeper_server.port) as proxy:
        ours: Clusters = opened(proxy.address)
        with ours.acquire("main", 20) as zk:
            zk.exists("/")
            proxy.fault = SILENT
            with pytest.raises(ZKTimeout):
                zk.read_all([Get("/a")], timeout=0.2)
