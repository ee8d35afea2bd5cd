"""The state of cache servers: who may use which epoch when, what a failure costs whom, and how a server comes back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import pytest

from syncstore.cache.api import BackendUnavailable, Expect, Token
from syncstore.cache.memcached.records import (
    GROUP,
    GroupRecord,
    ServerRecord,
    Standing,
    after_failure,
    after_return,
    first_epoch,
    on_return,
    standing,
)
from syncstore.cache.memcached.records_in_memory import MemoryRecords
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import DRIFT, Rules, SharedState, Transition
from syncstore.cache.memory import MemoryProvider
from syncstore.errors import NotYet, Unavailable
from syncstore.testing.clocks import SteppableClock

LEASE = 2.0
RULES = Rules(LEASE)
LONG_ENOUGH = LEASE * DRIFT + 0.001
UP = 80
FAILED = after_failure(UP)
HELD = after_failure(UP, held=True)
RETURNING = on_return(FAILED)
AGAIN = after_return(FAILED)


class Table:
    """The shared store, in memory; `away` makes it unreachable, `delay` takes time to answer, as `before_answer` may in
    earnest. It is that of the database, too, and knows the group in use."""

    name = "table"

    def __init__(self, clock: SteppableClock) -> None:
        self.clock = clock
        self.epochs: dict[str, int] = {"s": UP}
        self.reasons: dict[str, str] = {}
        self.asked: list[list[str]] = []
        self.advances = 0
        self.away = False
        self.delay = 0.0
        self.before_answer: Callable[[], object] = lambda: None
        self.in_use = GroupRecord(1, "ours")

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        self.asked.append(list(servers))
        self.before_answer()
        if self.away:
            raise Unavailable("away")
        found = [ServerRecord(self.epochs.get(name, 0), 0, self.reasons.get(name, "")) for name in servers]
        self.clock.step(self.delay)
        return found

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        if self.away:
            raise Unavailable("away")
        assert to > seen
        if self.epochs.get(server, 0) != seen:
            return False
        self.advances += 1
        self.epochs[server] = to
        self.reasons[server] = reason
        return True

    def epoch(self, server: str) -> int:
        """As a writer reads it, in his own transaction."""
        if self.away:
            raise Unavailable("away")
        return self.in_use.number if server == GROUP else self.epochs.get(server, 0)

    def identity(self) -> str:
        return "table"

    def group(self) -> GroupRecord:
        return self.in_use

    def read_with_group(self, servers: Sequence[str]) -> tuple[list[ServerRecord], GroupRecord]:
        return self.read(servers), self.in_use

    def change_group(self, seen: int, description: str) -> bool:
        self.in_use = GroupRecord(seen + 1, description)
        return True

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def table(clock: SteppableClock) -> Table:
    return Table(clock)


Open = Callable[..., Servers]


@pytest.fixture
def open_servers(clock: SteppableClock, table: Table) -> Open:
    """Opens another process's view of the server s; with names, of others."""

    def open_them(
        *names: str, told: list[Transition] | None = None, in_sql: bool = True, rules: Rules = RULES
    ) -> Servers:
        told = [] if told is None else told
        return Servers(table, names or ("s",), clock, rules, in_sql=in_sql, tell=told.append)

    return open_them


@pytest.fixture
def state(open_servers: Open) -> SharedState:
    return open_servers()["s"]


@pytest.fixture
def cache(clock: SteppableClock) -> MemoryProvider:
    return MemoryProvider(clock)


# -- readers


def test_the_store_is_asked_once_a_lease(state: SharedState, table: Table, clock: SteppableClock) -> None:
    for _ in range(4):
        assert state.trusted() == UP
        clock.step(LEASE / 4)
    assert len(table.asked) == 1
    assert state.trusted() == UP
    assert len(table.asked) == 2


def test_one_question_tells_of_all_servers(open_servers: Open, table: Table) -> None:
    table.epochs.update(a=8, b=after_failure(8), c=16)
    servers = open_servers("a", "b", "c")
    assert [servers[name].trusted() for name in "abc"] == [8, None, 16]
    assert [state.failed for state in servers] == [False, True, False]
    assert table.asked == [["a", "b", "c"]]


