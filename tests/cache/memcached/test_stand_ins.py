"""Stand-ins: which server holds the values of a failed one's users, under which names, and until when."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.cache.memcached.records import after_failure, after_return, on_return
from syncstore.cache.memcached.records_in_memory import MemoryRecords
from syncstore.cache.memcached.ring import Placed, Ring, again
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import DRIFT, Rules
from syncstore.cache.memcached.stand_ins import Chain, ChainState, StandIns
from syncstore.errors import NotYet, Unavailable
from syncstore.testing.clocks import SteppableClock

LEASE = 2.0
LONG_ENOUGH = LEASE * DRIFT + 0.001
UP, FAILED = 80, after_failure(80)
HELD, RETURNING, AGAIN = after_failure(80, held=True), on_return(FAILED), after_return(FAILED)
TAG = b"7"


class Places:
    """Tag 7 is at home at a; it finds a again, then b, b once more, c, and never another."""

    _found = ("a", "b", "b", "c")

    def find(self, tag: bytes) -> str:
        if tag == TAG:
            return "a"
        attempts = [again(TAG, attempt) for attempt in range(len(self._found))]
        return self._found[attempts.index(tag)] if tag in attempts else "c"

    def others(self, tag: bytes) -> Iterator[str]:
        return iter("bc")


class Stand:
    """Three servers as one process sees them. What others do to their states is `put`."""

    def __init__(self) -> None:
        self.clock = SteppableClock()
        self.records = MemoryRecords(self.clock)
        for name in "abc":
            self.put(name, UP)
        self.servers = self.open()
        self.stand_ins = StandIns(self.servers, Places, 10)

    def open(self) -> Servers:
        """Another process's view."""
        return Servers(self.records, "abc", self.clock, Rules(LEASE, stand_ins=True))

    def put(self, name: str, epoch: int) -> None:
        assert self.records.advance(name, self.epoch(name), epoch, "by another process")

    def epoch(self, name: str) -> int:
        return self.records.read([name])[0].epoch

    def fail(self, *names: str) -> None:
        """Known here for long."""
        for name in names:
            self.put(name, after_failure(self.epoch(name)))
        self.settle()

    def settle(self) -> None:
        """Whatever is so, is known here for long."""
        self.clock.step(LEASE)
        next(iter(self.servers)).look()
        self.clock.step(LONG_ENOUGH)

    def chain(self, *names: str, final: bool = False) -> ChainState:
        return ChainState(self.servers, Chain(names, final))

    def names(self) -> tuple[str, ...]:
        return self.stand_ins.chain(TAG).names


@pytest.fixture
def stand() -> Stand:
    return Stand()


# -- who stands in


def test_while_its_home_is_in_use_it_is_used_alone(stand: Stand) -> None:
    assert stand.stand_ins.chain(TAG) == Chain(("a",), final=False)
    stand.fail("b", "c")
    assert stand.stand_ins.chain(TAG) == Chain(("a",), final=False)


def test_a_stand_in_is_used_when_the_failure_has_been_known_for_a_lease(stand: Stand) -> None:
    stand.names()
    stand.put("a", FAILED)
    stand.clock.step(LEASE)
    assert stand.names() == ("a",), "just seen"
    stand.clock.step(LEASE)
    assert stand.names() == ("a",)
    stand.clock.step(LEASE * 0.02)
    assert stand.stand_ins.chain(TAG) == Chain(("a", "b"), final=False)


def test_one_that_an_operator_holds_has_a_stand_in_too(stand: Stand) -> None:
    stand.put("a", HELD)
    stand.settle()
    assert stand.names() == ("a", "b")


def test_a_stand_in_that_fails_has_one_itself_and_the_last_one_has_none(stand: Stand) -> None:
    stand.fail("a", "b")
    assert stand.stand_ins.chain(TAG) == Chain(("a", "b", "c"), final=True)
    stand.fail("c")
    assert stand.stand_ins.chain(TAG) == Chain(("a", "b", "c"), final=True)


def test_a_stand_in_that_returns_is_the_last_of_the_chain_again(stand: Stand) -> None:
    stand.fail("a", "b")
    stand.put("b", on_return(stand.epoch("b")))
    stand.settle()
    assert stand.stand_ins.chain(TAG) == Chain(("a", "b"), final=False)


def test_while_its_home_returns_nobody_stands_in(stand: Stand) -> None:
    stand.fail("a")
    stand.put("a", RETURNING)
    stand.settle()
    assert stand.names() == ("a",)
    stand.put("a", AGAIN)
    stand.settle()
    assert stand.names() == ("a",)


def test_without_attempts_nobody_stands_in(stand: Stand) -> None:
    stand.fail("a")
    assert StandIns(stand.servers, Places, 0).chain(TAG) == Chain(("a",), final=True)


