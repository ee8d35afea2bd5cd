"""Servers that are away, frozen, behind the others or cut off; and what a value may not do to a connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, Self

import pytest

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Conflict,
    NotFound,
    Provider,
    Remove,
    Store,
    Token,
    TooLarge,
)
from syncstore.cache.zookeeper.provider import ZooKeeperProvider
from syncstore.testing.cache_conformance.rooms import Child, value_of
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.tcp_proxy import SILENT, WELL, Fault, TcpProxy
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperEnsemble, ZooKeeperServer

SHORT = 0.5
SLACK = 0.5
CALLS: dict[str, Callable[[Provider], object]] = {
    "retrieve": lambda cache: cache.retrieve(b"key"),
    "fetch and reserve": lambda cache: cache.fetch([b"key", b"other"], reserve=10),
    "store": lambda cache: cache.store(b"key", b"x"),
    "store where nothing is": lambda cache: cache.store(b"new", b"x", expect=ABSENT),
    "remove": lambda cache: cache.remove(b"key"),
    "change": lambda cache: cache.change([Remove(b"key"), Store(b"other", b"x")]),
    "cull": lambda cache: cache.cull(),
    "status": lambda cache: cache.status(),
    "iterate": lambda cache: list(cache.iterate()),
}

Open = Callable[..., Any]


@pytest.fixture
def ensemble(zookeeper_ensemble: ZooKeeperEnsemble) -> Iterator[ZooKeeperEnsemble]:
    yield zookeeper_ensemble.start()
    for server in zookeeper_ensemble.servers:
        if server.alive:
            server.thaw()


@pytest.fixture(scope="module")
def _server() -> Iterator[ZooKeeperServer]:
    with started(ZooKeeperServer) as server:
        yield server


@pytest.fixture
def server(_server: ZooKeeperServer) -> ZooKeeperServer:
    """A ZooKeeper of this module alone."""
    if not _server.alive:
        _server.start()
    _server.thaw()
    return _server


def answers_again(cache: Provider, key: bytes) -> bytes | None:
    """The value, when the service is there again."""
    found: list[bytes | None] = []

    def ask() -> bool:
        try:
            found.append(value_of(cache, key))
        except BackendUnavailable:
            return False
        return True

    await_that(ask)
    return found[0]


# -- no answers


def test_without_a_quorum_every_call_answers_in_time(opened: Open, ensemble: ZooKeeperEnsemble) -> None:
    cache = opened(ensemble.hosts, timeout=SHORT).cache
    await_that(lambda: stored(cache))
    for server in ensemble.servers[1:]:
        server.kill9()
    for name, call in CALLS.items():
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            call(cache)
        assert time.monotonic() - began < SHORT + SLACK, name
    ensemble.start()
    assert answers_again(cache, b"key") == b"x"


def stored(cache: Provider) -> bool:
    try:
        cache.store(b"key", b"x")
    except BackendUnavailable:
        return False
    return True


def test_a_server_that_is_started_later_is_found(opened: Open) -> None:
    """Without a restart of ours."""
    server = ZooKeeperServer(port=free_port())
    began = time.monotonic()
    cache = opened(server.hosts, timeout=SHORT).cache
    assert time.monotonic() - began < 1
    with pytest.raises(BackendUnavailable):
        cache.store(b"key", b"x")
    assert time.monotonic() - began < SHORT + SLACK + 1
    try:
        server.start()
        await_that(lambda: stored(cache))
        assert value_of(cache, b"key") == b"x"
    finally:
        server.close()


@pytest.mark.parametrize("fault", [SILENT, Fault(swallow_replies=True)], ids=["silent", "no-replies"])
def test_a_change_without_an_answer_is_unknown_and_made_once_at_most(
    opened: Open, server: ZooKeeperServer, fault: Fault
) -> None:
    others = opened(server.hosts).cache
    with TcpProxy(server.port) as proxy:
        cache = opened(proxy.address, timeout=SHORT).cache
        await_that(lambda: stored(cache))
        token = others.store(b"key", b"0")
        proxy.fault = fault
        calls: list[Callable[[], object]] = [
            lambda: cache.store(b"key", b"1", expect=token),
            lambda: cache.store(b"new", b"1", expect=ABSENT),
            lambda: cache.store(b"loose", b"1"),
            lambda: cache.change_later([Store(b"later", b"1")]),
        ]
        for call in calls:
            began = time.monotonic()
            with suppress(BackendUnavailable):
                call()
            assert time.monotonic() - began < SHORT + SLACK + 1
        proxy.fault = WELL
        proxy.cut()
        assert answers_again(cache, b"key") in (b"0", b"1")
        for key in (b"key", b"new", b"loose"):
            item = others.fetch([key])[0]
            assert item is None or item.token.number <= token.number + 1


@pytest.mark.parametrize("after", [0, 1, 30, 70, 130])
def test_a_connection_that_breaks_is_not_noticed_by_readers(
    opened: Open, server: ZooKeeperServer, after: int
) -> None:
    others = opened(server.hosts).cache
    with TcpProxy(server.port) as proxy:
        cache = opened(proxy.address).cache
        token = cache.store(b"key", b"1")
        others.store(b"key", b"2", expect=token)
        proxy.fault = Fault(cut_after=after)
        timer = threading.Timer(0.2, lambda: setattr(proxy, "fault", WELL))
        timer.start()
        assert cache.fetch([b"key", b"none"])[0] == others.retrieve(b"key")
        timer.join()


def test_a_change_is_sent_once(opened: Open, server: ZooKeeperServer) -> None:
    """Whatever breaks: a number that is counted up without a condition shows each time."""
    others = opened(server.hosts).cache
    first = others.store(b"key", b"0")
    with TcpProxy(server.port) as proxy:
        cache = opened(proxy.address).cache
        confirmed = unknown = 0
        for after in range(0, 140, 10):
            assert answers_again(cache, b"key") is not None
            proxy.fault = Fault(cut_after=after)
            try:
                cache.store(b"key", b"x")
                confirmed += 1
            except BackendUnavailable:
                unknown += 1
            proxy.fault = WELL
        assert unknown > 0
        last = answers_again(cache, b"key")
        assert last is not None
        made = others.retrieve(b"key").token.number - first.number
        assert confirmed <= made <= confirmed + unknown


def test_a_change_that_expects_something_is_not_sent_again(opened: Open, server: ZooKeeperServer) -> None:
    """Or it would find what it has itself stored, and be refused."""
    with TcpProxy(server.port) as proxy:
        cache = opened(proxy.address).cache
        cache.store(b"key", b"0")
        for after in range(0, 140, 10):  # so that their buckets are there
            cache.store(b"new%d" % after, b"x")
            cache.remove(b"new%d" % after)
        unknown = 0
        for after in range(0, 140, 10):
            assert answers_again(cache, b"key") == b"0"
            proxy.fault = Fault(cut_after=after)
            try:
                cache.store(b"new%d" % after, b"x", expect=ABSENT)
            except BackendUnavailable:
                unknown += 1
            proxy.fault = WELL
        assert unknown > 0


# -- never old


@pytest.fixture(scope="module")
def _far() -> Iterator[FarFollower]:
    far = started(FarFollower)
    yield far
    far.close()


@pytest.fixture
def far(_far: FarFollower) -> Iterator[FarFollower]:
    yield _far
    _far.near()


class FarFollower:
    """Three ZooKeepers, of which one hears from the leader by ways that can be made slow."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        quorum, election = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
        self.ways = [self._stack.enter_context(TcpProxy(port)) for port in quorum[:2]]
        self.servers: list[ZooKeeperServer] = []
        for member in range(3):
            ports = [way.port for way in self.ways] + quorum[2:] if member == 2 else quorum
            peers = [f"server.{n + 1}={HOST}:{ports[n]}:{election[n]}" for n in range(3)]
            server = ZooKeeperServer(member=member + 1, peers=peers)
            self._stack.callback(server.close)
            self.servers.append(server)

    def start(self) -> Self:
        """The far one last, so that another leads."""
        for server in self.servers[:2]:
            server.run()
        await_that(lambda: {server.mode for server in self.servers[:2]} == {"leader", "follower"})
        self.servers[2].run()
        await_that(lambda: self.servers[2].mode == "follower")
        return self

    def recede(self, seconds: float) -> None:
        """From now on it hears of all that happens so much later."""
        for way in self.ways:
            way.fault = Fault(delay=seconds)

    def near(self) -> None:
        for way in self.ways:
            way.fault = WELL

    def close(self) -> None:
        self._stack.close()


