"""A watch tells of one change, once, whatever becomes of the connection between; and is gone when destroyed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from syncstore.testing.tcp_proxy import TcpProxy
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer, expire
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.connection import Connection, State
from syncstore.zookeeper.errors import NoNode, WatchClosed, WatchTimeout, ZKUnavailable
from syncstore.zookeeper.watch import Change, Kind, Watch, WatchEvent

PATH = "/node"
LONG = 20.0


@pytest.fixture
def chroot() -> str:
    return f"/{uuid4().hex}"


@pytest.fixture
def proxy(zookeeper_server: ZooKeeperServer) -> Iterator[TcpProxy]:
    with TcpProxy(zookeeper_server.port) as running:
        yield running


@pytest.fixture
def ours(opened: Any, proxy: TcpProxy, chroot: str) -> Clusters:
    """Through the proxy."""
    clusters: Clusters = opened(proxy.address, chroot=chroot, session_timeout=20.0)
    return clusters


@pytest.fixture
def others(opened: Any, zookeeper_server: ZooKeeperServer, chroot: str) -> Clusters:
    """On the same server, past the proxy."""
    clusters: Clusters = opened(zookeeper_server.hosts, chroot=chroot)
    return clusters


def connection_of(clusters: Clusters) -> Connection:
    connection = clusters["main"].connection
    assert connection is not None
    return connection


def watch(clusters: Clusters, path: str = PATH, kind: Kind = "data", **facts: Any) -> Watch:
    with clusters.acquire("main", LONG) as zk:
        return zk.watch(path, kind, timeout=LONG, **facts)


def create(clusters: Clusters, path: str = PATH, value: bytes = b"") -> None:
    with clusters.acquire("main", LONG) as zk:
        zk.create(path, value, timeout=LONG)


def change(clusters: Clusters, value: bytes = b"changed") -> None:
    with clusters.acquire("main", LONG) as zk:
        zk.set(PATH, value, timeout=LONG)


def remove(clusters: Clusters, path: str = PATH) -> None:
    with clusters.acquire("main", LONG) as zk:
        zk.delete(path, timeout=LONG)


def cut_off(clusters: Clusters, proxy: TcpProxy) -> None:
    proxy.refuse()
    proxy.cut()
    await_that(lambda: connection_of(clusters).state is State.SUSPENDED)


class Listener:
    """A callback that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self.contexts: list[object] = []

    def __call__(self, event: WatchEvent, context: object) -> None:
        self.events.append(event)
        self.contexts.append(context)

    @property
    def types(self) -> list[Change]:
        return [event.type for event in self.events]


# -- while all is well


@pytest.mark.parametrize(
    ("kind", "before", "act", "type_"),
    [
        ("data", True, change, Change.CHANGED),
        ("data", True, remove, Change.DELETED),
        ("data", False, create, Change.CREATED),
        ("exists", True, remove, Change.DELETED),
        ("exists", False, create, Change.CREATED),
        ("gone", True, remove, Change.DELETED),
        ("children", True, lambda clusters: create(clusters, f"{PATH}/child"), Change.CHILD),
        ("children", True, remove, Change.DELETED),
        ("children", False, create, Change.CREATED),
    ],
)
def test_it_tells_of_a_change(
    clusters: Clusters, kind: Kind, before: bool, act: Callable[[Clusters], None], type_: Change
) -> None:
    if before:
        create(clusters)
    seen = watch(clusters, kind=kind)
    assert (seen.seen is not None) is before
    assert seen.count == 1
    act(clusters)
    assert seen.wait(LONG) == WatchEvent(type_, PATH)
    assert seen.count == 0
    assert seen.wait(0) == WatchEvent(type_, PATH)  # and tells it again to who comes late
    assert clusters.status()["main"].watches == 0


def test_whether_a_node_exists_is_not_changed_by_its_value(clusters: Clusters) -> None:
    create(clusters)
    seen = watch(clusters, kind="exists")
    change(clusters)
    change(clusters, b"again")
    with pytest.raises(WatchTimeout):
        seen.wait(0.1)
    remove(clusters)
    assert seen.wait(LONG).type is Change.DELETED


