"""The gate lets many in, one alone, and never makes a thread wait for itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from syncstore.zookeeper.gate import Gate


def soon() -> float:
    return time.monotonic() + 20


@contextmanager
def in_thread(work: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield thread
    thread.join(20)
    assert not thread.is_alive()


def waits(gate: Gate) -> None:
    end = soon()
    while not gate._waiting:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_many_threads_are_inside_at_once() -> None:
    gate = Gate()
    inside = threading.Barrier(3)

    def visit() -> None:
        assert gate.enter(soon())
        inside.wait(20)
        gate.leave()

    with in_thread(visit), in_thread(visit):
        visit()
    assert gate.held == 0


def test_one_alone_waits_for_those_inside() -> None:
    gate = Gate()
    order: list[str] = []
    gate.enter(soon())

    def alone() -> None:
        with gate.exclusive(soon(), soon()) as entered:
            order.append(f"alone {entered}")

    with in_thread(alone):
        waits(gate)
        order.append("left")
        gate.leave()
    assert order == ["left", "alone True"]


def test_a_thread_inside_enters_again_while_another_waits_to_be_alone() -> None:
    gate = Gate()
    gate.enter(soon())

    def alone() -> None:
        with gate.exclusive(soon(), soon()) as entered:
            assert entered

    with in_thread(alone):
        waits(gate)
        assert gate.enter(time.monotonic())
        assert gate.depth == 2
        gate.leave()
        gate.leave()


def test_who_comes_new_waits_behind_who_waits_to_be_alone() -> None:
    gate = Gate()
    gate.enter(soon())
    results: list[bool] = []

    def alone() -> None:
        with gate.exclusive(soon(), soon()):
            pass

    with in_thread(alone):
        waits(gate)
        with in_thread(lambda: results.append(gate.enter(time.monotonic() + 0.05))):
            pass
        with in_thread(lambda: results.append(gate.try_enter())):
            pass
        gate.leave()
    assert results == [False, False]


def test_patience_ends_beside_those_who_stay() -> None:
    gate = Gate()
    gate.enter(soon())

    def alone() -> None:
        with gate.exclusive(soon(), time.monotonic() + 0.05) as entered:
            assert entered

    with in_thread(alone):
        pass
    assert gate.depth == 1
    gate.leave()
    assert gate.held == 0


def test_a_deadline_ends_the_wait_to_be_alone() -> None:
    gate = Gate()
    gate.enter(soon())

    def alone() -> None:
        with gate.exclusive(time.monotonic() + 0.05, soon()) as entered:
            assert not entered

    with in_thread(alone):
        pass
    gate.leave()
    assert gate.enter(soon())  # nobody waits any more


def test_who_is_alone_may_enter() -> None:
    gate = Gate()
    with gate.exclusive(soon(), soon()) as entered:
        assert entered
        assert gate.enter(time.monotonic())
        gate.leave()


def test_faults_of_the_caller_are_refused() -> None:
    gate = Gate()
    with pytest.raises(RuntimeError, match="not inside"):
        gate.leave()
    gate.enter(soon())

    def leave() -> None:
        with pytest.raises(RuntimeError, match="not inside"):
            gate.leave()

    with in_thread(leave), pytest.raises(RuntimeError, match="cannot wait"):
        gate.exclusive(soon(), soon()).__enter__()