@pytest.mark.parametrize("agreed", [False, True], ids=["synced", "agreed"])
def test_a_follower_that_hears_late_gives_no_old_value(opened: Open, far: FarFollower, agreed: bool) -> None:
    theirs = opened(far.servers[0].hosts).cache
    ours, cluster = opened(far.servers[2].hosts, agreed=agreed)
    token = theirs.store(b"key", b"0")
    assert value_of(ours, b"key") == b"0"
    node = ours._places.of(b"key").node
    far.recede(0.2)
    lagged = 0
    for number in range(1, 4):
        token = theirs.store(b"key", b"%d" % number, expect=token)
        with cluster.acquire() as zk:
            lagged += zk.get(node).stat.version < token.number
        item = ours.fetch([b"key"], reserve=10 if number == 2 else 0)[0]
        assert (item.value, item.token) == (b"%d" % number, token)
        token = ours.store(b"key", b"mine", expect=token)
    assert lagged > 0
    theirs.remove(b"key")
    assert value_of(ours, b"key") is None


@pytest.mark.parametrize("agreed", [False, True], ids=["synced", "agreed"])
def test_a_follower_that_lags_gives_no_old_value(
    opened: Open, ensemble: ZooKeeperEnsemble, agreed: bool
) -> None:
    leader, follower = ensemble.leader, ensemble.follower
    theirs = opened(leader.hosts).cache
    ours = opened(follower.hosts, agreed=agreed).cache
    token = theirs.store(b"key", b"0")
    for number in range(1, 16):
        assert value_of(ours, b"key") == b"%d" % (number - 1)
        follower.freeze()
        token = theirs.store(b"key", b"%d" % number, expect=token)
        theirs.change([Store(b"more%d" % each, b"x" * 1000) for each in range(100)])
        follower.thaw()
        seen = ours.fetch([b"key", b"more99"], reserve=10 if number % 2 else 0)[0]
        assert seen is not None
        assert (seen.value, seen.token) == (b"%d" % number, token)