@pytest.mark.parametrize(("attempts", "names"), [(1, "a"), (2, "ab"), (3, "ab"), (4, "abc")])
def test_another_one_is_looked_for_so_often(stand: Stand, attempts: int, names: str) -> None:
    stand.fail("a", "b")
    chain = StandIns(stand.servers, Places, attempts).chain(TAG)
    assert chain == Chain(tuple(names), final=True)


def test_stand_ins_are_spread_over_all_others(stand: Stand) -> None:
    ring = Ring([Placed(name) for name in "abc"])
    stand.fail("a")
    chains = [StandIns(stand.servers, lambda: ring, 20).chain(b"%d" % uid).names for uid in range(300)]
    of_a = [chain[1] for chain in chains if chain[0] == "a"]
    assert {chain for chain in chains if chain[0] != "a"} == {("b",), ("c",)}
    assert min(of_a.count("b"), of_a.count("c")) > len(of_a) / 5


# -- under which names


def test_alone_a_server_s_values_have_its_own_epoch(stand: Stand) -> None:
    assert stand.chain("a").trusted() == UP


def test_all_processes_call_values_the_same(stand: Stand) -> None:
    stand.fail("a")
    here = stand.chain("a", "b").trusted()
    others = stand.open()
    others["a"].look()
    stand.clock.step(LONG_ENOUGH)
    assert here is not None
    assert ChainState(others, Chain(("a", "b"), final=False)).trusted() == here


def test_nothing_is_called_the_same_in_another_outage_or_elsewhere(stand: Stand) -> None:
    found = []
    for _ in range(2):
        for _ in range(2):
            stand.fail("a")
            found += [stand.chain(*names).trusted() for names in (("a", "b"), ("a", "c"), ("c", "b"), ("b",))]
            stand.put("b", after_return(after_failure(stand.epoch("b"))))
            stand.settle()
        stand.put("a", after_return(stand.epoch("a")))
        stand.settle()
    known = [epoch for epoch in found if epoch is not None]
    assert len(known) == 12, "c has not failed: nobody stands in for it"
    # From b's point of view: its own values, and those of two outages of a under two epochs of b.
    of_b = [known[place] for place in range(12) if place % 3 != 1]
    assert len(set(of_b)) == 8
    assert all(0 < epoch < 2**60 for epoch in known)


# -- readers


def test_a_stand_in_is_trusted_only_while_its_server_has_failed(stand: Stand) -> None:
    chain = stand.chain("a", "b")
    assert chain.trusted() is None
    stand.put("a", FAILED)
    stand.clock.step(LEASE)
    assert chain.trusted() is None, "others may still use a"
    stand.clock.step(LONG_ENOUGH)
    assert chain.trusted() is not None
    stand.put("a", RETURNING)
    stand.clock.step(LEASE)
    assert chain.trusted() is None
    assert stand.chain("a").trusted() is None


def test_a_stand_in_that_has_failed_is_not_trusted(stand: Stand) -> None:
    stand.fail("a", "b")
    assert stand.chain("a", "b").trusted() is None
    assert stand.chain("a", "b", "c").trusted() is not None


def test_an_epoch_may_be_used_while_all_views_are_the_same_and_leases_run(stand: Stand) -> None:
    stand.fail("a")
    chain = stand.chain("a", "b")
    epoch = chain.trusted()
    assert epoch is not None
    assert chain.still(epoch)
    assert not chain.still(epoch + 1)
    stand.clock.step(LEASE)
    assert not chain.still(epoch), "the leases have run out"
    assert chain.trusted() == epoch
    assert chain.still(epoch)


@pytest.mark.parametrize(("name", "to"), [("a", RETURNING), ("a", AGAIN), ("b", FAILED), ("b", AGAIN)])
def test_an_epoch_may_not_be_used_when_any_of_the_chain_has_changed(stand: Stand, name: str, to: int) -> None:
    stand.fail("a")
    chain = stand.chain("a", "b")
    epoch = chain.trusted()
    assert epoch is not None
    stand.put(name, to)
    stand.clock.step(LEASE)
    stand.servers["a"].look()
    assert not chain.still(epoch)


def test_an_epoch_of_long_ago_is_forgotten_and_not_used(stand: Stand) -> None:
    chain = stand.chain("a")
    epochs = []
    for _ in range(100):
        epochs.append(chain.trusted())
        stand.put("a", stand.epoch("a") + 8)
        stand.clock.step(LEASE)
    assert not any(chain.still(epoch) for epoch in epochs if epoch is not None)
    now = chain.trusted()
    assert now is not None
    assert chain.still(now)
    told = chain.declare_failed(UP, "no answer")
    assert isinstance(told, NotYet)
    assert stand.epoch("a") == now


# -- writers

NEW = "NotYet"


def judged(stand: Stand, chain: ChainState) -> int | str | None:
    """What a writer is told: an epoch, None, or the words of NotYet."""
    try:
        return chain.judge(stand.epoch)
    except NotYet as error:
        return error.reason