def test_a_server_that_joins_is_asked_for_with_the_others(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    table.epochs.update(a=8, b=16)
    servers = open_servers("a")
    assert servers["a"].trusted() == 8
    assert servers.add("b") is servers["b"]
    assert servers.add("b") is servers["b"]
    assert servers["b"].trusted() == 16
    assert servers["a"].trusted() == 8
    assert table.asked == [["a"], ["a", "b"]]


def test_groups_in_one_store_do_not_meet(clock: SteppableClock, table: Table) -> None:
    one, two = (Servers(table, ["s"], clock, Rules(LEASE), scope=scope)["s"] for scope in ("one", "two"))
    assert (one.row, two.row) == ("one@s", "two@s")
    first = one.trusted()
    assert first is not None
    assert two.trusted() is not None
    one.declare_failed(first, "away")
    assert two.trusted() is not None
    assert one.trusted() is None


def test_a_name_that_no_store_keeps_is_refused(open_servers: Open) -> None:
    with pytest.raises(ValueError, match="name"):
        open_servers("x" * 256)


def test_a_lease_begins_when_the_question_is_asked(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    table.delay = 1.5
    assert state.trusted() == UP
    assert state.still(UP)
    clock.step(0.5)
    assert not state.still(UP)


def test_a_lease_does_not_heed_the_wall_clock(state: SharedState, clock: SteppableClock) -> None:
    state.trusted()
    clock.step(-3600)
    assert state.still(UP)
    clock.step(LEASE)
    assert not state.still(UP)


@pytest.mark.parametrize("odd", [FAILED, HELD, RETURNING])
def test_a_server_that_is_not_up_is_not_trusted(state: SharedState, table: Table, odd: int) -> None:
    table.epochs["s"] = odd
    assert state.trusted() is None
    assert state.failed
    assert state.held is (odd == HELD)


def test_nothing_is_trusted_while_the_store_cannot_be_asked(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    state.trusted()
    table.away = True
    assert state.trusted() == UP, "within the lease"
    clock.step(LEASE)
    assert state.trusted() is None


class Reader(threading.Thread):
    """Asks whether the server is trusted; `found` is the answer."""

    def __init__(self, state: SharedState) -> None:
        super().__init__(daemon=True)
        self._state = state
        self.found: int | str | None = "no answer yet"

    def run(self) -> None:
        self.found = self._state.trusted()


class SlowTable:
    """Holds back the answers of a table until it is told to go on."""

    def __init__(self, table: Table) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()
        table.before_answer = self._wait

    def _wait(self) -> None:
        self.asked.set()
        assert self.go_on.wait(30)


def test_who_comes_while_another_asks_gets_the_same_answer(open_servers: Open, table: Table) -> None:
    table.epochs.update(a=8, b=16)
    servers = open_servers("a", "b")
    slow = SlowTable(table)
    readers = [Reader(servers[name]) for name in "abab"]
    for reader in readers:
        reader.start()
    assert slow.asked.wait(30)
    slow.go_on.set()
    for reader in readers:
        reader.join(30)
    assert [reader.found for reader in readers] == [8, 16, 8, 16]
    assert len(table.asked) == 1


def test_nobody_waits_long_for_the_answer_to_another(state: SharedState, table: Table) -> None:
    slow = SlowTable(table)
    first, second = Reader(state), Reader(state)
    first.start()
    assert slow.asked.wait(30)
    second.start()
    second.join(20)
    assert second.found is None
    slow.go_on.set()
    first.join(30)
    assert first.found == UP


def test_a_store_that_did_not_answer_is_not_asked_again_at_once(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    table.epochs.update(a=8, b=16)
    servers = open_servers("a", "b")
    table.away = True
    for _ in range(3):
        assert [state.trusted() for state in servers] == [None, None]
    assert len(table.asked) == 1
    assert not servers["a"].troubled(), "nothing is known against the cache"
    table.away = False
    clock.step(1.0)
    assert [state.trusted() for state in servers] == [8, 16]


def test_a_server_that_does_not_answer_is_left_alone_by_this_process(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    table.epochs["b"] = 16
    servers = open_servers("s", "b")
    state = servers["s"]
    state.trusted()
    state.trouble("no answer")
    assert state.trusted() is None
    assert state.troubled()
    assert servers["b"].trusted() == 16
    assert open_servers()["s"].trusted() == UP
    clock.step(1.0)
    assert state.trusted() == UP


def test_a_server_that_was_never_heard_of_gets_names_of_its_own(
    open_servers: Open, clock: SteppableClock
) -> None:
    one, two = (open_servers("new")["new"] for _ in range(2))
    first = one.trusted()
    assert first == first_epoch(clock.seconds())
    assert two.trusted() == first
    assert not one.failed


def test_in_a_store_that_is_not_the_database_it_begins_as_failed(
    open_servers: Open, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    # Such a store can be lost, and made anew at once: others may rely for a lease on what it said before.
    one, two = (open_servers("new", in_sql=False)["new"] for _ in range(2))
    assert one.trusted() is None
    assert two.trusted() is None
    assert standing(table.epochs["new"]) is Standing.FAILED
    assert not one.probe(cache)
    clock.step(LONG_ENOUGH)
    assert one.probe(cache)
    again = one.trusted()
    assert again == table.epochs["new"]
    assert again is not None
    assert again > first_epoch(clock.seconds() - LONG_ENOUGH)


def test_to_look_asks_where_no_requests_come(state: SharedState, table: Table, clock: SteppableClock) -> None:
    for _ in range(3):
        state.look()
    assert len(table.asked) == 1
    table.epochs["s"] = FAILED
    clock.step(LEASE)
    assert not state.failed
    state.look()
    assert state.failed


# -- faults of readers


def test_two_isolated_faults_leave_a_server_up(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    for _ in range(2):
        state.trusted()
        for _ in range(2):
            state.trouble("no answer within 0.5 s")
            clock.step(1.0)
        state.answered()
    assert table.epochs["s"] == UP
    assert state.trusted() == UP


def test_three_in_a_row_declare_it_failed_once(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    told: list[Transition] = []
    state = open_servers(told=told)["s"]
    for _ in range(6):
        state.trusted()
        state.trouble("no answer within 0.5 s")
        clock.step(1.0)
    assert table.epochs["s"] == FAILED
    assert table.advances == 1
    reason = "3 faults in a row: no answer within 0.5 s"
    assert told == [Transition("s", Standing.FAILED, reason)]
    assert table.reasons["s"] == reason


def test_how_many_faults_are_a_failure_can_be_set(open_servers: Open, table: Table) -> None:
    state = open_servers(rules=Rules(LEASE, failure_limit=1))["s"]
    state.trusted()
    state.trouble("no answer")
    assert table.epochs["s"] == FAILED


def test_faults_before_anything_is_known_declare_nothing(state: SharedState, table: Table) -> None:
    for _ in range(5):
        state.trouble("no answer")
    assert table.epochs["s"] == UP
    assert table.advances == 0


def test_faults_of_a_server_that_has_returned_meanwhile_are_those_of_another_epoch(
    open_servers: Open, table: Table
) -> None:
    state = open_servers(rules=Rules(LEASE, failure_limit=1))["s"]
    state.trusted()
    table.epochs["s"] = AGAIN
    state.trouble("no answer")
    assert table.epochs["s"] == AGAIN


def test_a_return_forgets_the_faults_before_it(
    state: SharedState, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    state.trusted()
    state.declare_failed(UP, "away")
    for _ in range(2):
        state.trouble("no answer")
    clock.step(LONG_ENOUGH)
    assert state.probe(cache)
    assert not state.troubled()
    assert state.trusted() == AGAIN
    state.trouble("no answer")
    assert table.epochs["s"] == AGAIN


# -- writers


def test_a_writer_may_mark_under_what_the_store_says_now(state: SharedState, table: Table) -> None:
    state.trusted()
    table.epochs["s"] = AGAIN
    assert state.judge(table.epoch) == AGAIN


@pytest.mark.parametrize("odd", [FAILED, HELD, RETURNING])
def test_a_failure_must_be_known_for_a_lease_before_anybody_goes_without_the_cache(
    state: SharedState, table: Table, clock: SteppableClock, odd: int
) -> None:
    table.epochs["s"] = odd
    for quarter in range(4):
        with pytest.raises(NotYet) as refused:
            state.judge(table.epoch)
        left = LEASE * DRIFT - quarter * LEASE / 4
        assert left < refused.value.after < left + 0.01
        assert refused.value.retry_after == int(refused.value.after) + 1
        clock.step(LEASE / 4)
    clock.step(refused.value.after - LEASE / 4)
    assert state.judge(table.epoch) is None


def test_who_waits_as_long_as_he_is_told_is_not_told_to_wait_again(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    table.epochs["s"] = FAILED
    with pytest.raises(NotYet) as refused:
        state.judge(table.epoch)
    clock.sleep(refused.value.after)
    assert state.judge(table.epoch) is None


def test_another_failure_is_waited_for_anew(state: SharedState, table: Table, clock: SteppableClock) -> None:
    table.epochs["s"] = FAILED
    state.trusted()
    clock.step(LEASE * 2)
    table.epochs["s"] = after_failure(AGAIN)
    with pytest.raises(NotYet):
        state.judge(table.epoch)


def test_elsewhere_than_in_the_database_a_writer_asks_the_store_itself(
    open_servers: Open, table: Table
) -> None:
    state = open_servers(in_sql=False)["s"]

    def not_asked(_: str) -> int:
        raise AssertionError

    assert state.judge(not_asked) == UP
    assert table.asked == [["s"]]
    table.away = True
    with pytest.raises(Unavailable):
        state.judge(not_asked)


class InterruptedClock(SteppableClock):
    """Runs `meanwhile` once, when it is asked next: what another thread does in that moment."""

    meanwhile: Callable[[], object] | None = None

    def monotonic(self) -> float:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().monotonic()


def _failed(clock: SteppableClock) -> tuple[Table, SharedState]:
    """A failure that has been known for long."""
    table = Table(clock)
    table.epochs["s"] = FAILED
    state = Servers(table, ["s"], clock, Rules(LEASE))["s"]
    state.trusted()
    clock.step(LEASE * 2)
    return table, state


def test_a_writer_may_judge_while_another_thread_brings_the_server_back() -> None:
    clock = InterruptedClock()
    table, state = _failed(clock)
    cache = MemoryProvider(clock)
    clock.meanwhile = lambda: state.probe(cache)
    assert state.judge(lambda _: FAILED) is None
    assert table.epochs["s"] == AGAIN


def test_the_prober_may_ask_how_long_to_wait_while_another_thread_brings_the_server_back() -> None:
    clock = InterruptedClock()
    table, state = _failed(clock)
    table.epochs["s"] = AGAIN
    clock.meanwhile = state.current
    assert state.wait >= 0
    assert state.wait == 0


def test_what_the_store_has_not_heard_of_is_no_licence(state: SharedState, table: Table) -> None:
    del table.epochs["s"]
    with pytest.raises(Unavailable):
        state.judge(table.epoch)


def test_a_failure_is_declared_once_and_only_of_the_epoch_that_failed(
    state: SharedState, table: Table
) -> None:
    state.trusted()
    told = state.declare_failed(UP, "no answer")
    assert isinstance(told, NotYet)
    assert told.retry_after == 3
    assert table.epochs["s"] == FAILED
    assert table.reasons["s"] == "no answer"
    state.declare_failed(UP, "no answer either")
    assert table.epochs["s"] == FAILED
    assert table.reasons["s"] == "no answer"
    table.epochs["s"] = AGAIN
    state.declare_failed(UP, "no answer")
    assert table.epochs["s"] == AGAIN


def test_who_declares_a_failure_waits_one_lease_from_then(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    state.trusted()
    state.declare_failed(UP, "no answer")
    clock.step(LEASE)
    with pytest.raises(NotYet):
        state.judge(table.epoch)
    clock.step(LEASE / 10)
    assert state.judge(table.epoch) is None


def test_who_finds_that_another_has_declared_it_waits_from_when_he_finds_out(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    one, two = open_servers()["s"], open_servers()["s"]
    one.trusted(), two.trusted()
    one.declare_failed(UP, "no answer")
    clock.step(LEASE / 2)
    told = two.declare_failed(UP, "no answer")
    assert isinstance(told, NotYet)
    assert told.after > LEASE


def test_who_finds_that_it_has_returned_may_begin_again_at_once(state: SharedState, table: Table) -> None:
    state.trusted()
    table.epochs["s"] = AGAIN
    told = state.declare_failed(UP, "no answer")
    assert isinstance(told, NotYet)
    assert told.after == 0


def test_a_failure_that_cannot_be_declared_is_an_outage_of_both(state: SharedState, table: Table) -> None:
    state.trusted()
    table.away = True
    told = state.declare_failed(UP, "no answer")
    assert not isinstance(told, NotYet)
    assert "neither does the store of its state" in told.reason
    assert table.epochs["s"] == UP


def test_to_give_up_a_server_is_to_declare_it_failed_whatever_its_epoch(
    state: SharedState, table: Table
) -> None:
    state.give_up("no answer when a server starts")
    assert table.epochs["s"] == FAILED
    state.give_up("no answer")
    assert table.epochs["s"] == FAILED
    del table.epochs["s"]
    state.give_up("no answer")
    assert "s" not in table.epochs
    table.away = True
    state.give_up("no answer")


# -- how long a failure is known


@pytest.mark.parametrize(("odd", "found"), [(FAILED, FAILED), (HELD, HELD), (RETURNING, None)])
def test_a_failure_is_settled_a_lease_after_it_was_seen_and_until_the_return_begins(
    state: SharedState, table: Table, clock: SteppableClock, odd: int, found: int | None
) -> None:
    assert state.settled() is None
    table.epochs["s"] = odd
    clock.step(LEASE)
    assert state.settled() is None
    clock.step(LEASE * DRIFT - 0.001)
    assert state.settled() is None
    clock.step(0.002)
    assert state.settled() == found
    assert state.settled_still() == found


def test_what_is_settled_is_asked_for_once_a_lease(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    table.epochs["s"] = FAILED
    state.trusted()
    clock.step(LEASE * 2)
    table.asked.clear()
    for _ in range(4):
        assert state.settled() == FAILED
        clock.step(LEASE / 4)
    assert len(table.asked) == 1
    assert state.settled_still() is None, "the lease has run out"
    table.epochs["s"] = AGAIN
    assert state.settled() is None
    table.away = True
    clock.step(LEASE)
    assert state.settled() is None


def test_a_new_failure_is_not_settled_by_the_age_of_the_last_one(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    table.epochs["s"] = FAILED
    state.trusted()
    clock.step(LEASE * 2)
    assert state.settled() == FAILED
    table.epochs["s"] = after_failure(AGAIN)
    assert state.settled() == FAILED, "as it may be, within the lease"
    clock.step(LEASE)
    assert state.settled() is None


# -- whose server it is


def test_without_a_claim_nothing_is_read_and_writers_wait_for_one(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    state.claimed(clock.monotonic() + 0.5)
    assert state.trusted() == UP
    assert state.still(UP)
    assert state.judge(table.epoch) == UP
    assert state.claimed_for == 0.5
    clock.step(0.5)
    assert not state.still(UP)
    assert state.trusted() is None
    with pytest.raises(NotYet) as refused:
        state.judge(table.epoch)
    assert refused.value.after == 0.5
    state.claimed(clock.monotonic() + 30)
    assert state.trusted() == UP
    assert state.judge(table.epoch) == UP


def test_a_failed_server_needs_no_claim_to_be_gone_without(
    state: SharedState, table: Table, clock: SteppableClock
) -> None:
    state.claimed(float("-inf"))
    table.epochs["s"] = FAILED
    with pytest.raises(NotYet):
        state.judge(table.epoch)
    clock.step(LONG_ENOUGH)
    assert state.judge(table.epoch) is None


def test_a_server_of_another_group_is_neither_read_nor_written_beside(
    state: SharedState, table: Table, clock: SteppableClock, caplog: pytest.LogCaptureFixture
) -> None:
    state.trusted()
    state.refuse("another group uses it")
    state.refuse("another group uses it")
    assert [record.message for record in caplog.records] == ["another group uses it"]
    clock.step(LEASE * 10)
    assert not state.still(UP)
    assert state.trusted() is None
    assert state.settled() is None
    assert state.troubled()
    for epoch in (UP, FAILED):
        table.epochs["s"] = epoch
        with pytest.raises(Unavailable, match="another group uses it") as refused:
            state.judge(table.epoch)
        assert not isinstance(refused.value, NotYet)


def test_when_the_other_group_is_gone_it_is_used_again(state: SharedState, table: Table) -> None:
    state.refuse("another group uses it")
    state.refuse("")
    assert state.trusted() == UP
    assert state.judge(table.epoch) == UP


# -- which group is in use


def test_a_reader_finds_out_within_a_lease_that_another_group_is_in_use(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    table.epochs["b"] = 16
    servers = open_servers("s", "b")
    servers.join(table, table.in_use)
    assert servers["s"].trusted() == UP
    assert len(table.asked) == 1, "the same question tells of the group"
    table.change_group(1, "theirs")
    assert servers["s"].trusted() == UP
    clock.step(LEASE)
    assert servers["s"].trusted() is None
    assert servers.left
    assert servers["b"].trusted() is None


@pytest.mark.parametrize("in_sql", [True, False])
def test_a_writer_finds_out_at_once(open_servers: Open, table: Table, *, in_sql: bool) -> None:
    servers = open_servers(in_sql=in_sql)
    servers.join(table, table.in_use)
    state = servers["s"]
    assert state.judge(table.epoch) == UP
    table.change_group(1, "theirs")
    with pytest.raises(Unavailable, match="other memcacheds or other settings") as refused:
        state.judge(table.epoch)
    assert not isinstance(refused.value, NotYet)
    assert state.trusted() is None


def test_who_has_left_a_group_does_not_come_back_by_himself(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    servers = open_servers()
    servers.join(table, table.in_use)
    servers["s"].trusted()
    table.change_group(1, "theirs")
    clock.step(LEASE)
    servers["s"].look()
    servers["s"].refuse("")  # as after a renewed claim
    table.change_group(2, "ours")
    clock.step(LEASE)
    assert servers["s"].trusted() is None
    with pytest.raises(Unavailable, match="stop all servers"):
        servers["s"].judge(table.epoch)


def test_without_the_database_the_group_is_not_known_and_nothing_is_read(
    clock: SteppableClock, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = MemoryRecords(clock)
    elsewhere.advance("s", 0, UP, "")
    state = Servers(elsewhere, ["s"], clock, Rules(LEASE), in_sql=False)
    state.join(table, table.in_use)
    assert state["s"].trusted() == UP

    def away() -> GroupRecord:
        raise Unavailable("away")

    monkeypatch.setattr(table, "group", away)
    clock.step(LEASE)
    assert state["s"].trusted() is None


# -- coming back


def test_a_server_comes_back_under_new_names_one_lease_later(
    state: SharedState, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    state.trusted()
    state.declare_failed(UP, "away")
    assert not state.probe(cache)
    clock.step(LEASE)
    assert not state.probe(cache), "clocks may run a little differently"
    clock.step(LEASE / 10)
    assert state.probe(cache)
    assert state.trusted() == AGAIN
    assert state.probe(cache), "it is back"
    assert table.epochs["s"] == AGAIN
    assert table.reasons["s"] == "it answers again"


def test_two_who_probe_bring_it_back_once(
    open_servers: Open, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    one, two = (open_servers()["s"] for _ in range(2))
    table.epochs["s"] = FAILED
    one.trusted(), two.trusted()
    clock.step(LEASE * 2)
    assert one.probe(cache)
    assert two.probe(cache)
    assert table.epochs["s"] == AGAIN


class Away(MemoryProvider):
    """Does not answer."""

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        raise BackendUnavailable("away")


class Interrupted(MemoryProvider):
    """Runs `meanwhile` when it is probed: what another process does in that moment."""

    meanwhile: Callable[[], object]

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        self.meanwhile()
        return super().store(key, value, expires, expect=expect)


def test_one_that_does_not_answer_stays_away(state: SharedState, table: Table, clock: SteppableClock) -> None:
    table.epochs["s"] = FAILED
    state.trusted()
    clock.step(LEASE * 2)
    assert not state.probe(Away(clock))
    assert table.epochs["s"] == FAILED


def test_one_that_an_operator_takes_out_while_it_is_probed_is_not_called_back(
    open_servers: Open, table: Table, clock: SteppableClock
) -> None:
    state, operator = open_servers()["s"], open_servers()["s"]
    table.epochs["s"] = FAILED
    state.trusted()
    clock.step(LEASE * 2)
    cache = Interrupted(clock)
    cache.meanwhile = lambda: operator.hold("it moves")
    assert not state.probe(cache)
    assert standing(table.epochs["s"]) is Standing.HELD


def test_one_that_another_brings_back_while_it_is_probed_is_back(
    open_servers: Open, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    state, other = open_servers()["s"], open_servers()["s"]
    table.epochs["s"] = FAILED
    state.trusted(), other.trusted()
    clock.step(LEASE * 2)
    interrupted = Interrupted(clock)
    interrupted.meanwhile = lambda: other.probe(cache)
    assert state.probe(interrupted)
    assert table.epochs["s"] == AGAIN
    assert state.trusted() == AGAIN


def test_of_one_that_nothing_is_known_of_nobody_says_that_it_is_back(
    state: SharedState, table: Table, cache: MemoryProvider
) -> None:
    del table.epochs["s"]
    assert not state.probe(cache)
    assert "s" not in table.epochs


def test_where_others_stand_in_it_comes_back_in_two_steps(
    open_servers: Open, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    told: list[Transition] = []
    state = open_servers(rules=Rules(LEASE, stand_ins=True), told=told)["s"]
    state.trusted()
    state.declare_failed(UP, "away")
    clock.step(LONG_ENOUGH)
    assert not state.probe(cache)
    assert table.epochs["s"] == RETURNING
    assert state.trusted() is None
    assert state.settled() is None, "its stand-ins are given up"
    with pytest.raises(NotYet):
        state.judge(table.epoch)
    assert not state.probe(cache), "not before everybody has noticed"
    clock.step(state.wait)
    assert state.judge(table.epoch) is None
    assert state.probe(cache)
    assert table.epochs["s"] == AGAIN
    assert [one.standing for one in told] == [Standing.FAILED, Standing.RETURNING, Standing.UP]


def test_one_that_fails_while_it_returns_begins_anew(
    open_servers: Open, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    state = open_servers(rules=Rules(LEASE, stand_ins=True))["s"]
    table.epochs["s"] = RETURNING
    state.trusted()
    clock.step(LEASE * 2)
    assert not state.probe(Away(clock))
    assert table.epochs["s"] == RETURNING
    assert state.probe(cache)


# -- whose turn it is to probe


def test_of_many_processes_one_probes(open_servers: Open, clock: SteppableClock) -> None:
    states = [open_servers()["s"] for _ in range(5)]
    assert [state.take_turn(10) for state in states] == [True, False, False, False, False]
    clock.step(9.9)
    assert not any(state.take_turn(10) for state in states)
    clock.step(0.1)
    assert [state.take_turn(10) for state in states] == [True, False, False, False, False]


def test_the_turns_of_servers_are_apart(open_servers: Open) -> None:
    servers = open_servers("s", "b")
    assert servers["s"].take_turn(10)
    assert servers["b"].take_turn(10)


def test_a_turn_that_was_taken_by_a_wrong_clock_is_over(open_servers: Open, clock: SteppableClock) -> None:
    clock.step(86400)
    assert open_servers()["s"].take_turn(10)
    clock.step(-86400)
    assert open_servers()["s"].take_turn(10)


def test_whose_turn_it_is_cannot_be_known_without_the_store(state: SharedState, table: Table) -> None:
    table.away = True
    with pytest.raises(Unavailable):
        state.take_turn(10)


# -- an operator's wish


def test_a_held_server_does_not_come_back_by_itself(
    state: SharedState, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    state.trusted()
    state.hold("it moves")
    assert table.epochs["s"] == HELD
    assert table.reasons["s"] == "it moves"
    assert state.held
    assert state.trusted() is None
    clock.step(LEASE * 10)
    assert not state.probe(cache)
    assert state.judge(table.epoch) is None
    assert state.probe(cache, held=True)
    assert state.trusted() == AGAIN
    assert not state.held


@pytest.mark.parametrize("before", [UP, FAILED, RETURNING])
def test_whatever_its_state_it_can_be_held(state: SharedState, table: Table, before: int) -> None:
    table.epochs["s"] = before
    state.hold("it moves")
    assert standing(table.epochs["s"]) is Standing.HELD
    assert table.epochs["s"] > before
    held = table.epochs["s"]
    state.hold("again")
    assert table.epochs["s"] == held


def test_one_that_nothing_is_known_of_can_be_held_and_returns_with_names_of_its_own(
    state: SharedState, table: Table, clock: SteppableClock, cache: MemoryProvider
) -> None:
    del table.epochs["s"]
    state.hold("not yet")
    assert standing(table.epochs["s"]) is Standing.HELD
    clock.step(state.wait)
    assert state.probe(cache, held=True)
    assert table.epochs["s"] > first_epoch(clock.seconds() - LEASE * 2)


def test_what_others_change_all_the_time_is_not_held(
    state: SharedState, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "advance", lambda *_: False)
    with pytest.raises(Unavailable):
        state.hold("it moves")


def test_all_is_forgotten_under_names_that_no_life_of_the_database_has_used(
    clock: SteppableClock, table: Table, open_servers: Open, cache: MemoryProvider
) -> None:
    # As after a restore: the backup is from before two failures, whose epochs have records in the cache.
    state = open_servers("new")["new"]
    backup = state.trusted()
    assert backup is not None
    used = [backup]
    for _ in range(2):
        state.declare_failed(used[-1], "away")
        clock.step(LEASE)
        assert state.trusted() is None
        clock.step(LEASE * 2)
        assert state.probe(cache)
        used.append(table.epochs["new"])
    table.epochs["new"] = backup
    state = open_servers("new")["new"]
    state.forget_all()
    assert state.trusted() is None
    assert not state.probe(cache)
    clock.step(state.wait)
    assert state.probe(cache)
    now = state.trusted()
    assert now is not None
    assert now > max(used)


@pytest.mark.parametrize("before", [0, UP, FAILED, RETURNING, 8 * 10**10, after_failure(8 * 10**10)])
def test_whoever_brings_a_forgotten_server_back_finds_a_new_name(
    clock: SteppableClock, table: Table, state: SharedState, before: int
) -> None:
    table.epochs["s"] = before
    state.forget_all()
    failed = table.epochs["s"]
    assert standing(failed) is Standing.FAILED
    assert failed > before
    assert failed > first_epoch(clock.seconds())


@pytest.mark.parametrize("before", [HELD, after_failure(8 * 10**10, held=True)])
def test_one_that_is_held_stays_so_when_it_is_forgotten(
    clock: SteppableClock, table: Table, state: SharedState, before: int
) -> None:
    table.epochs["s"] = before
    state.forget_all()
    assert standing(table.epochs["s"]) is Standing.HELD
    assert table.epochs["s"] > max(before, first_epoch(clock.seconds()))
    assert state.held


def test_what_others_change_all_the_time_is_not_forgotten(
    state: SharedState, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "advance", lambda *_: False)
    with pytest.raises(Unavailable):
        state.forget_all()


# -- what is told


def test_a_failure_and_a_return_are_told_exactly_once(
    open_servers: Open, clock: SteppableClock, cache: MemoryProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "syncstore")
    told: list[Transition] = []
    one, two = (open_servers(told=told)["s"] for _ in range(2))
    one.trusted(), two.trusted()
    one.declare_failed(UP, "no answer"), two.declare_failed(UP, "no answer")
    clock.step(LEASE)
    one.trusted(), two.trusted()
    clock.step(LEASE * 2)
    one.probe(cache), two.probe(cache)
    assert told == [
        Transition("s", Standing.FAILED, "no answer"),
        Transition("s", Standing.UP, "it answers again"),
    ]
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "the cache s is failed: no answer",
        "the cache s is up: it answers again",
    ]
    notes = [record.message for record in caplog.records if record.levelno == logging.INFO]
    assert notes.count(f"the cache s is out of use since epoch {FAILED}: no answer") == 2
    assert notes.count(f"the cache s is used again, with epoch {AGAIN}") == 2


def test_an_operator_s_wish_is_told(open_servers: Open) -> None:
    told: list[Transition] = []
    open_servers(told=told)["s"].hold("it moves")
    assert told == [Transition("s", Standing.HELD, "it moves")]