def test_a_follower_that_lags_refuses_nothing_wrongly(opened: Open, ensemble: ZooKeeperEnsemble) -> None:
    """A token that another process has from the leader is good, and what is gone is gone."""
    leader, follower = ensemble.leader, ensemble.follower
    theirs, ours = opened(leader.hosts).cache, opened(follower.hosts).cache
    token = theirs.store(b"key", b"0")
    assert value_of(ours, b"key") == b"0"
    for number in range(1, 6):
        follower.freeze()
        token = theirs.store(b"key", b"%d" % number, expect=token)
        follower.thaw()
        token = ours.store(b"key", b"mine", expect=token)
    follower.freeze()
    theirs.remove(b"key")
    follower.thaw()
    with pytest.raises(NotFound):
        ours.remove(b"key")


def test_a_leader_that_leads_nobody_gives_nothing_where_reads_are_agreed(
    opened: Open, ensemble: ZooKeeperEnsemble
) -> None:
    """With reads that are synced it gives what it remembers: what remains, as the provider says."""
    leader = ensemble.leader
    agreed = opened(leader.hosts, timeout=SHORT, agreed=True).cache
    synced = opened(leader.hosts, timeout=SHORT).cache
    await_that(lambda: stored(agreed))
    assert answers_again(synced, b"key") == b"x"
    followers = [server for server in ensemble.servers if server is not leader]
    for server in followers:
        server.freeze()
    assert value_of(synced, b"key") == b"x"
    with pytest.raises(BackendUnavailable):
        agreed.retrieve(b"key")
    for server in followers:
        server.thaw()
    assert answers_again(agreed, b"key") == b"x"


