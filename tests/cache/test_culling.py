"""The thread that culls: its steps, its faults, its end, and a fork."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from syncstore.cache.api import BackendUnavailable
from syncstore.cache.culling import LIMIT, Culling
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import SystemClock
from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.waiting import await_that

OFTEN = 0.01


class Cache(MemoryProvider):
    """A memory that counts how often it is culled, and drops as many as it is told, or raises."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.calls: list[int] = []
        self.moments: list[float] = []
        self.left = 0
        self.fault: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        assert now is None
        self.calls.append(limit)
        self.moments.append(time.monotonic())
        self.hold.wait(20)
        if self.fault is not None:
            raise self.fault
        dropped = min(limit, self.left)
        self.left -= dropped
        return dropped


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
def culling(cache: Cache) -> Iterator[Culling]:
    culling = Culling(cache, OFTEN, name="objects")
    yield culling
    cache.hold.set()
    culling.stop()


def threads() -> int:
    return len([thread for thread in threading.enumerate() if thread.name == "syncstore-cull-objects"])


def again(cache: Cache) -> None:
    """Wait until it was culled once more than now, from beginning to end."""
    before = len(cache.calls)
    await_that(lambda: len(cache.calls) > before + 1)


def test_it_culls_again_and_again(culling: Culling, cache: Cache) -> None:
    culling.start()
    culling.start()
    await_that(lambda: len(cache.calls) >= 5)
    assert set(cache.calls) == {LIMIT}
    assert threads() == 1


def test_the_pauses_differ_by_a_tenth_at_most(cache: Cache) -> None:
    pauses = [Culling(cache, 60.0, name="objects")._pause() for _ in range(200)]
    assert min(pauses) >= 54
    assert max(pauses) <= 66
    assert max(pauses) - min(pauses) > 6


def test_it_takes_steps_until_nothing_is_left(culling: Culling, cache: Cache) -> None:
    cache.left = LIMIT * 3 + 1
    culling._turn(threading.Event())
    assert cache.left == 0
    assert len(cache.calls) == 4


def test_what_has_expired_goes_from_a_real_cache() -> None:
    clock = SteppableClock()
    cache = MemoryProvider(clock)
    for number in range(2500):
        cache.store(b"%d" % number, b"x", clock.seconds() + (10 if number % 5 else 1000))
    clock.step(100)
    culling = Culling(cache, OFTEN, name="objects")
    culling.start()
    await_that(lambda: cache.status()["items"] == 500)
    culling.stop()


def test_with_no_interval_it_never_begins(cache: Cache) -> None:
    culling = Culling(cache, 0, name="objects")
    culling.start()
    assert threads() == 0
    culling.stop()
    assert cache.calls == []


def test_a_stop_does_not_wait_for_the_interval(cache: Cache) -> None:
    culling = Culling(cache, 3600, name="objects")
    culling.start()
    began = time.monotonic()
    culling.stop()
    assert time.monotonic() - began < 5
    assert threads() == 0


def test_a_stop_ends_it_amid_its_steps(culling: Culling, cache: Cache) -> None:
    cache.left = 10**9
    culling.start()
    await_that(lambda: len(cache.calls) > 3)
    culling.stop()
    assert threads() == 0
    assert cache.left > 0


def test_after_a_stop_it_can_begin_again(culling: Culling, cache: Cache) -> None:
    culling.start()
    again(cache)
    culling.stop()
    culling.start()
    again(cache)


def test_an_outage_is_told_of_once_and_does_not_end_it(
    culling: Culling, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    culling.start()
    for outage in range(1, 3):
        cache.fault = BackendUnavailable("gone fishing")
        again(cache)
        again(cache)
        cache.fault = None
        again(cache)
        told = [record.getMessage() for record in caplog.records]
        assert len([line for line in told if "gone fishing" in line]) == outage
        assert len([line for line in told if "can be culled again" in line]) == outage
    assert "the cache objects cannot be culled, and it is tried again every 0.01 s" in caplog.text


def test_a_fault_of_ours_does_not_end_it(
    culling: Culling, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.fault = RuntimeError("a mistake")
    culling.start()
    again(cache)
    cache.fault = None
    cache.left = 1
    await_that(lambda: cache.left == 0)
    assert "a mistake" in caplog.text


def test_a_child_after_a_fork_begins_its_own(culling: Culling, cache: Cache) -> None:
    culling.start()
    again(cache)

    def in_child() -> None:
        assert threads() == 0
        culling.start()
        again(cache)
        culling.stop()

    assert Child(in_child).join() == ""
    again(cache)
