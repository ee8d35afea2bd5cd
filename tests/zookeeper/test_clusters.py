"""Clusters are acquired, released, replaced when their session is over, and made anew in a child process."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.handlers.threading import SequentialThreadingHandler

from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer, expire
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.connection import State
from syncstore.zookeeper.ensemble import Digest, Ensemble, parse_hosts
from syncstore.zookeeper.errors import SessionEnded, UnknownCluster, ZKBusy, ZKTimeout, ZKUnavailable
from syncstore.zookeeper.failures import Failure


class Caller(threading.Thread):
    """Calls a function in a thread of its own; `result` gives what it gave, or raises what it raised."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error

    def result(self, timeout: float = 20.0) -> Any:
        self.join(timeout)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._value


def ended(clusters: Clusters) -> Callable[[], bool]:
    connection = clusters["main"].connection
    assert connection is not None
    return lambda: connection.state is State.ENDED


def expired(clusters: Clusters, server: ZooKeeperServer) -> None:
    """Let the session expire, and wait until the client has heard of it."""
    over = ended(clusters)
    expire(server.hosts, clusters["main"])
    await_that(over)


def use(clusters: Clusters) -> int:
    with clusters.acquire("main", 20) as zk:
        zk.exists("/")
        return zk.generation


# -- acquiring


def test_nothing_is_connected_before_the_first_use(zookeeper_server: ZooKeeperServer) -> None:
    threads = threading.active_count()
    clusters = Clusters([Ensemble("main", parse_hosts(zookeeper_server.hosts))])
    assert clusters.lookup("main")
    assert clusters["main"].connection is None
    assert threading.active_count() == threads
    assert clusters.status()["main"].generation == 0
    clusters.close()


def test_one_client_serves_all_threads(clusters: Clusters) -> None:
    together = threading.Barrier(8)

    def visit() -> int:
        together.wait(20)
        with clusters.acquire("main", 20) as zk:
            return zk.session_id

    assert len({caller.result() for caller in [Caller(visit) for _ in range(8)]}) == 1
    assert clusters.status()["main"].handles == 0


def test_an_unknown_cluster_is_no_outage(clusters: Clusters) -> None:
    for acquire in (clusters.acquire, clusters.try_acquire):
        with pytest.raises(UnknownCluster):
            acquire("other")


