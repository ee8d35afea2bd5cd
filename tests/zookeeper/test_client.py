"""Nothing waits in the client for a connection, and no watch stays in it that nobody waits for."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from syncstore.testing.tcp_proxy import SILENT, WELL, TcpProxy
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.client import NotSent, requests
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.connection import State
from syncstore.zookeeper.errors import ZKUnavailable
from syncstore.zookeeper.reaper import Reaper


def test_a_request_without_a_connection_is_refused_and_never_sent(
    opened: Any, zookeeper_server: ZooKeeperServer
) -> None:
    with TcpProxy(zookeeper_server.port) as proxy:
        clusters: Clusters = opened(proxy.address, session_timeout=10.0, connect_timeout=0.3)
        zk = clusters.acquire("main")
        connection = clusters["main"].connection
        assert connection is not None
        proxy.fault = SILENT
        proxy.cut()
        await_that(lambda: connection.state is State.SUSPENDED)

        answer = connection.client.ask(requests.Create("/never", b"", connection.client.acl, 0))
        assert isinstance(answer.exception, NotSent)
        begun = time.monotonic()
        with pytest.raises(ZKUnavailable, match="not connected") as caught:
            zk.create("/never", timeout=0.2)
        assert 0.2 <= time.monotonic() - begun < 1.2
        assert not caught.value.maybe_done

        proxy.fault = WELL
        proxy.cut()  # what was swallowed leaves the attempts out of step
        await_that(lambda: connection.state is State.CONNECTED)
        assert zk.exists("/never", timeout=10) is None
        assert zk.generation == 1
        assert connection.connects == 2
        zk.release()


def test_who_waits_while_the_session_must_have_ended_makes_another(
    opened: Any, zookeeper_server: ZooKeeperServer
) -> None:
    with TcpProxy(zookeeper_server.port) as proxy, ThreadPoolExecutor(1) as thread:
        clusters: Clusters = opened(proxy.address, session_timeout=1.0)
        clusters.acquire("main").release()
        connection = clusters["main"].connection
        assert connection is not None
        proxy.refuse()
        proxy.cut()
        await_that(lambda: connection.state is State.SUSPENDED)
        waiting = thread.submit(lambda: clusters.acquire("main", 20).generation)
        await_that(lambda: clusters.status()["main"].generation == 2, 10)
        proxy.accept()
        assert waiting.result(20) == 2


def test_a_server_that_is_silent_is_left_after_the_connect_timeout(opened: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as stack:
        silent.settimeout(10)
        clusters = opened(f"127.0.0.1:{silent.getsockname()[1]}", session_timeout=20.0, connect_timeout=0.1)
        with pytest.raises(ZKUnavailable):
            clusters.acquire("main", 0.1)
        for _ in range(3):
            stack.enter_context(silent.accept()[0])


def test_a_granted_session_timeout_is_the_servers(opened: Any, zookeeper_server: ZooKeeperServer) -> None:
    with opened(zookeeper_server.hosts, session_timeout=60.0).acquire("main") as zk:
        assert zk.session_timeout == 20.0
    with opened(zookeeper_server.hosts, session_timeout=0.1).acquire("main") as zk:
        assert zk.session_timeout == 1.0


def test_pings_prove_that_the_session_lives(opened: Any, zookeeper_server: ZooKeeperServer) -> None:
    with opened(zookeeper_server.hosts, session_timeout=1.0).acquire("main") as zk:
        before = zk.proof
        await_that(lambda: zk.proof > before)
        assert zk.proof <= time.monotonic()


def test_a_password_is_never_logged(
    opened: Any, zookeeper_server: ZooKeeperServer, caplog: pytest.LogCaptureFixture
) -> None:
    from syncstore.zookeeper.ensemble import Digest

    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", "syncstore.zookeeper.client")
    with opened(zookeeper_server.hosts, auth=Digest("me", "s3cret")).acquire("main") as zk:
        zk.create("/secretly", b"v4lue")
        zk.delete("/secretly")
    assert caplog.text
    assert "s3cret" not in caplog.text
    assert "v4lue" not in caplog.text


def test_an_empty_prefix_is_not_reaped() -> None:
    with pytest.raises(ValueError, match="everything"):
        Reaper("main", lambda _: None).remove("/", "")  # type: ignore[arg-type, return-value]


def test_an_answer_out_of_step_is_a_broken_connection(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        session = zk.session_id
        connection = clusters["main"].connection
        assert connection is not None
        zk.create("/a", b"x")
        connection.client._connection._xid += 1000  # as if a thousand answers had not come
        connection.client._pending.append((None, None, 7))
        assert zk.get("/a").value == b"x"
        assert (zk.session_id, connection.connects) == (session, 2)


def test_to_shut_a_client_takes_no_longer_than_it_may(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a thread hangs, and does not hear that it is to end."""
    clusters.acquire("main").release()
    client = clusters["main"].connection.client  # type: ignore[union-attr]
    line = client._connection
    with monkeypatch.context() as patched:
        patched.setattr("syncstore.zookeeper.client._STOP_SECONDS", 0.2)
        patched.setattr(line, "_send_request", lambda *_: line._read_sock.recv(1))
        shutting = threading.Thread(target=client.shut, daemon=True)
        shutting.start()
        await_that(lambda: not shutting.is_alive(), 5)
    assert "did not stop within 0.2 s" in caplog.text
    client.shut()
    assert client.stopped


def test_a_client_whose_thread_ends_is_replaced_at_once(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        client = clusters["main"].connection.client  # type: ignore[union-attr]
    client._stopped.set()
    client._queue.append((requests.CloseInstance, None))
    client._connection._write_sock.send(b"\0")
    await_that(lambda: client.stopped)
    with clusters.acquire("main") as zk:
        assert zk.generation == 2
