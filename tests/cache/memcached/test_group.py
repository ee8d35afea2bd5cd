"""A group of servers: who is home to whom, whether it is the same as before, and what another group leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.group import (
    Description,
    Group,
    Member,
    lease_of,
    make_placement,
    no_group,
    take_over,
)
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memcached.records import GroupRecord, ServerRecord, Standing, standing
from syncstore.cache.memcached.records_in_memory import MemoryRecords
from syncstore.cache.memcached.ring import Modulo, Placed, Ring
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import DRIFT, Rules
from syncstore.errors import Unavailable
from syncstore.testing.clocks import SteppableClock

LEASE = 2.0
TAGS = [b"%d" % uid for uid in range(500)]


class Home(MemoryRecords):
    """Records in memory which stand for those of the database: it knows the group in use. `meanwhile` is what somebody
    else does between two calls."""

    def __init__(self, clock: SteppableClock) -> None:
        super().__init__(clock)
        self.in_use = GroupRecord()
        self.meanwhile: Callable[[], object] = lambda: None

    def group(self) -> GroupRecord:
        return self.in_use

    def read_with_group(self, servers: Sequence[str]) -> tuple[list[ServerRecord], GroupRecord]:
        return self.read(servers), self.in_use

    def change_group(self, seen: int, description: str) -> bool:
        self.meanwhile()
        if self.in_use.number != seen:
            return False
        self.in_use = GroupRecord(seen + 1, description)
        return True


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def home(clock: SteppableClock) -> Home:
    return Home(clock)


def describe(
    *words: str, store: str = "store", lease: float = LEASE, rules: str = "sync/consistent/alone"
) -> Description:
    return Description(store, lease, rules, words)


# -- members and their homes


@pytest.fixture
def group(clock: SteppableClock, home: Home) -> Iterator[Group]:
    group = Group(Servers(home, ["a", "b", "c"], clock, Rules(LEASE)), "consistent")
    yield group
    group.close()


def member(group: Group, name: str, retry_interval: float = 15.0) -> Member:
    def over(prefix: bytes) -> MemcachedProvider:
        return MemcachedProvider(Address.parse("127.0.0.1:1"), group.servers.clock, prefix=prefix)

    return Member(name, over(b"values:"), over(b"marks:"), group.servers.add(name), retry_interval)


def homes(group: Group) -> list[str]:
    return [group.home(tag).name for tag in TAGS]


def test_without_members_there_is_no_home(group: Group) -> None:
    with pytest.raises(ValueError, match="server"):
        group.home(b"7")


def test_everybody_is_at_home_with_the_only_member(group: Group) -> None:
    group.add(member(group, "a"), 1)
    assert set(homes(group)) == {"a"}


@pytest.mark.parametrize(("strategy", "placement"), [("consistent", Ring), ("standard", Modulo)])
def test_homes_are_those_of_the_strategy(
    clock: SteppableClock, home: Home, strategy: str, placement: Callable[[Sequence[Placed]], Ring | Modulo]
) -> None:
    group = Group(Servers(home, [], clock, Rules()), strategy)
    for name, weight in (("a", 1), ("b", 2), ("c", 1)):
        group.add(member(group, name), weight)
    expected = placement([Placed("a", 1), Placed("b", 2), Placed("c", 1)])
    assert homes(group) == [expected.find(tag) for tag in TAGS]
    assert [group.weight(name) for name in "abc"] == [1, 2, 1]
    assert type(make_placement(strategy, [Placed("a")])) is placement
    group.close()


@pytest.mark.parametrize("strategy", ["consistent", "standard"])
def test_a_member_that_is_replaced_keeps_its_users(clock: SteppableClock, home: Home, strategy: str) -> None:
    group = Group(Servers(home, [], clock, Rules()), strategy)
    for name in "abc":
        group.add(member(group, name), 1)
    before = homes(group)
    group.add(member(group, "b", retry_interval=-1.0), 1)
    assert homes(group) == before
    assert group.members["b"].retry_interval == -1.0
    group.close()


def test_a_member_that_joins_takes_users_from_the_others_and_moves_nobody_else(group: Group) -> None:
    for name in "ab":
        group.add(member(group, name), 1)
    before = homes(group)
    group.add(member(group, "c"), 1)
    moved = {now for was, now in zip(before, homes(group), strict=True) if was != now}
    assert moved == {"c"}


# -- what a group says of itself


def test_a_group_extends_one_to_which_servers_were_added() -> None:
    assert describe("a*1", "b*1", "c*1").extends(str(describe("a*1", "c*1")))
    assert describe("a*1", "b*1").extends(str(describe("b*1")))


@pytest.mark.parametrize(
    "before",
    [
        describe("a*1", "b*1"),
        describe("a*1", "b*1", "c*1"),
        describe("a*1", "c*1"),
        describe("a*2"),
        describe("A*1"),
        describe(),
        describe("a*1", store="other"),
        describe("a*1", rules="other"),
        describe("a*1", lease=3.0),
        "none",
        "",
    ],
)
def test_it_extends_no_other(before: Description | str) -> None:
    assert not describe("a*1", "b*1").extends(str(before))


def test_groups_too_large_for_the_database_are_told_apart_and_extend_nothing() -> None:
    words = [f"cache-{number}.example:11211*1" for number in range(100)]
    large, larger = describe(*words), describe(*words, "one-more.example:11211*1")
    assert str(large) != str(larger)
    assert len(str(large)) < 200
    assert not larger.extends(str(large))
    assert not larger.extends(str(describe(*words[:3])))
    assert not describe(*words[:3]).extends(str(large))
    assert lease_of(str(large)) == LEASE


def test_the_lease_of_a_group_can_be_read() -> None:
    assert lease_of(str(describe("a*1", lease=0.25))) == 0.25
    assert lease_of("none") == lease_of("") == lease_of("a b c") == 0.0


# -- taking over


def servers_of(home: Home, clock: SteppableClock, *names: str) -> Servers:
    return Servers(home, names, clock, Rules(LEASE))


def begin(home: Home, clock: SteppableClock, *names: str) -> Servers:
    """Servers that are in use by their own group."""
    servers = servers_of(home, clock, *names)
    take_over(home, describe(*(f"{name}*1" for name in names)), servers)
    for state in servers:
        assert state.trusted()
    return servers


def standings(home: Home, *names: str) -> list[Standing]:
    return [standing(record.epoch) for record in home.read(names)]


UP, FAILED = Standing.UP, Standing.FAILED


def test_the_first_group_waits_for_nobody(home: Home, clock: SteppableClock) -> None:
    begin(home, clock, "a", "b")
    assert home.in_use == GroupRecord(1, str(describe("a*1", "b*1")))
    assert clock.slept == 0
    assert standings(home, "a", "b") == [UP, UP]


def test_the_same_group_again_forgets_nothing_and_waits_for_nobody(home: Home, clock: SteppableClock) -> None:
    begin(home, clock, "a", "b")
    before = home.read(["a", "b"])
    again = servers_of(home, clock, "a", "b")
    take_over(home, describe("a*1", "b*1"), again)
    assert home.read(["a", "b"]) == before
    assert home.in_use.number == 1
    assert clock.slept == 0
    assert again["a"].trusted() == before[0].epoch


def test_another_group_forgets_what_the_servers_remember(home: Home, clock: SteppableClock) -> None:
    begin(home, clock, "a", "b")
    before = [record.epoch for record in home.read(["a", "b"])]
    take_over(home, describe("a*2", "b*1"), servers_of(home, clock, "a", "b"))
    after = [record.epoch for record in home.read(["a", "b"])]
    assert standings(home, "a", "b") == [FAILED, FAILED]
    assert all(now > was for was, now in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "other", [describe("a*1", lease=3.0), describe("a*1", store="x"), describe("a*1", rules="x")]
)
def test_whatever_else_is_different_it_is_another_group(
    home: Home, clock: SteppableClock, other: Description
) -> None:
    begin(home, clock, "a")
    take_over(home, other, servers_of(home, clock, "a"))
    assert standings(home, "a") == [FAILED]


def test_who_takes_over_waits_until_nobody_relies_on_the_group_before(
    home: Home, clock: SteppableClock
) -> None:
    before = begin(home, clock, "a", "b")
    assert before["a"].trusted()
    take_over(home, describe("a*2", "b*1", lease=0.1), servers_of(home, clock, "a", "b"))
    assert clock.slept == pytest.approx(LEASE * DRIFT)
    assert before["a"].trusted() is None
    assert before.left


def test_what_is_kept_when_servers_were_only_added(home: Home, clock: SteppableClock) -> None:
    begin(home, clock, "a", "b")
    home.advance("c", 0, 80, "of a life before")
    now = servers_of(home, clock, "a", "b", "c", "d")
    take_over(home, describe("a*1", "b*1", "c*1", "d*1"), now)
    assert standings(home, "a", "b", "c") == [UP, UP, FAILED], "others may have written for c's users since"
    assert home.read(["d"]) == [ServerRecord()]
    assert now["a"].trusted()


def test_a_server_is_not_taken_for_one_whose_name_begins_like_its_own(
    home: Home, clock: SteppableClock
) -> None:
    take_over(home, describe("a*b*1"), servers_of(home, clock, "a*b"))
    home.advance("a", 0, 80, "of a life before")
    take_over(home, describe("a*1", "a*b*1"), servers_of(home, clock, "a", "a*b"))
    assert standings(home, "a") == [FAILED]


def test_two_processes_that_take_over_at_once_end_in_one_group(home: Home, clock: SteppableClock) -> None:
    begin(home, clock, "a")
    one, two = (servers_of(home, clock, "a") for _ in range(2))
    mine = describe("a*2")

    def the_other_first() -> None:
        home.meanwhile = lambda: None
        take_over(home, mine, two)

    home.meanwhile = the_other_first
    take_over(home, mine, one)
    assert home.in_use == GroupRecord(2, str(mine))
    for servers in (one, two):
        servers["a"].look()
        assert not servers.left


def test_two_different_groups_that_take_over_at_once_do_not_both_serve(
    home: Home, clock: SteppableClock
) -> None:
    one, two = (servers_of(home, clock, "a") for _ in range(2))

    def the_other_first() -> None:
        home.meanwhile = lambda: None
        take_over(home, describe("a*3"), two)

    home.meanwhile = the_other_first
    take_over(home, describe("a*2"), one)
    assert home.in_use.description == str(describe("a*2"))
    clock.step(LEASE)
    two["a"].look()
    assert two.left
    one["a"].look()
    assert not one.left


def test_who_never_gets_to_take_over_does_not_begin(home: Home, clock: SteppableClock) -> None:
    def another() -> None:
        home.in_use = GroupRecord(home.in_use.number + 1, f"group {home.in_use.number}")

    home.meanwhile = another
    with pytest.raises(Unavailable, match="others change the group"):
        take_over(home, describe("a*1"), servers_of(home, clock, "a"))
    with pytest.raises(Unavailable, match="others change the group"):
        no_group(home, "none", clock)


# -- no group at all


def test_before_there_was_a_group_there_is_nothing_to_end(home: Home, clock: SteppableClock) -> None:
    no_group(home, "none", clock)
    assert home.in_use == GroupRecord()


def test_who_writes_without_a_group_ends_the_one_in_use(home: Home, clock: SteppableClock) -> None:
    before = begin(home, clock, "a")
    no_group(home, "none", clock)
    assert home.in_use == GroupRecord(2, "none")
    assert clock.slept == pytest.approx(LEASE * DRIFT)
    assert before["a"].trusted() is None
    no_group(home, "none", clock)
    assert home.in_use.number == 2


def test_what_was_cached_before_a_time_without_group_is_forgotten(home: Home, clock: SteppableClock) -> None:
    begin(home, clock, "a", "b")
    no_group(home, "none", clock)
    take_over(home, describe("a*1", "b*1", "c*1"), servers_of(home, clock, "a", "b", "c"))
    assert standings(home, "a", "b") == [FAILED, FAILED]
    assert home.read(["c"]) == [ServerRecord()]
