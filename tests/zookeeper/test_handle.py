"""The calls: what they give and refuse, and that what would break the connection is not sent."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest

from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Digest
from syncstore.zookeeper.errors import (
    BadArguments,
    BadVersion,
    Forbidden,
    NodeExists,
    NoNode,
    NotEmpty,
    RequestTooLarge,
    ZKTimeout,
)
from syncstore.zookeeper.handle import MAX_REQUEST
from syncstore.zookeeper.nodes import Check, Create, Delete, Set, Stat


def test_what_was_created_is_read_set_and_deleted(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        made = zk.create("/a", b"one")
        assert made.path == "/a"
        node = zk.get("/a")
        assert (node.value, node.stat.version, node.stat.czxid) == (b"one", 0, made.stat.czxid)
        assert zk.set("/a", b"two", version=0).version == 1
        assert zk.children("/") == ["a"]
        zk.delete("/a", version=1)
        assert zk.exists("/a") is None
        zk.sync()


def test_an_empty_value_is_no_value(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        zk.create("/a")
        assert zk.get("/a").value == b""


def test_ephemeral_nodes_have_the_session_for_an_owner(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        made = zk.create("/mine", ephemeral=True)
        assert made.stat.owner == zk.session_id != 0
        assert zk.create("/lasting").stat.owner == 0


def test_a_sequence_counts_and_its_fencing_number_grows(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        zk.ensure("/queue")
        first = zk.create("/queue/x-", ephemeral=True, sequence=True)
        second = zk.create("/queue/y-", ephemeral=True, sequence=True)
        assert (first.path, second.path) == ("/queue/x-0000000000", "/queue/y-0000000001")
        assert first.stat.czxid < second.stat.czxid


def test_ensure_makes_what_is_missing_and_minds_nothing_that_is_there(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        zk.ensure("/a/b/c")
        zk.ensure("/a/b/d")
        zk.ensure("/a")
        assert sorted(zk.children("/a/b")) == ["c", "d"]


def test_a_chroot_that_was_removed_is_made_again(zookeeper_server: ZooKeeperServer, opened: object) -> None:
    chroot = f"/{uuid4().hex}"
    ours = opened(zookeeper_server.hosts, chroot=f"{chroot}/a/b")  # type: ignore[operator]
    all_of_it = opened(zookeeper_server.hosts)  # type: ignore[operator]
    with ours.acquire("main") as zk, all_of_it.acquire("main") as above:
        zk.ensure("/c/d")
        for path in ("/a/b/c/d", "/a/b/c", "/a/b", "/a", ""):
            above.delete(chroot + path)
        zk.ensure("/c/d")
        assert zk.children("/c") == ["d"]


def test_answers_that_are_no_are_of_their_kind(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        zk.ensure("/a/b")
        with pytest.raises(NodeExists):
            zk.create("/a")
        with pytest.raises(NoNode):
            zk.create("/x/y")
        with pytest.raises(NoNode):
            zk.children("/x")
        with pytest.raises(BadVersion):
            zk.set("/a", b"", version=7)
        with pytest.raises(BadVersion):
            zk.delete("/a/b", version=7)
        with pytest.raises(NotEmpty):
            zk.delete("/a")
        zk.create("/e", ephemeral=True)
        with pytest.raises(BadArguments):
            zk.create("/e/below")


def test_a_transaction_is_done_whole_or_not_at_all(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        zk.create("/a", b"one")
        zk.create("/gone")
        results = zk.transaction([Check("/a", 0), Create("/b", b"x"), Set("/a", b"two", 0), Delete("/gone")])
        assert results[:2] == [None, "/b"]
        assert isinstance(results[2], Stat)
        assert results[2].version == 1
        assert results[3] is None

        with pytest.raises(BadVersion) as caught:
            zk.transaction([Create("/c"), Check("/a", 0), Create("/d")])
        assert (caught.value.path, caught.value.operation) == ("/a", 1)
        assert sorted(zk.children("/")) == ["a", "b"]


def test_what_servers_would_not_read_is_not_sent(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        session = zk.session_id
        with pytest.raises(RequestTooLarge) as caught:
            zk.create("/a", bytes(MAX_REQUEST))
        assert caught.value.limit == MAX_REQUEST < caught.value.size
        zk.create("/a")
        with pytest.raises(RequestTooLarge):
            zk.set("/a", bytes(MAX_REQUEST))
        with pytest.raises(RequestTooLarge):
            zk.transaction([Set("/a", bytes(MAX_REQUEST // 2)), Create("/b", bytes(MAX_REQUEST // 2))])
        assert zk.session_id == session
        assert clusters["main"].connection.connects == 1  # type: ignore[union-attr]


def test_the_largest_that_is_sent_is_read(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        largest = bytes(MAX_REQUEST - 200)
        zk.create("/a", largest)
        assert zk.get("/a").value == largest
        zk.set("/a", largest)
        assert clusters["main"].connection.connects == 1  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "path", ["", "a", "/a/", "//", "/a//b", "/a/./b", "/a/..", "/.", "/a\x00b", "/a\x1f", "/a\x7f", "/\ud800"]
)
def test_paths_are_not_mended(clusters: Clusters, path: str) -> None:
    with clusters.acquire("main") as zk:
        for call in (zk.get, zk.exists, zk.children, zk.create, zk.delete, zk.ensure, zk.watch):
            with pytest.raises(BadArguments):
                call(path)


def test_a_sequence_without_a_name_is_refused(clusters: Clusters) -> None:
    """What an unanswered call makes is found by that name: without one it would be everything."""
    with clusters.acquire("main") as zk:
        zk.ensure("/queue")
        for path in ("/", "/queue/"):
            with pytest.raises(BadArguments):
                zk.create(path, sequence=True)


def test_a_path_that_servers_would_not_read_is_not_sent(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        for path in ("/" + "a" * 1_200_000, "/" + "é" * 600_000):
            for call in (zk.get, zk.exists, zk.children, zk.create, zk.delete, zk.ensure, zk.watch):
                with pytest.raises(BadArguments) as caught:
                    call(path)
                assert len(str(caught.value)) < 300
        with pytest.raises(RequestTooLarge):
            zk.create("/" + "é" * 2000, bytes(MAX_REQUEST - 2001))
        assert clusters["main"].connection.connects == 1  # type: ignore[union-attr]


def test_paths_may_hold_what_zookeeper_allows(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        for path in ("/a b", "/é", "/...", "/.a", "/{x}:%"):
            assert zk.create(path).path == path
            assert zk.exists(path)


def test_what_is_created_with_a_secret_is_closed_to_others(
    zookeeper_server: ZooKeeperServer, clusters: Clusters, opened: object
) -> None:
    mine = opened(zookeeper_server.hosts, auth=Digest("me", "s3cret"), chroot="/mine")  # type: ignore[operator]
    others = opened(zookeeper_server.hosts)  # type: ignore[operator]
    with mine.acquire("main") as zk:
        zk.create("/a", b"x")
        assert zk.get("/a").value == b"x"
    with others.acquire("main") as zk, pytest.raises(Forbidden):
        zk.get("/mine/a")


def test_what_has_no_time_left_is_not_sent(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        zk.create("/a")
        for call in (zk.delete, zk.create, zk.ensure):
            with pytest.raises(ZKTimeout) as caught:
                call("/a" if call == zk.delete else "/b", timeout=0)
            assert not caught.value.maybe_done
        assert zk.children("/") == ["a"]
        assert clusters.status()["main"].doubtful == 0


def test_a_handle_is_released_once_by_its_thread_and_not_used_after(clusters: Clusters) -> None:
    zk = clusters.acquire("main")
    caught: list[BaseException] = []

    def release() -> None:
        try:
            zk.release()
        except RuntimeError as error:
            caught.append(error)

    def release_beside_one_of_its_own() -> None:
        with clusters.acquire("main") as own:
            release()
            own.exists("/")

    for attempt in (release, release_beside_one_of_its_own):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert len(caught) == 2
    zk.release()
    with pytest.raises(RuntimeError, match="released"):
        zk.release()
    with pytest.raises(RuntimeError, match="released"):
        zk.get("/")
