"""No pool of memcacheds ever gives an old value, whatever befalls its servers; and what is wrong is found out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from syncstore.cache.api import BackendError, NotFound, Token
from syncstore.cache.memcached import shared_state
from syncstore.cache.memcached.group import Group, Member
from syncstore.cache.memcached.pool import Place, Pool
from syncstore.cache.memcached.replicas import ReplicatedPool
from syncstore.cache.memcached.shared_state import Rules
from syncstore.cache.memcached.stand_ins import ChainState
from syncstore.clock import Clock
from syncstore.testing.simulation.plain_caches import LEASE, Event, Make, PlainHistory, stale

ONE_STEP = Rules(LEASE)
TWO_STEPS = Rules(LEASE, stand_ins=True)
SOAK = pytest.param(20_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])


def alone(group: Group, clock: Clock) -> Pool:
    return Pool(group, clock)


def resubmitting(group: Group, clock: Clock) -> Pool:
    return Pool(group, clock, resubmit=True)


def with_stand_ins(group: Group, clock: Clock) -> Pool:
    return Pool(group, clock, attempts=20, resubmit=True)


def replicated(group: Group, clock: Clock) -> ReplicatedPool:
    return ReplicatedPool(group, clock, copies=1)


@pytest.mark.parametrize("histories", [200, SOAK])
@pytest.mark.parametrize(
    ("make", "rules"),
    [(alone, ONE_STEP), (resubmitting, ONE_STEP), (with_stand_ins, TWO_STEPS), (replicated, TWO_STEPS)],
)
def test_a_pool_never_gives_what_was_replaced(make: Make, rules: Rules, histories: int) -> None:
    hits = 0
    for seed in range(histories):
        history = PlainHistory(seed, make, rules)
        assert history.run() == [], f"seed {seed}"
        hits += sum(event.kind == "read" and event.value is not None for event in history.events)
    assert hits > histories, "nearly all reads miss: nothing is shown"


# -- what is wrong

Break = Callable[[pytest.MonkeyPatch], None]


def names_without_epochs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Place, "name", lambda _self, key: key)


def no_wait_for_a_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shared_state, "DRIFT", 0.0)


def nothing(_patch: pytest.MonkeyPatch) -> None:
    """What is wrong are the rules."""


def _named(which: int, self: ChainState, before: Sequence[int], last: int) -> int:
    name = [*before, last][which]
    self._of_last[name] = last
    return name


def epoch_of_the_stand_in_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChainState, "_named", lambda self, before, last: _named(-1, self, before, last))


def epoch_of_the_home_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChainState, "_named", lambda self, before, last: _named(0, self, before, last))


def copies_without_reservations(patch: pytest.MonkeyPatch) -> None:
    def reserved(_self: ReplicatedPool, other: Member, _epoch: int, name: bytes) -> Token | None:
        try:
            return other.cache.retrieve(name).token
        except NotFound:
            return None

    patch.setattr(ReplicatedPool, "_reserved", reserved)


def servers_left_out_at_once(patch: pytest.MonkeyPatch) -> None:
    def writable(self: ReplicatedPool, key: bytes) -> list[tuple[Member, int]]:
        found = list(self._readable(key))
        if not found:
            raise BackendError("none is left")
        return found

    patch.setattr(ReplicatedPool, "_writable", writable)


@pytest.mark.parametrize(
    ("broken", "make", "rules", "seed"),
    [
        (names_without_epochs, resubmitting, ONE_STEP, 2),
        (names_without_epochs, with_stand_ins, TWO_STEPS, 9),
        (no_wait_for_a_lease, resubmitting, ONE_STEP, 88),
        (no_wait_for_a_lease, with_stand_ins, TWO_STEPS, 9),
        (nothing, with_stand_ins, ONE_STEP, 153),
        (epoch_of_the_stand_in_alone, with_stand_ins, TWO_STEPS, 619),
        (epoch_of_the_home_alone, with_stand_ins, TWO_STEPS, 3740),
        (copies_without_reservations, replicated, TWO_STEPS, 6),
        (servers_left_out_at_once, replicated, TWO_STEPS, 26),
    ],
)
def test_a_pool_that_is_wrong_is_found_out(
    monkeypatch: pytest.MonkeyPatch, broken: Break, make: Make, rules: Rules, seed: int
) -> None:
    broken(monkeypatch)
    assert PlainHistory(seed, make, rules).run() != []


def test_the_checker_knows_an_old_value() -> None:
    first = Event("store", b"k", b"1", 1, 2)
    second = Event("store", b"k", b"2", 3, 4)
    read = Event("read", b"k", b"1", 5, 6)
    assert len(stale([first, second, read])) == 1
    assert stale([first, read]) == []
    assert stale([first._replace(end=None), second, read]) == [], "what was not confirmed may come late"
    assert stale([first, second._replace(end=None), read]) == [], "and need not have come"
    assert len(stale([first, Event("remove", b"k", None, 3, 4), read])) == 1
    assert stale([first, second, read._replace(key=b"k", value=None)]) == [], "a miss is always right"