@pytest.mark.parametrize(
    ("names", "final", "epochs", "told"),
    [
        ("a", False, {}, UP),
        ("a", False, {"a": FAILED}, "the cache a has a stand-in"),
        ("a", False, {"a": HELD}, "the cache a has a stand-in"),
        ("a", True, {"a": FAILED}, None),
        ("a", False, {"a": RETURNING}, None),
        ("ab", False, {"a": RETURNING}, None),
        ("ab", False, {"a": AGAIN}, "the cache a has returned"),
        ("ab", False, {}, "the cache a has returned"),
        ("ab", False, {"a": FAILED, "b": FAILED}, "the cache b has a stand-in"),
        ("ab", False, {"a": FAILED, "b": RETURNING}, None),
        ("abc", True, {"a": FAILED, "b": FAILED, "c": FAILED}, None),
        ("abc", True, {"a": FAILED, "b": AGAIN}, "the cache b has returned"),
        ("abc", True, {"a": FAILED, "b": RETURNING}, None),
        ("abc", True, {"a": AGAIN, "b": FAILED}, "the cache a has returned"),
    ],
)
def test_a_writer_is_told_what_is_so_when_it_is_known_for_a_lease(
    stand: Stand, names: str, final: bool, epochs: dict[str, int], told: int | str | None
) -> None:
    for name, epoch in epochs.items():
        stand.put(name, epoch) if epoch != UP else None
    stand.settle()
    assert judged(stand, stand.chain(*names, final=final)) == told


def test_a_writer_marks_under_the_name_by_which_readers_ask(stand: Stand) -> None:
    stand.fail("a")
    chain = stand.chain("a", "b")
    assert judged(stand, chain) == chain.trusted() != UP
    stand.put("b", AGAIN)
    writing = judged(stand, chain)
    stand.clock.step(LEASE)
    assert chain.trusted() == writing


@pytest.mark.parametrize(
    ("names", "changed", "to"),
    [("a", "a", FAILED), ("ab", "a", after_failure(AGAIN)), ("ab", "a", RETURNING), ("ab", "b", FAILED)],
)
def test_what_has_just_changed_is_waited_for(stand: Stand, names: str, changed: str, to: int) -> None:
    if len(names) > 1:
        stand.fail("a")
    chain = stand.chain(*names, final=True)
    chain.trusted()
    stand.put(changed, to)
    assert judged(stand, chain) == f"the cache {changed} was declared failed just now"


def test_who_begins_again_after_a_change_finds_the_chain_in_use(stand: Stand) -> None:
    stand.names()
    stand.put("a", FAILED)
    with pytest.raises(NotYet) as refused:
        stand.chain("a").judge(stand.epoch)
    stand.clock.sleep(refused.value.after)
    with pytest.raises(NotYet, match="has a stand-in") as refused:
        stand.chain("a").judge(stand.epoch)
    assert refused.value.after < 0.1
    stand.clock.sleep(refused.value.after)
    chain = stand.stand_ins.chain(TAG)
    assert chain.names == ("a", "b")
    assert ChainState(stand.servers, chain).judge(stand.epoch)
    stand.put("a", AGAIN)
    with pytest.raises(NotYet, match="has returned") as refused:
        ChainState(stand.servers, chain).judge(stand.epoch)
    stand.clock.sleep(refused.value.after)
    assert stand.names() == ("a",)
    assert stand.chain("a").judge(stand.epoch) == AGAIN


# -- faults


def test_it_is_the_last_server_that_does_not_answer(stand: Stand) -> None:
    stand.fail("a")
    chain = stand.chain("a", "b")
    epoch = chain.trusted()
    assert epoch is not None
    assert not chain.troubled()
    chain.trouble("no answer")
    assert chain.troubled()
    assert stand.servers["b"].troubled()
    stand.clock.step(1)
    chain.answered()
    before = stand.epoch("a")
    told = chain.declare_failed(epoch, "no answer")
    assert isinstance(told, NotYet)
    assert told.after > LEASE
    assert stand.epoch("b") == FAILED
    assert stand.epoch("a") == before


def test_an_answer_of_the_last_server_ends_its_row_of_faults(stand: Stand) -> None:
    chain = stand.chain("a")
    for act in (chain.trouble, chain.trouble, lambda _: chain.answered(), chain.trouble, chain.trouble):
        chain.trusted()
        act("no answer")
        stand.clock.step(1)
    assert stand.epoch("a") == UP
    chain.trusted()
    chain.trouble("no answer")
    assert stand.epoch("a") == FAILED


def test_nothing_is_known_without_the_store(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand.fail("a")
    chain = stand.chain("a", "b")
    assert chain.trusted() is not None

    def away(*_: object) -> list[object]:
        raise Unavailable("away")

    monkeypatch.setattr(stand.records, "read", away)
    stand.clock.step(LEASE)
    assert chain.trusted() is None
    assert stand.names() == ("a",)
    with pytest.raises(Unavailable):
        chain.judge(stand.epoch)
