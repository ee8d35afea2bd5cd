"""An operator's say in a group of memcacheds: every refusal, and what each word does for this process and for all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from syncstore.cache.api import BackendUnavailable, Store
from syncstore.cache.memcached.control import ANSWERING, DOWN, UP, UnknownServer
from syncstore.cache.memcached.records import Standing, first_epoch
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable
from syncstore.storage.sql import migrate
from syncstore.testing.memcached_pools import (
    LEASE,
    DeadPort,
    OpenPool,
    PoolDescription,
    PoolServer,
    PoolStand,
    keys_of,
    open_pool,
)
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.record_stores import open_sql_records, open_zookeeper_records
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer

Open = Callable[..., OpenPool]
DATABASE = "postgresql"
TAGS = [b"%d" % number for number in range(500)]


@pytest.fixture
def open_one(memcacheds: PoolStand, tmp_path: Path) -> Iterator[Open]:
    """Opens pools, closed at the end of the test."""
    with ExitStack() as pools:

        def open_it(description: PoolDescription | None = None, **more: Any) -> OpenPool:
            described = memcacheds.describe(tmp_path, **more) if description is None else description
            return pools.enter_context(memcacheds.open(described))

        yield open_it


@pytest.fixture
def opened(open_one: Open) -> OpenPool:
    """Three servers in use."""
    return open_one()


@pytest.fixture
def fourth() -> Iterator[MemcachedServer]:
    """A server that the group does not have."""
    with MemcachedServer() as server:
        yield server


def looked_at(opened: OpenPool) -> object:
    """All that a refusal must leave as it is."""
    group = opened.group
    return (
        [(one.name, one.address, one.epoch) for one in opened.control.states()],
        [opened.control.find_server(tag) for tag in TAGS],
        [(member.retry_interval, member.cache) for member in group.members.values()],
        [state.name for state in group.servers],
    )


# -- refusals

BAD_NUMBERS: dict[str, dict[str, Any]] = {
    "a timeout of nothing": {"timeout": 0},
    "a timeout below nothing": {"timeout": -1.0},
    "a timeout that is none": {"timeout": float("nan")},
    "an interval of nothing": {"retry_interval": 0},
    "an interval below never": {"retry_interval": -2},
    "an interval between never and nothing": {"retry_interval": -0.5},
    "an interval that is none": {"retry_interval": float("nan")},
}
BAD_SERVERS: dict[str, dict[str, Any]] = {
    **BAD_NUMBERS,
    "no weight": {"weight": 0},
    "a weight below nothing": {"weight": -1},
    "half a weight": {"weight": 1.5},
    "port 0": {"port": 0},
    "port 65536": {"port": 65536},
    "a port below nothing": {"port": -1},
    "no host": {"host": ""},
    "a host of two words": {"host": "one two"},
    "a name that is taken": {"name": "a"},
    "a name that no store keeps": {"name": "n" * 256},
}


@pytest.mark.parametrize("what", BAD_SERVERS)
def test_a_bad_server_is_not_added(opened: OpenPool, what: str) -> None:
    before = looked_at(opened)
    with pytest.raises(ValueError):  # noqa: PT011 - the words are for people
        opened.control.add_server(**{"host": HOST, "port": free_port(), **BAD_SERVERS[what]})
    assert looked_at(opened) == before


def test_a_server_is_not_added_twice(opened: OpenPool, memcacheds: PoolStand) -> None:
    before = looked_at(opened)
    with pytest.raises(ValueError, match="already"):
        opened.control.add_server(HOST, memcacheds.servers["b"].port, name="another")
    assert looked_at(opened) == before


@pytest.mark.parametrize("what", BAD_NUMBERS)
def test_bad_parameters_are_not_set(opened: OpenPool, memcacheds: PoolStand, what: str) -> None:
    before = looked_at(opened)
    with pytest.raises(ValueError):  # noqa: PT011 - as above
        opened.control.set_server_params(
            HOST, memcacheds.servers["b"].port, **{"status": False, **BAD_NUMBERS[what]}
        )
    assert looked_at(opened) == before


@pytest.mark.parametrize("word", ["set_server_params", "get_server_status", "check_state", "rejoin"])
def test_a_server_that_the_group_has_not_is_unknown(
    opened: OpenPool, fourth: MemcachedServer, word: str
) -> None:
    with pytest.raises(UnknownServer, match=str(fourth.port)):
        getattr(opened.control, word)(HOST, fourth.port)
    with pytest.raises(UnknownServer, match="elsewhere"):
        getattr(opened.control, word)("elsewhere")
    with pytest.raises(ValueError, match="port"):
        getattr(opened.control, word)(HOST, 65536)


# -- a server more


def test_a_server_that_is_added_takes_its_share(opened: OpenPool, fourth: MemcachedServer) -> None:
    pool, control = opened.pool, opened.control
    homes = [control.find_server(tag) for tag in TAGS]
    control.add_server(HOST, fourth.port, name="d")
    moved = [(old, new) for old, new in zip(homes, map(control.find_server, TAGS), strict=True) if old != new]
    assert {new for _, new in moved} == {"d"}
    opened.await_use("d")
    keys = keys_of(control, "d", 20)
    pool.change([Store(key, b"x") for key in keys])
    assert [item and item.value for item in pool.fetch(keys)] == [b"x"] * 20
    assert control.get_extended_stats()["d"]["items"] >= 20  # type: ignore[index,operator]  # it answers
    assert fourth.alive


def test_its_name_is_its_address_where_none_is_given(opened: OpenPool, fourth: MemcachedServer) -> None:
    opened.control.add_server(HOST, fourth.port, weight=2)
    assert fourth.address in opened.group.members
    assert opened.group.weight(fourth.address) == 2


@pytest.mark.parametrize("status", [True, False])
def test_a_server_may_be_added_as_out_of_use(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path, status: bool
) -> None:
    """5.4.5: it is placed as any other, and not called before its interval has passed."""
    described = memcacheds.describe(tmp_path)
    port = free_port()
    as_settings = described._replace(servers=(*described.servers, PoolServer("d", port)), keep=False)
    with open_pool(as_settings) as other:
        homes = [other.control.find_server(tag) for tag in TAGS]
    opened = open_one(described)
    interval = 5 * LEASE
    with DeadPort(port) as dead:
        opened.control.add_server(HOST, port, name="d", retry_interval=interval, status=status)
        assert [opened.control.find_server(tag) for tag in TAGS] == homes
        added = opened.group.servers.clock.monotonic()
        if status:
            return
        key = keys_of(opened.control, "d", 1)[0]
        with pytest.raises(BackendUnavailable):
            opened.pool.fetch([key])
        await_that(lambda: dead.calls > 0, what="it is tried at last")
    assert dead.times[0] - added >= interval


def test_a_server_that_is_added_and_fails_is_told_of(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path, fourth: MemcachedServer
) -> None:
    told: list[tuple[str, int, str]] = []
    opened = open_one(memcacheds.describe(tmp_path)._replace(on_failure=lambda *words: told.append(words)))
    opened.control.add_server(HOST, fourth.port, name="d", timeout=0.3)
    opened.await_use("d")
    key = keys_of(opened.control, "d", 1)[0]
    fourth.kill9()
    with pytest.raises(BackendUnavailable):
        opened.pool.store(key, b"x")
    await_that(lambda: bool(told), what="somebody is told")
    assert "d" in told[0][0] or told[0][1] == fourth.port


# -- parameters


@pytest.mark.parametrize("strategy", ["consistent", "standard"])
def test_parameters_move_no_key_and_change_nothing_else(
    open_one: Open, memcacheds: PoolStand, strategy: str
) -> None:
    opened = open_one(strategy=strategy)
    homes = [opened.control.find_server(tag) for tag in TAGS]
    for name, server in memcacheds.servers.items():
        before = opened.group.members[name]
        opened.control.set_server_params(HOST, server.port, timeout=0.5)
        opened.control.set_server_params(HOST, server.port, retry_interval=77.0)
        opened.control.set_server_params(HOST, server.port)
        after = opened.group.members[name]
        assert (after.name, after.cache.address, after.state) == (name, before.cache.address, before.state)
        assert after.retry_interval == 77.0
        assert [opened.control.find_server(tag) for tag in TAGS] == homes
    assert {one.standing for one in opened.control.states()} == {Standing.UP}
    for tag in TAGS:
        opened.pool.store(tag, tag)
    assert [item and item.value for item in opened.pool.fetch(TAGS)] == TAGS


def test_a_new_timeout_leaves_no_connection_of_the_old_one(opened: OpenPool, memcacheds: PoolStand) -> None:
    server = memcacheds.servers["a"]
    before = opened.group.members["a"]
    opened.pool.store(keys_of(opened.control, "a", 1)[0], b"x")
    opened.control.set_server_params(HOST, server.port, timeout=1.0)
    for provider in (before.cache, before.marks):
        await_that(lambda provider=provider: provider._pool.connections == 0, what="none is open")  # type: ignore[misc]  # its own


def test_a_server_is_put_out_of_use_for_all_and_back(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path
) -> None:
    description = memcacheds.describe(tmp_path, retry_interval=-1.0)
    one, other = open_one(description), open_one(description)
    port = memcacheds.servers["b"].port
    key = keys_of(one.control, "b", 1)[0]
    one.pool.store(key, b"before")
    epoch = one.state_of("b")

    one.control.set_server_params(HOST, port, status=False)
    assert other.control.get_server_status(HOST, port) == DOWN
    other.await_failure("b")
    with pytest.raises(BackendUnavailable):
        other.pool.fetch([key])
    (state,) = (state for state in other.control.states() if state.name == "b")
    assert (state.standing, state.address) == (Standing.HELD, memcacheds.servers["b"].address)
    assert "program" in state.reason
    assert state.by
    assert abs(state.since / 1000 - SystemClock().seconds()) < 60

    other.control.set_server_params(HOST, port, status=True)
    assert one.control.get_server_status(HOST, port) == ANSWERING
    assert one.state_of("b") > epoch
    one.await_use("b")
    assert one.pool.fetch([key]) == [None]


def test_without_never_it_comes_back_by_itself(opened: OpenPool, memcacheds: PoolStand) -> None:
    port = memcacheds.servers["b"].port
    opened.control.set_server_params(HOST, port, status=False)
    assert opened.control.get_server_status(HOST, port) == DOWN
    opened.await_use("b")


# -- questions


def test_the_states_are_those_of_all_servers(opened: OpenPool, memcacheds: PoolStand) -> None:
    states = opened.control.states()
    assert [(state.name, state.address) for state in states] == [
        (name, server.address) for name, server in memcacheds.servers.items()
    ]
    assert all(state.epoch == opened.state_of(state.name) for state in states)


def test_of_a_server_that_nobody_has_asked_for_nothing_is_known(
    memcacheds: PoolStand, tmp_path: Path
) -> None:
    with open_pool(memcacheds.describe(tmp_path, keep=False)) as opened:
        port = memcacheds.servers["a"].port
        assert {state.standing for state in opened.control.states()} == {None}
        assert opened.control.get_server_status(HOST, port) == DOWN


@pytest.mark.parametrize("word", ["rejoin", "hold"])
def test_what_is_said_of_an_unknown_server_does_not_make_old_names_good(
    memcacheds: PoolStand, tmp_path: Path, word: str
) -> None:
    """A new life of the store of states begins with epochs that no earlier one has had."""
    port = memcacheds.servers["a"].port
    begun = first_epoch(SystemClock().seconds())
    with open_pool(memcacheds.describe(tmp_path, keep=False)) as opened:
        if word == "hold":
            opened.control.set_server_params(HOST, port, retry_interval=-1, status=False)
        assert opened.control.rejoin(HOST, port)
        assert opened.group.members["a"].state.trusted() == opened.state_of("a")
        assert opened.state_of("a") >= begun


def test_a_dead_server_has_no_stats_and_the_others_have(opened: OpenPool, memcacheds: PoolStand) -> None:
    memcacheds.servers["c"].kill9()
    stats = opened.control.get_extended_stats()
    assert list(stats) == list(memcacheds.servers)
    assert stats["c"] is None
    for name in ("a", "b"):
        assert stats[name] is not None
        assert stats[name]["pid"] == memcacheds.servers[name].pid  # type: ignore[index]  # it is a mapping


@pytest.mark.parametrize("trouble", ["kill9", "freeze"])
def test_checking_asks_the_server_and_changes_nothing(
    opened: OpenPool, memcacheds: PoolStand, trouble: str
) -> None:
    server = memcacheds.servers["a"]
    epoch = opened.state_of("a")
    assert opened.control.check_state(HOST, server.port) is True
    assert opened.control.get_server_status(HOST, server.port) == ANSWERING
    getattr(server, trouble)()
    for _ in range(5):
        assert opened.control.check_state(HOST, server.port) is False
    assert opened.control.get_server_status(HOST, server.port) == UP
    assert opened.state_of("a") == epoch


def test_a_check_leaves_nothing_behind(open_one: Open, memcacheds: PoolStand) -> None:
    opened = open_one(keep=False)
    port = memcacheds.servers["a"].port
    before = opened.group.members["a"].cache.status()["items"]
    for _ in range(5):
        assert opened.control.check_state(HOST, port)
    assert opened.group.members["a"].cache.status()["items"] == before


def test_a_key_is_found_whether_its_server_is_in_use_or_not(opened: OpenPool, memcacheds: PoolStand) -> None:
    homes = {tag: opened.control.find_server(tag) for tag in TAGS}
    assert set(homes.values()) == set(memcacheds.servers)
    memcacheds.servers["a"].kill9()
    with pytest.raises(BackendUnavailable):
        opened.pool.store(keys_of(opened.control, "a", 1)[0], b"x")
    assert {tag: opened.control.find_server(tag + b":key") for tag in TAGS} == homes


# -- coming back


def test_a_server_that_does_not_answer_does_not_come_back(opened: OpenPool, memcacheds: PoolStand) -> None:
    server = memcacheds.servers["a"]
    opened.control.set_server_params(HOST, server.port, retry_interval=-1, status=False)
    server.freeze()
    epoch = opened.state_of("a")
    assert opened.control.rejoin(HOST, server.port) is False
    assert opened.state_of("a") == epoch
    server.thaw()
    assert opened.control.rejoin(HOST, server.port) is True
    assert opened.control.rejoin(HOST, server.port) is True  # it is in use
    opened.await_use("a")


@pytest.mark.parametrize("attempts", [0, 20])
def test_coming_back_waits_until_all_know(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path, attempts: int
) -> None:
    """One lease since the failure; where others stand in, another one since its return began."""
    lease = 0.5
    description = memcacheds.describe(tmp_path, retry_interval=-1.0, lease=lease, attempts=attempts)
    opened = open_one(description._replace(keep=False))
    port = memcacheds.servers["a"].port
    clock = opened.group.servers.clock
    opened.control.set_server_params(HOST, port, retry_interval=-1, status=False)
    began = clock.monotonic()
    assert opened.control.rejoin(HOST, port)
    assert clock.monotonic() - began >= lease * (2 if attempts else 1) * 0.99
    standings = [transition.standing for transition in opened.transitions[-3:]]
    assert standings[-1] is Standing.UP
    assert (Standing.RETURNING in standings) == bool(attempts)


# -- seen by others

STORES = ["file", "sql", "zookeeper"]


@pytest.mark.parametrize("kind", STORES)
def test_another_process_sees_a_change_at_its_next_question(
    memcacheds: PoolStand, tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """5.4.7."""
    description = memcacheds.describe(tmp_path, retry_interval=-1.0, lease=0.5)
    if kind == "sql":
        url = request.getfixturevalue("one_database_url")
        migrate.upgrade(url)
        description = description._replace(open_store=functools.partial(open_sql_records, url))
    elif kind == "zookeeper":
        server: ZooKeeperServer = request.getfixturevalue("zookeeper_server")
        path = f"/{description.prefix}"
        description = description._replace(
            open_store=functools.partial(open_zookeeper_records, server.hosts, path=path)
        )
    port = memcacheds.servers["b"].port
    with memcacheds.open(description) as one, memcacheds.open(description) as other:
        assert other.control.get_server_status(HOST, port) == ANSWERING
        for _ in range(2):
            one.control.set_server_params(HOST, port, status=False)
            assert other.control.get_server_status(HOST, port) == DOWN
            one.control.set_server_params(HOST, port, status=True)
            assert other.control.get_server_status(HOST, port) == ANSWERING


def test_without_the_store_of_states_nothing_is_said(opened: OpenPool, memcacheds: PoolStand) -> None:
    port = memcacheds.servers["a"].port
    records = opened.group.servers.records

    def away(*_: object) -> Any:
        raise Unavailable("for the test")

    records.read = records.advance = away  # type: ignore[assignment,method-assign]  # the fault
    for ask in (
        opened.control.states,
        lambda: opened.control.get_server_status(HOST, port),
        lambda: opened.control.rejoin(HOST, port),
    ):
        with pytest.raises(Unavailable):
            ask()
    assert opened.control.check_state(HOST, port)