def test_children_of_a_node_that_is_made_while_it_is_armed_are_not_its_value(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Connection.call

    def create_between(self: Connection, request: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return call(self, request, *arguments, **more)
        except NoNode:
            monkeypatch.setattr(Connection, "call", call)
            create(clusters)
            raise

    with clusters.acquire("main", LONG) as zk:
        monkeypatch.setattr(Connection, "call", create_between)
        seen = zk.watch(PATH, "children")
        assert seen.seen is not None
        other = zk.watch(PATH, "data")
    change(clusters)
    assert other.wait(LONG)
    assert seen.count == 1
    create(clusters, f"{PATH}/child")
    assert seen.wait(LONG).type is Change.CHILD


def test_a_watch_for_the_end_of_what_is_not_there_leaves_nothing_on_the_server(
    clusters: Clusters, zookeeper_server: ZooKeeperServer
) -> None:
    with clusters.acquire("main") as zk:
        before = watches_of(zookeeper_server)
        for _ in range(10):
            with pytest.raises(NoNode):
                zk.watch(PATH, "gone")
        assert watches_of(zookeeper_server) == before
        assert connection_of(clusters).client.watches == 0
        zk.create(PATH)
        seen = zk.watch(PATH, "gone")
        zk.set(PATH, b"changed")
        zk.create(f"{PATH}/child")
        with pytest.raises(WatchTimeout):
            seen.wait(0.1)
        zk.delete(f"{PATH}/child")
        zk.delete(PATH)
        assert seen.wait(LONG)[:2] == (Change.DELETED, PATH)


def watches_of(server: ZooKeeperServer) -> int:
    return int(server.ask("wchs").partition("Total watches:")[2])


def test_a_callback_is_given_the_event_and_the_context(clusters: Clusters) -> None:
    create(clusters)
    listener = Listener()
    watch(clusters, callback=listener, context="mine")
    change(clusters)
    await_that(lambda: listener.events)
    assert listener.events == [WatchEvent(Change.CHANGED, PATH)]
    assert listener.contexts == ["mine"]


def test_all_watches_of_a_node_are_told(clusters: Clusters) -> None:
    create(clusters)
    watches = [watch(clusters) for _ in range(20)]
    change(clusters)
    for each in watches:
        assert each.wait(LONG).type is Change.CHANGED


def test_the_root_of_a_chroot_can_be_watched(clusters: Clusters) -> None:
    seen = watch(clusters, "/", "children")
    create(clusters)
    assert seen.wait(LONG) == WatchEvent(Change.CHILD, "/")


def test_a_wait_ends_at_its_timeout(clusters: Clusters) -> None:
    seen = watch(clusters)
    begun = time.monotonic()
    with pytest.raises(WatchTimeout):
        seen.wait(0.2)
    assert 0.2 <= time.monotonic() - begun < 1.2
    assert seen.count == 1


# -- destroying


def test_destroying_wakes_who_waits(clusters: Clusters) -> None:
    seen = watch(clusters)
    woken: list[float] = []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        with pytest.raises(WatchClosed, match="was destroyed"):
            seen.wait(LONG)
        woken.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait(LONG)
    begun = time.monotonic()
    seen.destroy()
    thread.join(LONG)
    assert woken[0] - begun < 1.0
    seen.destroy()  # again does no harm
    assert seen.count == 0


def test_what_comes_after_destroying_is_dropped(clusters: Clusters) -> None:
    create(clusters)
    listener = Listener()
    destroyed = watch(clusters, callback=listener)
    other = watch(clusters)
    destroyed.destroy()
    change(clusters)
    other.wait(LONG)
    assert listener.events == []


def test_a_callback_that_has_not_begun_is_not_called_after_destroying(clusters: Clusters) -> None:
    create(clusters)
    entered, go_on = threading.Event(), threading.Event()

    def slow(_event: WatchEvent, _context: object) -> None:
        entered.set()
        go_on.wait(LONG)

    listener, last = Listener(), Listener()
    watch(clusters, "/slow", callback=slow)
    create(clusters, "/slow")
    assert entered.wait(LONG)
    destroyed = watch(clusters, callback=listener)
    change(clusters)
    assert destroyed.wait(LONG)
    destroyed.destroy()
    watch(clusters, callback=last)
    change(clusters)
    go_on.set()
    await_that(lambda: last.events)
    assert listener.events == []


def test_a_cluster_can_be_closed_in_a_callback(clusters: Clusters) -> None:
    create(clusters)
    kept = watch(clusters, "/other")
    watch(clusters, callback=lambda _event, _context: clusters.close())
    change(clusters)
    with pytest.raises(WatchClosed, match="closed"):
        kept.wait(LONG)
    with pytest.raises(ZKUnavailable):
        clusters.acquire("main")


def test_it_can_be_destroyed_in_its_callback(clusters: Clusters) -> None:
    create(clusters)
    done = threading.Event()

    def callback(_event: WatchEvent, context: object) -> None:
        assert isinstance(context, list)
        context[0].destroy()
        done.set()

    box: list[Watch] = []
    box.append(watch(clusters, callback=callback, context=box))
    change(clusters)
    assert done.wait(LONG)
    assert box[0].count == 0


def test_destroyed_watches_leave_nothing_in_the_client(clusters: Clusters) -> None:
    create(clusters)
    with clusters.acquire("main", LONG) as zk:
        client = connection_of(clusters).client
        for number in range(1000):
            kind: Kind = ("data", "exists", "children")[number % 3]
            zk.watch(PATH if number % 2 else f"/other-{number}", kind).destroy()
        assert client.watches == 0
    assert clusters.status()["main"].watches == 0


def test_closing_the_cluster_wakes_who_waits(clusters: Clusters) -> None:
    seen = watch(clusters)
    threading.Timer(0.05, clusters.close).start()
    with pytest.raises(WatchClosed, match="closed"):
        seen.wait(LONG)


# -- callbacks


def test_a_callback_cannot_wait_for_zookeeper(clusters: Clusters) -> None:
    create(clusters)
    refused: list[str] = []

    def callback(_event: WatchEvent, _context: object) -> None:
        for call in (lambda: clusters.acquire("main"), lambda: zk.get(PATH), lambda: other.wait(1)):
            try:
                call()
            except RuntimeError as error:
                refused.append(str(error))
        done.set()

    done = threading.Event()
    zk = clusters.acquire("main", LONG)
    other = zk.watch("/other")
    zk.watch(PATH, callback=callback)
    change(clusters)
    assert done.wait(LONG)
    assert len(refused) == 3
    zk.release()


def test_a_callback_that_fails_is_logged_and_hinders_nobody(
    clusters: Clusters, caplog: pytest.LogCaptureFixture
) -> None:
    create(clusters)
    listener = Listener()

    def fails(_event: WatchEvent, _context: object) -> None:
        raise ValueError("on purpose")

    watch(clusters, callback=fails)
    change(clusters)
    watch(clusters, callback=listener)
    change(clusters)
    await_that(lambda: listener.events)
    assert "on purpose" in caplog.text


def test_a_slow_callback_is_reported_and_delays_no_waiter(
    clusters: Clusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncstore.zookeeper.watches._SLOW_CALLBACK", 0.01)
    create(clusters)
    entered, go_on = threading.Event(), threading.Event()

    def slow(_event: WatchEvent, _context: object) -> None:
        entered.set()
        go_on.wait(LONG)

    watch(clusters, callback=slow)
    change(clusters)
    assert entered.wait(LONG)
    quick = watch(clusters)
    change(clusters)
    assert quick.wait(LONG)
    time.sleep(0.02)
    go_on.set()
    await_that(lambda: clusters.status()["main"].slow_callbacks == 1)
    assert clusters.status()["main"].slowest_callback >= 0.01


# -- while the connection comes and goes


def test_a_change_during_an_outage_is_told_once_and_as_synthetic(
    ours: Clusters, others: Clusters, proxy: TcpProxy
) -> None:
    create(others)
    listener = Listener()
    seen = watch(ours, callback=listener)
    cut_off(ours, proxy)
    change(others)
    change(others, b"twice")
    proxy.accept()

    assert seen.wait(LONG) == WatchEvent(Change.CHANGED, PATH, synthetic=True)
    change(others)
    await_that(lambda: Change.CHANGED in listener.types)
    with ours.acquire("main", LONG) as zk:
        zk.get(PATH)
    assert [event for event in listener.events if event.type is Change.CHANGED] == [
        WatchEvent(Change.CHANGED, PATH, synthetic=True)
    ]
    assert listener.types[:2] == [Change.SUSPENDED, Change.CONNECTED]


@pytest.mark.parametrize(
    ("kind", "before", "act", "type_"),
    [
        ("data", False, create, Change.CREATED),
        ("exists", True, remove, Change.DELETED),
        ("exists", False, create, Change.CREATED),
        ("gone", True, remove, Change.DELETED),
        ("children", True, lambda clusters: create(clusters, f"{PATH}/child"), Change.CHILD),
        ("children", True, remove, Change.DELETED),
        ("children", False, create, Change.CREATED),
    ],
)
def test_any_change_during_an_outage_is_told(
    ours: Clusters,
    others: Clusters,
    proxy: TcpProxy,
    kind: Kind,
    before: bool,
    act: Callable[[Clusters], None],
    type_: Change,
) -> None:
    if before:
        create(others)
    seen = watch(ours, kind=kind)
    cut_off(ours, proxy)
    act(others)
    proxy.accept()
    assert seen.wait(LONG) == WatchEvent(type_, PATH, synthetic=True)


def test_a_node_removed_and_made_anew_during_an_outage_was_removed(
    ours: Clusters, others: Clusters, proxy: TcpProxy
) -> None:
    create(others)
    seen = watch(ours, kind="exists")
    cut_off(ours, proxy)
    remove(others)
    create(others)
    proxy.accept()
    assert seen.wait(LONG) == WatchEvent(Change.DELETED, PATH, synthetic=True)


@pytest.mark.parametrize("kind", ["data", "exists", "gone", "children"])
def test_events_of_the_session_do_not_end_it(
    ours: Clusters, others: Clusters, proxy: TcpProxy, kind: Kind
) -> None:
    create(others)
    listener = Listener()
    seen = watch(ours, kind=kind, callback=listener)
    for _ in range(5):
        cut_off(ours, proxy)
        proxy.accept()
        await_that(lambda: connection_of(ours).state is State.CONNECTED)
    assert seen.count == 1
    await_that(lambda: connection_of(ours).client.watches == 1)
    assert len(seen._shots) == 1
    if kind == "children":
        create(others, f"{PATH}/child")
    else:
        remove(others)

    event = seen.wait(LONG)
    assert not event.synthetic
    assert not event.session_changed
    assert seen.count == 0
    await_that(lambda: event in listener.events)
    assert listener.types == [Change.SUSPENDED, Change.CONNECTED] * 5 + [event.type]


def test_it_survives_the_session_though_nobody_asks_for_another(
    ours: Clusters, others: Clusters, zookeeper_server: ZooKeeperServer
) -> None:
    create(others)
    listener = Listener()
    kept = watch(ours, callback=listener)
    expire(zookeeper_server.hosts, ours["main"])
    await_that(lambda: Change.CONNECTED in listener.types)
    assert listener.types == [Change.SUSPENDED, Change.ENDED, Change.CONNECTED]
    assert listener.events[2].session_changed
    assert kept.count == 1
    with ours.acquire("main", LONG) as zk:
        assert zk.generation == 2
        zk.exists(PATH)
    change(others)
    assert kept.wait(LONG) == WatchEvent(Change.CHANGED, PATH, session_changed=True)


def test_a_change_between_two_sessions_is_told(
    ours: Clusters, others: Clusters, proxy: TcpProxy, zookeeper_server: ZooKeeperServer
) -> None:
    create(others)
    kept = watch(ours)
    session = connection_of(ours).client.client_id
    cut_off(ours, proxy)
    end_session(zookeeper_server.hosts, session)
    change(others)
    proxy.accept()
    assert kept.wait(LONG) == WatchEvent(Change.CHANGED, PATH, synthetic=True, session_changed=True)


def end_session(hosts: str, client_id: Any) -> None:
    from kazoo.client import KazooClient

    double = KazooClient(hosts, client_id=client_id)
    double.start(timeout=LONG)
    double.stop()
    double.close()


def test_it_cannot_be_made_without_a_connection(ours: Clusters, proxy: TcpProxy) -> None:
    with ours.acquire("main", LONG) as zk:
        cut_off(ours, proxy)
        begun = time.monotonic()
        with pytest.raises(ZKUnavailable):
            zk.watch(PATH, timeout=0.2)
        assert time.monotonic() - begun < 1.2
    assert ours.status()["main"].watches == 0
    proxy.accept()


def test_more_watches_than_fit_into_a_pipe_survive_an_outage(
    ours: Clusters, others: Clusters, proxy: TcpProxy
) -> None:
    with ours.acquire("main", LONG) as zk:
        all_of_them = [zk.watch(f"/node-{number}") for number in range(1000)]
    cut_off(ours, proxy)
    create(others, "/node-7")
    proxy.accept()
    assert all_of_them[7].wait(LONG).synthetic
    await_that(lambda: connection_of(ours).client.watches == 999)
    create(others, "/node-999")
    assert not all_of_them[999].wait(LONG).synthetic
    assert sum(each.count for each in all_of_them) == 998


@pytest.mark.soak
def test_no_change_is_ever_missed_while_connections_break(
    ours: Clusters, others: Clusters, proxy: TcpProxy
) -> None:
    """Cut while watches are made, fire and are armed again: each sees the value after its own."""
    create(others, value=b"0")
    stop = threading.Event()

    def cut() -> None:
        while not stop.is_set():
            time.sleep(0.05)
            proxy.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        for number in range(1, 300):
            try:
                seen = watch(ours)
            except ZKUnavailable:
                continue
            if number % 2:
                time.sleep(0.02)
            change(others, b"%d" % number)
            assert seen.wait(LONG).type is Change.CHANGED
    finally:
        stop.set()
        cutter.join()