# -- what a value may not do


def test_a_value_that_is_too_large_does_not_break_the_connection(opened: Open) -> None:
    cache, cluster = opened()
    cache.store(b"key", b"x")
    connection = cluster.connection
    states: list[object] = []
    notify = connection._notify

    def listen(*told: object) -> None:
        states.append(told)
        notify(*told)

    connection._notify = listen
    longest = b"\xff" * cache.limits.max_key
    limit = cache.limits.max_value
    for key in (b"key", longest):
        for expect in (None, ABSENT):
            with pytest.raises(TooLarge):
                cache.store(key, b"x" * (limit + 1), expect=expect)
        with pytest.raises(TooLarge):
            cache.store(key, b"x" * (limit * 3))
    cache.change_later([Store(b"key", b"x" * (limit + 1))])
    token = cache.store(longest, b"x" * limit, expect=ABSENT)
    token = cache.store(longest, b"y" * limit, expect=token)
    assert cache.retrieve(longest).value == b"y" * limit
    outcomes = cache.change([Store(longest, b"z" * limit), Store(b"key", b"z" * limit), Remove(longest)])
    assert [type(outcome) for outcome in outcomes] == [Token, Token, type(None)]
    assert states == []
    assert connection.connects == 1


# -- processes, restarts


@pytest.mark.parametrize("values", [160, pytest.param(1000, marks=pytest.mark.soak)])
def test_eight_children_and_their_parent_get_their_own_answers(opened: Open, values: int) -> None:
    """Forked from a process that has used it: each stores and finds so many."""
    cache = opened().cache
    cache.store(b"parent", b"before")
    cache.change_later([Store(b"later", b"x")])

    def work(number: int) -> None:
        for turn in range(values // 8):
            keys = [b"child%d.%d.%d" % (number, turn, each) for each in range(8)]
            outcomes = cache.change([Store(key, b"of " + key) for key in keys])
            found = cache.fetch(keys)
            assert [item and (item.value, item.token) for item in found] == [
                (b"of " + key, outcome) for key, outcome in zip(keys, outcomes, strict=True)
            ]
        assert value_of(cache, b"parent") == b"before"

    children = [Child(lambda n=n: work(n)) for n in range(8)]  # type: ignore[misc]  # each lambda has its n
    assert [child.join() for child in children] == [""] * 8
    work(8)


def test_what_does_not_expire_stays(opened: Open, server: ZooKeeperServer) -> None:
    restarts(opened, server, 1)


@pytest.mark.soak
def test_what_does_not_expire_survives_ten_restarts(opened: Open, server: ZooKeeperServer) -> None:
    restarts(opened, server, 10)


def restarts(opened: Open, server: ZooKeeperServer, times: int) -> None:
    cache: ZooKeeperProvider = opened(server.hosts).cache
    keys = [b"kept%d" % number for number in range(50)]
    tokens = cache.change([Store(key, b"of " + key) for key in keys])
    for _ in range(times):
        server.restart()
        assert answers_again(cache, keys[0]) == b"of " + keys[0]
        cache.cull()
        found = cache.fetch(keys)
        assert [item and (item.value, item.token, item.expires) for item in found] == [
            (b"of " + key, token, 0) for key, token in zip(keys, tokens, strict=True)
        ]
    with pytest.raises(Conflict):
        cache.store(keys[0], b"x", expect=ABSENT)
    cache.remove(keys[0])
    with pytest.raises(NotFound):
        cache.remove(keys[0])
    assert {key for key, _ in cache.iterate()} >= set(keys[1:])
