"""The simulated memcached: a provider like the real one, which also forgets, restarts and answers late."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Conflict,
    Item,
    NotFound,
    Remove,
    StorageFull,
    Store,
    TooLarge,
)
from syncstore.testing.simulation.clock import ProcessClock
from syncstore.testing.simulation.faults import Fault, Faults
from syncstore.testing.simulation.memcached import Server, SimulatedCache
from syncstore.testing.simulation.scheduler import SECOND, Process, World


class Bench:
    """A server, a process's way to it, and a task to talk in."""

    def __init__(self, *faults: Fault, bound: bool = True) -> None:
        self.world = World(Random(1))
        self.server = Server(self.world)
        self.process = Process("process 1")
        clock = ProcessClock(self.world, self.process)
        self.cache = SimulatedCache(self.server, self.process, clock, Faults(faults), most=100, bound=bound)

    def do(self, talk: Callable[[SimulatedCache], Any]) -> Any:
        """The outcome of a conversation, an exception of it included."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append(talk(self.cache))
            except Exception as error:
                outcome.append(error)

        self.world.spawn("talks", run)
        self.world.run()
        return outcome[0]


def test_a_token_stands_for_one_state() -> None:
    bench = Bench()

    def talk(cache: SimulatedCache) -> Any:
        first = cache.store(b"k", b"1", expect=ABSENT)
        second = cache.store(b"k", b"2", expect=first)
        refused = cache.change([Store(b"k", b"3", expect=first), Store(b"k", b"3", expect=ABSENT)])
        return refused, cache.retrieve(b"k"), second

    refused, item, second = bench.do(talk)
    assert all(isinstance(one, Conflict) for one in refused)
    assert item == Item(b"2", second)


def test_a_missing_key_is_reserved_once_for_all() -> None:
    bench = Bench()

    def talk(cache: SimulatedCache) -> Any:
        return cache.fetch([b"k"]), cache.fetch([b"k"], reserve=30), cache.fetch([b"k"], reserve=30)

    nothing, first, second = bench.do(talk)
    assert nothing == [None]
    assert first == second
    assert first[0].value == b""


def test_values_expire() -> None:
    bench = Bench()

    def talk(cache: SimulatedCache) -> Any:
        cache.store(b"k", b"1", bench.world.now / SECOND + 2)
        bench.world.now += 3 * SECOND
        return cache.retrieve(b"k")

    assert isinstance(bench.do(talk), NotFound)


def test_a_restart_makes_numbers_begin_anew_and_tokens_worthless() -> None:
    bench = Bench()
    old = bench.do(lambda cache: cache.store(b"k", b"old"))
    bench.server.restart()
    bench.cache.reconnect()
    new = bench.do(lambda cache: cache.store(b"k", b"new"))
    assert old.number == new.number
    assert old != new
    assert isinstance(bench.do(lambda cache: cache.store(b"k", b"late", expect=old)), Conflict)
    assert [loss.key for loss in bench.server.losses] == [b"k"]


def test_unbound_tokens_are_fooled_by_a_restart() -> None:
    bench = Bench(bound=False)
    old = bench.do(lambda cache: cache.store(b"k", b"old"))
    bench.server.restart()
    bench.do(lambda cache: cache.store(b"k", b"new"))
    bench.do(lambda cache: cache.store(b"k", b"late", expect=old))
    assert bench.do(lambda cache: cache.retrieve(b"k")).value == b"late"


@pytest.mark.parametrize(
    ("kind", "stored", "stored_later"),
    [
        ("change lost", False, False),
        ("change reply lost", True, True),
        ("change late", False, True),
    ],
)
def test_who_gets_no_answer_does_not_know(kind: str, stored: bool, stored_later: bool) -> None:
    bench = Bench(Fault(kind, 1))

    def talk(cache: SimulatedCache) -> Any:
        try:
            cache.store(b"k", b"1")
        except BackendUnavailable:
            at_once = b"k" in bench.server.data
            bench.world.sleep(60)
            return at_once, b"k" in bench.server.data
        return None

    assert bench.do(talk) == (stored, stored_later)


def test_a_full_server_changes_nothing() -> None:
    bench = Bench(Fault("storage full", 2))
    bench.do(lambda cache: cache.store(b"k", b"1"))
    assert isinstance(bench.do(lambda cache: cache.store(b"k", b"2")), StorageFull)
    assert bench.do(lambda cache: cache.retrieve(b"k")).value == b"1"


def test_what_is_too_large_is_refused_alone() -> None:
    bench = Bench()
    outcomes = bench.do(
        lambda cache: cache.change([Store(b"a", b"x" * 101), Store(b"b", b"1"), Remove(b"c")])
    )
    assert isinstance(outcomes[0], TooLarge)
    assert outcomes[1].number == 1
    assert isinstance(outcomes[2], NotFound)


def test_an_unreachable_server_is_neither_a_miss_nor_a_hit() -> None:
    bench = Bench()
    bench.cache.away_until = bench.world.now + SECOND
    assert isinstance(bench.do(lambda cache: cache.fetch([b"k"])), BackendUnavailable)
