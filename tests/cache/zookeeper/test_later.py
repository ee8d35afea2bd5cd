"""The queue of changes that nobody waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from syncstore.cache.api import BackendUnavailable, Remove, Token
from syncstore.cache.zookeeper.later import Later
from syncstore.cache.zookeeper.planning import Drop, Wish
from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.waiting import await_that

SHORT = 0.1


class Maker:
    """Notes what it is to make; waits while it is held."""

    def __init__(self) -> None:
        self.made: list[Wish] = []
        self.begun = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.fault: Exception | None = None

    def __call__(self, wishes: Sequence[Wish]) -> None:
        self.begun.set()
        assert self.free.wait(20)
        if self.fault is not None:
            raise self.fault
        self.made += wishes


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def later(maker: Maker) -> Iterator[Later]:
    later = Later(maker, most=10, patience=SHORT)
    yield later
    maker.free.set()
    later.close()


def removals(*numbers: int) -> list[Wish]:
    return [Remove(b"%d" % number) for number in numbers]


def hold(later: Later, maker: Maker) -> None:
    maker.free.clear()
    later.add(removals(0))
    assert maker.begun.wait(20)


def test_they_are_made_in_their_order(later: Later, maker: Maker) -> None:
    for number in range(100):
        later.add(removals(number))
    await_that(lambda: maker.made == removals(*range(100)))


def test_who_gives_too_many_waits_for_room(later: Later, maker: Maker) -> None:
    hold(later, maker)
    later.add(removals(*range(1, 11)))
    assert len(later) == 10
    threading.Timer(SHORT / 4, maker.free.set).start()
    later.add(removals(11))
    await_that(lambda: maker.made == removals(*range(12)))
    assert later.lost == 0


def test_what_finds_no_room_is_lost_and_counted(later: Later, maker: Maker) -> None:
    hold(later, maker)
    later.add(removals(*range(1, 11)))
    began = time.monotonic()
    later.add(removals(11, 12))
    assert time.monotonic() - began >= SHORT
    assert later.lost == 2
    maker.free.set()
    await_that(lambda: maker.made == removals(*range(11)))


def test_more_than_may_wait_are_taken_when_nothing_waits(later: Later, maker: Maker) -> None:
    later.add(removals(*range(30)))
    await_that(lambda: maker.made == removals(*range(30)))


def test_what_has_expired_waits_once_and_only_where_there_is_room(later: Later, maker: Maker) -> None:
    hold(later, maker)
    drop = Drop(b"key", Token(1, 1))
    for _ in range(100):
        later.drop([drop])
    assert len(later) == 1
    later.drop([Drop(b"%d" % number, Token(1, 1)) for number in range(10)])
    assert len(later) == 1
    maker.free.set()
    await_that(lambda: maker.made == [*removals(0), drop])


def _make_one(later: Later, maker: Maker) -> None:
    count = len(maker.made)

    def made() -> bool:
        later.add(removals(2))
        return len(maker.made) > count

    await_that(made)


def test_a_fault_loses_what_was_at_hand_and_goes_on(later: Later, maker: Maker) -> None:
    for fault in (BackendUnavailable("gone"), RuntimeError("a mistake")):
        maker.fault = fault
        maker.begun.clear()
        later.add(removals(1))
        assert maker.begun.wait(20)
        await_that(lambda: not len(later))
        maker.fault = None
        _make_one(later, maker)
    assert later.lost >= 1


def test_the_end_waits_for_what_waits(maker: Maker) -> None:
    later = Later(maker, most=10, patience=20)
    hold(later, maker)
    later.add(removals(1, 2))
    threading.Timer(SHORT, maker.free.set).start()
    later.close()
    assert maker.made == removals(0, 1, 2)
    later.add(removals(3))
    later.close()
    assert maker.made == removals(0, 1, 2)


def test_the_end_does_not_wait_for_ever(later: Later, maker: Maker) -> None:
    hold(later, maker)
    later.add(removals(1))
    later.close()
    assert maker.made == []


def test_a_child_begins_with_nothing(later: Later, maker: Maker) -> None:
    hold(later, maker)
    later.add(removals(1))

    def in_child() -> None:
        assert len(later) == 0
        maker.free.set()
        later.add(removals(2))
        await_that(lambda: maker.made == removals(2))

    assert Child(in_child).join() == ""
