"""Work is done again where a store asks for that, so often and so long and no longer."""

from __future__ import annotations

import pytest

from syncstore.errors import NotFound, NotYet, RolledBack, SyncError, Unavailable
from syncstore.storage.attempts import ATTEMPTS, PATIENCE, SHORTEST, attempted
from syncstore.testing.clocks import SteppableClock


class Work:
    """Meets these errors, one at each time that it is begun, and is done then."""

    def __init__(self, *errors: SyncError) -> None:
        self.errors = list(errors)
        self.begun = 0

    def __call__(self) -> str:
        self.begun += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


def rolled_back() -> RolledBack:
    return RolledBack("a deadlock")


def not_yet(after: float) -> NotYet:
    return NotYet("it was declared failed just now", after)


def test_what_meets_nothing_is_done_once(clock: SteppableClock) -> None:
    work = Work()
    assert attempted(work, clock) == "done"
    assert (work.begun, clock.slept) == (1, 0)


def test_what_others_were_preferred_to_is_begun_again_at_once(clock: SteppableClock) -> None:
    work = Work(*[rolled_back() for _ in range(ATTEMPTS - 1)])
    assert attempted(work, clock) == "done"
    assert (work.begun, clock.slept) == (ATTEMPTS, 0)


def test_but_not_for_ever(clock: SteppableClock) -> None:
    work = Work(*[rolled_back() for _ in range(ATTEMPTS)])
    with pytest.raises(RolledBack):
        attempted(work, clock)
    assert work.begun == ATTEMPTS


def test_what_has_to_wait_waits_as_long_as_it_is_told(clock: SteppableClock) -> None:
    work = Work(not_yet(1.011), not_yet(0.02), not_yet(1.011))
    assert attempted(work, clock) == "done"
    assert work.begun == 4
    assert clock.slept == pytest.approx(2.042)


def test_who_has_waited_for_long_enough_is_told_when_to_come_again(clock: SteppableClock) -> None:
    work = Work(*[not_yet(PATIENCE / 2) for _ in range(3)])
    with pytest.raises(NotYet) as refused:
        attempted(work, clock)
    assert refused.value.retry_after == int(PATIENCE / 2) + 1
    assert (work.begun, clock.slept) == (3, PATIENCE)


def test_a_wait_that_would_take_too_long_is_not_begun(clock: SteppableClock) -> None:
    work = Work(not_yet(PATIENCE + 0.01))
    with pytest.raises(NotYet):
        attempted(work, clock)
    assert (work.begun, clock.slept) == (1, 0)


def test_waits_of_nothing_have_an_end_too(clock: SteppableClock) -> None:
    work = Work(*[not_yet(0) for _ in range(1000)])
    with pytest.raises(NotYet):
        attempted(work, clock)
    assert work.begun == pytest.approx(PATIENCE / SHORTEST, abs=2)
    assert clock.slept == 0


def test_waits_and_deadlocks_are_counted_apart(clock: SteppableClock) -> None:
    work = Work(not_yet(1), rolled_back(), not_yet(1), rolled_back(), not_yet(1))
    assert attempted(work, clock) == "done"
    assert work.begun == 6


@pytest.mark.parametrize("error", [Unavailable("the database is away"), NotFound("no such item")])
def test_nothing_else_is_done_again(clock: SteppableClock, error: SyncError) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        attempted(work, clock)
    assert work.begun == 1
