"""What is made of the settings of memcacheds: the group, where its states are, and what tells it from another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncstore.app_memcached import describe, open_group, open_placement
from syncstore.cache.memcached.group import Group
from syncstore.cache.memcached.records import HomeRecords
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.settings import Settings, read_settings
from syncstore.storage.sql import migrate
from syncstore.testing.sql_store import open_sql_store

THREE = "10.0.0.1:11211 name=a weight=2\n 10.0.0.2:11211 name=b\n /run/c.sock timeout=0.3 retry_interval=7"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[HomeRecords]:
    url = f"sqlite:///{tmp_path}/sync.db"
    migrate.upgrade(url)
    store = open_sql_store(url, SystemClock())
    yield store.storage.records
    store.database.close()


OpenGroup = Callable[..., tuple[Settings, Group]]


@pytest.fixture
def open_one(records: HomeRecords, tmp_path: Path) -> Iterator[OpenGroup]:
    """Opens the group of settings, given as keywords with _ for the dot."""
    opened: list[Group] = []

    def open_one(servers: str = THREE, **more: str) -> tuple[Settings, Group]:
        ini = {f"memcached.{key}": value for key, value in more.items()}
        settings = read_settings(
            {"cache.provider": "memcached", "memcached.servers": servers, **ini}, {}, tmp_path
        )
        opened.append(open_group(settings, records, SystemClock()))
        return settings, opened[-1]

    yield open_one
    for group in opened:
        group.close()


# -- the group


def test_the_members_are_those_of_the_settings(open_one: OpenGroup) -> None:
    settings, group = open_one(retry_interval="20")
    assert {name: str(one.cache.address) for name, one in group.members.items()} == {
        "a": "10.0.0.1:11211",
        "b": "10.0.0.2:11211",
        "/run/c.sock": "unix:/run/c.sock",
    }
    assert [one.retry_interval for one in group.members.values()] == [20, 20, 7]
    assert [group.weight(name) for name in group.members] == [2, 1, 1]
    placement = open_placement(settings)
    tags = [b"%d" % uid for uid in range(100)]
    assert [group.home(tag).name for tag in tags] == [placement.find(tag) for tag in tags]


def test_with_manual_rejoin_no_member_comes_back_by_itself(open_one: OpenGroup) -> None:
    _, group = open_one(rejoin="manual")
    assert {one.retry_interval for one in group.members.values()} == {-1}


def test_the_rules_are_those_of_the_settings(open_one: OpenGroup) -> None:
    rules = open_one(state_lease="2", failure_limit="5", allow_failover="true")[1].servers.rules
    assert (rules.lease, rules.failure_limit, rules.stand_ins) == (2.0, 5, True)


@pytest.mark.parametrize(
    "name", ["no_such_module:function", "os:no_such_function", "os:sep"], ids=["module", "function", "text"]
)
def test_a_function_that_cannot_be_called_is_refused_at_once(open_one: OpenGroup, name: str) -> None:
    with pytest.raises(ConfigError, match=f"memcached.on_failure: {name} cannot be used"):
        open_one(on_failure=name)


# -- where the states are


def test_the_states_are_in_the_database_unless_something_else_is_said(
    open_one: OpenGroup, records: HomeRecords, tmp_path: Path
) -> None:
    inside = open_one()[1].servers
    assert inside.records is records
    assert inside.in_sql
    for state in (f"file:{tmp_path}/mc.state", "memory"):
        outside = open_one(state=state)[1].servers
        assert outside.records.name == state
        assert not outside.in_sql


# -- what tells it from another one


def said(open_one: OpenGroup, servers: str = THREE, **more: str) -> str:
    return str(describe(*open_one(servers, **more)))


def test_the_order_and_the_addresses_of_servers_tell_nothing(open_one: OpenGroup) -> None:
    assert said(open_one, "one:1 name=a two:2 name=b") == said(open_one, "two:2 name=b three:3 name=a")


@pytest.mark.parametrize(
    "more",
    [
        {"servers": "one:1 name=a two:2 name=b weight=2"},
        {"servers": "one:1 name=a"},
        {"servers": "one:1 name=a two:2 name=B"},
        {"hash_strategy": "standard"},
        {"allow_failover": "true"},
        {"state_lease": "2"},
        {"state": "memory"},
    ],
    ids=str,
)
def test_where_keys_are_and_what_is_believed_for_how_long_tells_groups_apart(
    open_one: OpenGroup, more: dict[str, str]
) -> None:
    two = "one:1 name=a two:2 name=b"
    assert said(open_one, **{"servers": two, **more}) != said(open_one, two)


def test_counted_servers_are_others_in_another_order(open_one: OpenGroup) -> None:
    def counted(servers: str) -> str:
        return said(open_one, servers, hash_strategy="standard")

    assert counted("one:1 name=a two:2 name=b") != counted("two:2 name=b one:1 name=a")


def test_servers_can_be_added_to_a_ring_and_to_nothing_else(open_one: OpenGroup) -> None:
    # Counted servers give users to each other, and another one that is added later may give them back.
    for strategy in ("consistent", "standard"):
        more = describe(*open_one("a:1 b:1 c:1", hash_strategy=strategy))
        less = said(open_one, "a:1 b:1", hash_strategy=strategy)
        assert more.extends(less) is (strategy == "consistent")