def test_a_handle_is_connected_when_it_is_given(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        assert zk.state is State.CONNECTED
        assert zk.name == "main"
        assert zk.session_timeout == 4.0
        assert time.monotonic() - zk.proof < 20


def test_nobody_there_is_unavailable_at_the_deadline(opened: Any) -> None:
    clusters = opened("127.0.0.1:1", chroot="/x")
    begun = time.monotonic()
    with pytest.raises(ZKUnavailable, match="main"):
        clusters.acquire("main", timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 1.5
    with pytest.raises(ZKBusy):
        clusters.try_acquire("main")


def test_a_handle_without_waiting(clusters: Clusters) -> None:
    with pytest.raises(ZKBusy):
        clusters.try_acquire("main")  # which begins to make the client
    use(clusters)
    zk = clusters.try_acquire("main")
    assert zk.exists("/") is not None
    zk.release()


def test_a_closed_cluster_is_unavailable(clusters: Clusters) -> None:
    zk = clusters.acquire("main")
    clusters.close()
    with pytest.raises(SessionEnded):
        zk.get("/")
    zk.release()
    with pytest.raises(SessionEnded):
        clusters.acquire("main")


def test_a_process_without_files_or_threads_left_is_unavailable_and_keeps_none(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_handler: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    before = threading.active_count()
    with monkeypatch.context() as patched:
        patched.setattr(SequentialThreadingHandler, "create_socket_pair", fail)
        for _ in range(3):
            with pytest.raises(ZKUnavailable, match="Too many open files"):
                clusters.acquire("main")
    assert threading.active_count() == before
    assert use(clusters) > 0


# -- replacing


def test_an_expired_session_is_replaced_by_the_next_generation(
    clusters: Clusters, zookeeper_server: ZooKeeperServer
) -> None:
    kept = clusters.acquire("main")
    first = kept.session_id
    expired(clusters, zookeeper_server)
    with pytest.raises(SessionEnded) as caught:
        kept.get("/")
    assert kept.error(caught.value, "testing") is Failure.EXPIRED
    kept.release()

    with clusters.acquire("main") as zk:
        assert zk.generation == 2
        assert zk.session_id != first
        assert zk.exists("/") is not None


def test_who_keeps_a_handle_delays_the_replacement_no_longer_than_the_drain(
    opened: Any, zookeeper_server: ZooKeeperServer
) -> None:
    clusters = opened(zookeeper_server.hosts, drain=0.3)
    kept = clusters.acquire("main")
    expired(clusters, zookeeper_server)
    begun = time.monotonic()

    assert Caller(lambda: use(clusters)).result() == 2

    assert time.monotonic() - begun >= 0.3
    with pytest.raises(SessionEnded):
        kept.get("/")
    with clusters.acquire("main") as again:  # the same thread, while it still has the old one
        assert again.generation == 2
        again.exists("/")
    kept.release()
    assert clusters.status()["main"].handles == 0


def test_no_wait_for_a_replacement_is_longer_than_its_deadline(
    clusters: Clusters, zookeeper_server: ZooKeeperServer
) -> None:
    kept = clusters.acquire("main")
    expired(clusters, zookeeper_server)
    begun = time.monotonic()
    with pytest.raises(ZKTimeout):
        Caller(lambda: clusters.acquire("main", 0.3)).result()
    assert time.monotonic() - begun < 1.3
    kept.release()


def test_a_thread_that_holds_gets_another_while_one_waits_to_replace(
    clusters: Clusters, zookeeper_server: ZooKeeperServer
) -> None:
    kept = clusters.acquire("main")
    expired(clusters, zookeeper_server)
    other = Caller(lambda: use(clusters))
    await_that(lambda: clusters["main"].gate._waiting)

    begun = time.monotonic()
    again = clusters.acquire("main")
    assert time.monotonic() - begun < 1
    assert again.generation == 1
    again.release()
    kept.release()

    assert other.result() == 2


def test_it_is_busy_at_once_while_another_replaces(clusters: Clusters) -> None:
    use(clusters)
    gate = clusters["main"].gate
    inside, done = threading.Event(), threading.Event()

    def replace() -> None:
        with gate.exclusive(time.monotonic() + 20, time.monotonic() + 20):
            inside.set()
            done.wait(20)

    other = Caller(replace)
    assert inside.wait(20)
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        with pytest.raises(ZKBusy):
            clusters.try_acquire("main")
        took.append(time.perf_counter() - begun)
    done.set()
    other.result()
    assert min(took) < 0.005


def test_an_ended_client_leaves_no_socket_behind(
    clusters: Clusters, zookeeper_server: ZooKeeperServer
) -> None:
    use(clusters)
    before = sockets()
    for generation in range(2, 5):
        expired(clusters, zookeeper_server)
        assert use(clusters) == generation
    await_that(lambda: sockets() <= before)


def sockets() -> int:
    return sum(
        1 for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and "socket" in str(fd.readlink())
    )


def test_who_waits_to_replace_hears_that_it_was_closed_and_makes_nothing_more(
    clusters: Clusters, zookeeper_server: ZooKeeperServer
) -> None:
    kept = clusters.acquire("main")
    expired(clusters, zookeeper_server)
    waiting = Caller(lambda: clusters.acquire("main", 20))
    await_that(lambda: clusters["main"].gate._waiting)
    clusters.close()
    kept.release()
    with pytest.raises(SessionEnded, match="closed"):
        waiting.result()
    assert clusters.status()["main"].generation == 1


def test_a_session_that_is_back_before_it_was_replaced_is_kept(opened: Any) -> None:
    with ZooKeeperServer() as server:
        clusters = opened(server.hosts, session_timeout=1.0, drain=20.0)
        kept = clusters.acquire("main", 20)
        session, connection = kept.session_id, clusters["main"].connection
        server.kill9()
        await_that(lambda: connection.failed)
        waiting = Caller(lambda: use(clusters))
        await_that(lambda: clusters["main"].gate._waiting)
        server.start()
        await_that(lambda: connection.state is State.CONNECTED)
        kept.release()
        assert waiting.result() == 1
        with clusters.acquire("main") as zk:
            assert zk.session_id == session


def test_a_chroot_that_cannot_be_made_is_unavailable(opened: Any, zookeeper_server: ZooKeeperServer) -> None:
    with opened(zookeeper_server.hosts, auth=Digest("me", "s3cret"), chroot="/closed").acquire("main") as zk:
        zk.exists("/")
    clusters = opened(zookeeper_server.hosts, chroot="/closed/to/others")
    with pytest.raises(ZKUnavailable, match="/closed/to"):
        clusters.acquire("main")
    with pytest.raises(ZKBusy):
        clusters.try_acquire("main")
    await_that(lambda: clusters["main"]._reviver is None)
    assert clusters.status()["main"].handles == 0


# -- forks


def test_a_child_has_a_session_of_its_own_and_leaves_the_parents_alone(
    zookeeper_server: ZooKeeperServer, tmp_path: Path
) -> None:
    script = tmp_path / "forks.py"
    script.write_text(
        textwrap.dedent(f"""
            import os, sys, threading
            from syncstore.zookeeper.clusters import Clusters
            from syncstore.zookeeper.ensemble import Digest, Ensemble, parse_hosts
            from syncstore.zookeeper.errors import SessionEnded, WatchClosed

            clusters = Clusters([Ensemble("main", parse_hosts("{zookeeper_server.hosts}"))])
            kept = clusters.acquire("main", 20)
            kept.create("/of-the-parent", ephemeral=True)
            watch = kept.watch("/of-the-parent")
            parent = kept.session_id
            # A thread that is in the middle of something when the process forks.
            stop = threading.Event()
            def busy():
                while not stop.is_set():
                    with clusters.acquire("main", 20) as zk:
                        zk.exists("/of-the-parent")
            thread = threading.Thread(target=busy)
            thread.start()
            for _ in range(10):
                pid = os.fork()
                if pid == 0:
                    try:
                        try:
                            kept.get("/of-the-parent")
                            os._exit(2)
                        except SessionEnded:
                            kept.release()
                        try:
                            watch.wait(20)
                            os._exit(3)
                        except WatchClosed:
                            pass
                        with clusters.acquire("main", 20) as zk:
                            zk.create("/of-the-child", ephemeral=True)
                            assert zk.session_id != parent
                            assert zk.exists("/of-the-parent").owner == parent
                        import urllib.request, socket
                        s = socket.create_connection(("127.0.0.1", {zookeeper_server.port}))
                        s.sendall(b"cons")
                        told = b"".join(iter(lambda: s.recv(65536), b"")).decode()
                        for one in (parent, zk.session_id):
                            assert f"sid=0x{{one:x}}" in told, told
                        clusters.close()
                        sys.exit(0)  # with all that a process does when it ends
                    except BaseException as error:
                        if isinstance(error, SystemExit):
                            raise
                        print(repr(error), flush=True)
                        os._exit(4)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                assert code == 0, code
                assert kept.get("/of-the-parent").stat.owner == parent
                assert kept.exists("/of-the-child") is None
            stop.set()
            thread.join()
            assert watch.count == 1
            kept.release()
            clusters.close()
            print("both worked")
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == "both worked\n", done.stdout + done.stderr
