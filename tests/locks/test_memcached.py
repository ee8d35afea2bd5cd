"""The locks that are leases in a cache: what becomes of them when leases end, answers are lost, and caches fail."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random
from typing import Literal, TypeVar

import pytest

from syncstore.cache.api import BackendUnavailable, Expect, Features, Item, StorageFull, Token
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import Clock, SystemClock
from syncstore.errors import ConfigError, LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import Locks, Mode
from syncstore.locks.leases import Lease, Record, decode, encode
from syncstore.locks.memcached import LONGEST_TTL, MARGIN, WAITING_SECONDS, MemcachedGrant, MemcachedLocks
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.lock_conformance import LockConformance
from syncstore.testing.lock_holder import OpenLocks

KEY = (7, "bookmarks")
NAME = b"l:7:bookmarks"
TTL = 60.0

Fault = Literal["before", "after", "late"]
Result = TypeVar("Result")


class FaultyProvider(MemoryProvider):
    """A memory whose calls are counted, and fail as a test wants.

    `faults` has for the number of a call what befalls it: it fails "before" it reaches the memory, or "after",
    so that only the answer is lost, or it is carried out "late", when the test calls what is in `floating`.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.calls: list[str] = []
        self.faults: dict[int, Fault] = {}
        self.floating: list[Callable[[], object]] = []
        self.down = self.full = False
        self.skew = 0.0  # seconds by which the clock of whoever asks is ahead
        self.before_a_call: Callable[[], object] = lambda: None

    def _call(self, word: str, carry_out: Callable[[], Result]) -> Result:
        fault = self.faults.get(len(self.calls))
        self.calls.append(word)
        self.before_a_call()
        if self.down or fault is not None:
            if fault == "after":
                carry_out()
            elif fault == "late":
                self.floating.append(carry_out)
            raise BackendUnavailable("no answer")
        return carry_out()

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        if self.full:
            raise StorageFull("out of memory")
        expires -= self.skew if expires else 0
        return self._call("store", lambda: MemoryProvider.store(self, key, value, expires, expect=expect))

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        self._call("remove", lambda: MemoryProvider.remove(self, key, expect=expect))

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        return self._call("fetch", lambda: MemoryProvider.fetch(self, keys, reserve=reserve))

    def float_in(self) -> None:
        """Carry out what was late; it may be refused by now."""
        for carry_out in self.floating:
            with suppress(Exception):
                carry_out()
        self.floating.clear()


# -- every rule of locks


@contextmanager
def open_in_memory(
    provider: MemoryProvider | None = None, *, shared_reads: bool = True, ttl: float = TTL
) -> Iterator[Locks]:
    clock = SystemClock()
    backend = MemcachedLocks(provider or MemoryProvider(clock), clock, ttl=ttl, shared_reads=shared_reads)
    yield Locks(backend, clock, timeout=5.0)


class TestInMemory(LockConformance):
    other_processes = False
    shared_reads = True

    @pytest.fixture
    def open_locks(self) -> OpenLocks:
        return lambda: open_in_memory(shared_reads=self.shared_reads)

    @pytest.fixture
    def open_unreachable_locks(self) -> OpenLocks:
        provider = FaultyProvider(SystemClock())
        provider.down = True
        return lambda: open_in_memory(provider, shared_reads=self.shared_reads)


class TestInMemoryWithoutSharedReads(TestInMemory):
    shared_reads = False
    readers_share = False
    readers_let_writers_in = False


# -- one cache, several processes


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def cache(clock: SteppableClock) -> FaultyProvider:
    return FaultyProvider(clock)


Process = Callable[[], MemcachedLocks]


@pytest.fixture
def process(cache: FaultyProvider, clock: SteppableClock) -> Process:
    """Makes the locks of one more process."""
    seeds = itertools.count()
    return lambda: MemcachedLocks(cache, clock, ttl=TTL, shared_reads=True, random=Random(next(seeds)))


@pytest.fixture
def ours(process: Process) -> MemcachedLocks:
    return process()


@pytest.fixture
def others(process: Process) -> MemcachedLocks:
    return process()


def record_in(cache: FaultyProvider) -> Record | None:
    """What is stored under the lock's key."""
    (item,) = MemoryProvider.fetch(cache, [NAME])
    return None if item is None else decode(item.value)


def lose_memory(cache: FaultyProvider) -> None:
    MemoryProvider.close(cache)


# -- what it costs


def test_an_undisturbed_lock_costs_two_round_trips_and_leaves_nothing(
    ours: MemcachedLocks, cache: FaultyProvider
) -> None:
    for mode in ("read", "write"):
        ours.acquire(KEY, mode, 1.0).release()
    assert cache.calls == ["store", "remove"] * 2
    assert list(cache.iterate()) == []


def test_a_shared_lock_costs_two_more(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider
) -> None:
    first = others.acquire(KEY, "read", 1.0)
    cache.calls.clear()
    ours.acquire(KEY, "read", 1.0).release()
    assert cache.calls == ["store", "fetch", "store", "store"]
    first.release()
    assert list(cache.iterate()) == []


def test_each_collection_of_each_user_is_a_lock_of_its_own(ours: MemcachedLocks) -> None:
    for key in ((7, ""), (7, "a"), (7, "b"), (71, ""), (71, "a")):
        ours.acquire(key, "write", 0)


def test_the_number_of_a_grant_grows_also_after_the_cache_lost_its_memory(
    ours: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    numbers = [ours.acquire(KEY, "read", 0).token for _ in range(3)]
    lose_memory(cache)
    clock.step(0.01)
    numbers.append(ours.acquire(KEY, "read", 0).token)
    assert numbers == sorted(set(numbers))


# -- waiting


@pytest.mark.parametrize("timeout", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("held", "mode"), [("write", "read"), ("write", "write"), ("read", "write")])
def test_it_waits_just_as_long_as_asked_and_looks_again_at_irregular_times(
    ours: MemcachedLocks,
    others: MemcachedLocks,
    clock: SteppableClock,
    held: Mode,
    mode: Mode,
    timeout: float,
) -> None:
    others.acquire(KEY, held, 0)
    began = clock.monotonic()
    with pytest.raises(LockTimeout, match="others hold the lock on collection 'bookmarks' of user 7"):
        ours.acquire(KEY, mode, timeout)
    assert clock.monotonic() - began == pytest.approx(timeout)


def test_it_looks_at_the_lock_between_5_and_50_ms_apart(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    others.acquire(KEY, "write", 0)
    times: list[float] = []
    cache.before_a_call = lambda: times.append(clock.monotonic())
    with pytest.raises(LockTimeout):
        ours.acquire(KEY, "write", 5.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[1:-1])]
    assert all(0.005 <= gap <= 0.05 for gap in gaps)
    assert len({round(gap, 6) for gap in gaps}) > 50


def test_a_writer_who_waits_holds_back_new_readers_until_it_has_had_the_lock(
    ours: MemcachedLocks, others: MemcachedLocks, process: Process, cache: FaultyProvider
) -> None:
    reading = [others.acquire(KEY, "read", 0) for _ in range(3)]
    late = process()
    refused = []

    def meanwhile() -> None:
        if (record := record_in(cache)) and record.waiting:
            cache.before_a_call = lambda: None
            with pytest.raises(LockTimeout):
                late.acquire(KEY, "read", 0)
            refused.append(True)
            while reading:
                reading.pop().release()

    cache.before_a_call = meanwhile
    writing = ours.acquire(KEY, "write", 5.0)
    assert refused == [True]
    assert record_in(cache) is not None
    writing.release()
    late.acquire(KEY, "read", 0)


def test_a_writer_who_waits_long_goes_on_holding_them_back(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    others.acquire(KEY, "read", 0)
    waiting = []

    def look() -> None:
        record = record_in(cache)
        waiting.append(bool(record and record.waiting and record.waiting.until > clock.now_ms()))

    cache.before_a_call = look
    with pytest.raises(LockTimeout):
        ours.acquire(KEY, "write", 20.0)
    assert all(waiting[3:])


def test_a_writer_who_gave_up_lets_them_in_at_once(ours: MemcachedLocks, others: MemcachedLocks) -> None:
    others.acquire(KEY, "read", 0)
    with pytest.raises(LockTimeout):
        ours.acquire(KEY, "write", 1.0)
    others.acquire(KEY, "read", 0)


def test_a_writer_who_died_waiting_holds_them_back_for_two_seconds(
    others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    others.acquire(KEY, "read", 0)
    (item,) = MemoryProvider.fetch(cache, [NAME])
    assert item is not None
    record = record_in(cache)
    assert record is not None
    until = clock.now_ms() + int(WAITING_SECONDS * 1000)
    cache.store(NAME, encode(record.awaited(Lease(5, until))), item.expires)
    with pytest.raises(LockTimeout):
        others.acquire(KEY, "read", WAITING_SECONDS - 0.1)
    others.acquire(KEY, "read", 0.2)


def test_a_writer_that_waits_for_a_writer_asks_and_changes_nothing(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider
) -> None:
    others.acquire(KEY, "write", 0)
    cache.calls.clear()
    with pytest.raises(LockTimeout):
        ours.acquire(KEY, "write", 1.0)
    assert cache.calls[0] == "store"
    assert set(cache.calls[1:]) == {"fetch"}


def test_a_record_that_others_change_all_the_time_is_not_tried_for_ever(
    ours: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    """With somebody between each look and its compare-and-set."""

    def disturb() -> None:
        MemoryProvider.store(cache, NAME, encode(Record(len(cache.calls))), clock.seconds() + 60)

    cache.before_a_call = disturb
    with pytest.raises(LockTimeout):
        ours.acquire(KEY, "write", 0)
    assert len(cache.calls) < 200
    assert clock.slept < 0.2
    cache.before_a_call = lambda: None
    grant = ours.acquire(KEY, "write", 0)
    held = record_in(cache)
    assert held is not None

    def disturb_the_holder() -> None:
        MemoryProvider.store(cache, NAME, encode(held), clock.seconds() + 60)

    cache.before_a_call = disturb_the_holder
    with pytest.raises(LockUnavailable):
        grant.release()
    assert len(cache.calls) < 400


# -- a lease that ends


def test_a_lease_counts_from_before_it_was_asked_for_and_ends_early_for_its_holder(
    ours: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    cache.before_a_call = lambda: clock.step(1.0)
    grant = ours.acquire(KEY, "write", 5.0)
    cache.before_a_call = lambda: None
    clock.step(TTL - MARGIN - 1.01)
    assert grant.valid()
    clock.step(0.02)
    assert not grant.valid()
    grant.release()  # nobody else had it, so nothing was lost


def test_a_clock_that_is_set_does_not_change_what_the_holder_believes(
    ours: MemcachedLocks, clock: SteppableClock
) -> None:
    grant = ours.acquire(KEY, "write", 0)
    clock.step(-3600)
    assert grant.valid()


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_holder_who_was_late_takes_nothing_from_the_next_one(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock, mode: Mode
) -> None:
    for _ in range(1000):
        late = ours.acquire(KEY, mode, 0)
        clock.step(TTL)
        assert not late.valid()
        grant = others.acquire(KEY, "write", 0)
        held = record_in(cache)
        with pytest.raises(LockLost):
            late.release()
        assert record_in(cache) == held
        assert grant.valid()
        with pytest.raises(LockTimeout):
            ours.acquire(KEY, mode, 0)
        grant.release()


def test_locks_count_what_was_lost_and_go_on(
    ours: MemcachedLocks, others: MemcachedLocks, clock: SteppableClock, caplog: pytest.LogCaptureFixture
) -> None:
    locks = Locks(ours, clock, 5.0)
    with locks.write(*KEY) as handle:
        clock.step(TTL)
        with pytest.raises(LockLost):
            handle.check()
        grant = others.acquire(KEY, "write", 0)
    assert locks.lost_at_release == 1
    assert "lost before its release" in caplog.text
    grant.release()


def test_a_dead_reader_among_living_ones_lets_a_writer_in_when_its_lease_ends(
    ours: MemcachedLocks, others: MemcachedLocks, clock: SteppableClock
) -> None:
    ours.acquire(KEY, "read", 0)  # and never given back
    clock.step(TTL / 2)
    living = others.acquire(KEY, "read", 0)
    clock.step(TTL / 2 + 0.01)
    living.release()
    others.acquire(KEY, "write", 0)


def test_a_lock_without_shared_reads_ends_with_its_lease_too(
    cache: FaultyProvider, clock: SteppableClock
) -> None:
    exclusive = MemcachedLocks(cache, clock, ttl=TTL, shared_reads=False)
    late = exclusive.acquire(KEY, "read", 0)
    clock.step(TTL - 0.01)
    with pytest.raises(LockTimeout):
        exclusive.acquire(KEY, "read", 0)
    clock.step(0.02)
    exclusive.acquire(KEY, "read", 0)
    with pytest.raises(LockLost):
        late.release()


# -- clocks that differ


@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
@pytest.mark.parametrize("held", ["read", "write"])
def test_a_machine_whose_clock_is_wrong_respects_who_holds_the_lock_alone(
    ours: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock, hours: int, held: Mode
) -> None:
    wrong = SteppableClock(clock.now_ms() + hours * 3_600_000)
    theirs = MemcachedLocks(cache, wrong, ttl=TTL, shared_reads=True)

    def step(seconds: float) -> None:
        clock.step(seconds)
        wrong.step(seconds)

    ours.acquire(KEY, held, 0)
    step(TTL - 0.01)
    cache.skew = hours * 3600.0
    with pytest.raises(LockTimeout):
        theirs.acquire(KEY, "write", 0)
    step(0.02)
    theirs.acquire(KEY, "write", 0)
    cache.skew = 0
    step(TTL - 0.01)
    with pytest.raises(LockTimeout):
        ours.acquire(KEY, "write", 0)
    step(0.02)
    ours.acquire(KEY, "write", 0)


def test_a_lease_of_a_clock_that_is_far_ahead_does_not_keep_others_out(
    ours: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    far = clock.now_ms() + int(LONGEST_TTL * 1000) + 1000
    cache.store(NAME, encode(Record(1, readers=(Lease(5, far), Lease(6, far)))), clock.seconds() + 1e6)
    ours.acquire(KEY, "write", 0)


def test_a_lease_of_such_a_clock_that_is_left_alone_ends_in_an_hour(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    ahead = SteppableClock(clock.now_ms() + 48 * 3_600_000)
    living = ours.acquire(KEY, "read", 0)
    cache.skew = 48 * 3600.0
    MemcachedLocks(cache, ahead, ttl=TTL, shared_reads=True).acquire(KEY, "read", 0)
    cache.skew = 0
    with suppress(LockLost):
        living.release()
    clock.step(LONGEST_TTL + 1)
    others.acquire(KEY, "write", 0)


# -- a cache that forgets, fills up, or holds what is none of ours


@pytest.mark.parametrize("mode", ["read", "write"])
def test_a_lock_that_the_cache_forgot_is_free_and_its_holder_disturbs_nobody(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, mode: Mode
) -> None:
    forgotten = ours.acquire(KEY, mode, 0)
    lose_memory(cache)
    with pytest.raises(LockLost):
        forgotten.release()
    forgotten = ours.acquire(KEY, mode, 0)
    lose_memory(cache)
    grant = others.acquire(KEY, "write", 0)
    held = record_in(cache)
    with pytest.raises(LockLost):
        forgotten.release()
    assert record_in(cache) == held
    grant.release()


@pytest.mark.parametrize("value", [b"", b"true", b"L\x02\x94\x01\xc0\xc0\x90", b"L\x01 cut"])
def test_a_value_that_is_no_record_is_replaced(
    ours: MemcachedLocks,
    others: MemcachedLocks,
    cache: FaultyProvider,
    value: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache.store(NAME, value)
    grant = ours.acquire(KEY, "write", 0)
    assert "no record of ours" in caplog.text
    with pytest.raises(LockTimeout):
        others.acquire(KEY, "read", 0)
    grant.release()
    assert list(cache.iterate()) == []


def test_a_cache_that_is_full_is_unavailable_and_not_busy(
    ours: MemcachedLocks, cache: FaultyProvider
) -> None:
    cache.full = True
    with pytest.raises(LockUnavailable, match="out of memory") as caught:
        ours.acquire(KEY, "write", 5.0)
    assert caught.value.retry_after is None


def test_a_full_cache_at_release_leaves_the_lease_to_end_by_itself(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    first, second = ours.acquire(KEY, "read", 0), others.acquire(KEY, "read", 0)
    cache.full = True
    with pytest.raises(LockUnavailable, match="out of memory"):
        first.release()
    cache.full = False
    second.release()
    with pytest.raises(LockTimeout):
        others.acquire(KEY, "write", 0)
    clock.step(TTL)
    others.acquire(KEY, "write", 0)


# -- answers that do not come


def test_a_cache_that_cannot_be_asked_is_asked_twice_and_no_more(
    ours: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    cache.down = True
    with pytest.raises(LockUnavailable, match="no answer") as caught:
        ours.acquire(KEY, "write", 5.0)
    assert caught.value.retry_after is None
    assert len(cache.calls) == 2
    assert clock.slept == 0


def test_a_grant_whose_answer_was_lost_is_found_by_looking(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    cache.faults = {0: "after"}
    cache.before_a_call = lambda: clock.step(1.0)
    grant = ours.acquire(KEY, "write", 0)
    cache.before_a_call = lambda: None
    assert cache.calls == ["store", "fetch"]
    with pytest.raises(LockTimeout):
        others.acquire(KEY, "write", 0)
    clock.step(TTL - MARGIN - 1.99)
    assert not grant.valid()  # counted from before the request whose answer was lost
    grant.release()
    assert list(cache.iterate()) == []


def test_a_request_that_got_lost_is_made_again(ours: MemcachedLocks, cache: FaultyProvider) -> None:
    cache.faults = {0: "before"}
    ours.acquire(KEY, "write", 0).release()
    assert cache.calls == ["store", "fetch", "store", "remove"]


def test_a_request_that_is_carried_out_late_makes_no_second_holder(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider
) -> None:
    cache.faults = {0: "late"}
    grant = ours.acquire(KEY, "write", 0)
    held = record_in(cache)
    cache.float_in()
    assert record_in(cache) == held
    grant.release()
    others.acquire(KEY, "write", 0)


def test_a_lease_that_nobody_holds_by_is_in_the_way_of_other_processes_only(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    cache.faults = {0: "after", 1: "before"}
    with pytest.raises(LockUnavailable):
        ours.acquire(KEY, "write", 5.0)
    with pytest.raises(LockTimeout):
        others.acquire(KEY, "write", 1.0)
    ours.acquire(KEY, "write", 0).release()
    others.acquire(KEY, "write", 0).release()

    cache.calls.clear()
    with pytest.raises(LockUnavailable):
        ours.acquire(KEY, "write", 5.0)
    clock.step(TTL)
    others.acquire(KEY, "write", 0)


def test_a_release_whose_answer_was_lost_is_none_to_complain_about(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider
) -> None:
    faults: tuple[Fault, ...] = ("after", "before")
    for fault in faults:
        cache.calls.clear()
        cache.faults = {1: fault}
        ours.acquire(KEY, "write", 0).release()
        assert list(cache.iterate()) == []


def test_a_release_that_cannot_be_sent_says_so_and_the_lease_ends_the_lock(
    ours: MemcachedLocks, others: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    grant = ours.acquire(KEY, "write", 0)
    cache.down = True
    with pytest.raises(LockUnavailable):
        grant.release()
    cache.down = False
    with pytest.raises(LockTimeout):
        others.acquire(KEY, "write", 0)
    ours.acquire(KEY, "write", 0).release()
    others.acquire(KEY, "write", 0).release()


def test_an_outage_at_release_masks_neither_an_exception_nor_a_result(
    ours: MemcachedLocks, cache: FaultyProvider, clock: SteppableClock
) -> None:
    locks = Locks(ours, clock, 5.0)
    error = ZeroDivisionError("mine")

    def fail() -> None:
        cache.down = True
        raise error

    with pytest.raises(ZeroDivisionError) as caught, locks.write(*KEY):
        fail()
    assert caught.value is error
    cache.down = False
    with locks.write(*KEY):
        cache.down = True
    assert locks.lost_at_release == 2


@pytest.mark.parametrize("shared_reads", [True, False])
@pytest.mark.parametrize("fault", ["before", "after", "late"])
def test_whichever_call_fails_no_two_hold_the_lock_and_it_is_free_in_the_end(
    clock: SteppableClock, fault: Fault, shared_reads: bool
) -> None:
    """A reader, a writer and a reader of three processes, one after the other, with each call failing once."""
    for number, then in itertools.product(range(12), range(1, 4)):
        cache = FaultyProvider(clock)
        cache.faults = {number: fault, number + then: fault}
        processes = [
            MemcachedLocks(cache, clock, ttl=TTL, shared_reads=shared_reads, random=Random(seed))
            for seed in range(3)
        ]
        modes: tuple[Mode, ...] = ("read", "write", "read")
        held: list[tuple[Mode, MemcachedGrant]] = []
        for locks, mode in zip(processes, modes, strict=True):
            with suppress(LockTimeout, LockUnavailable):
                held.append((mode, locks.acquire(KEY, mode, 0.1)))
            cache.float_in()
            writers = [mode for mode, _ in held if mode == "write"]
            assert not writers or len(held) == 1, (number, then)
        for _, grant in held:
            with suppress(LockUnavailable):
                grant.release()
            cache.float_in()
        clock.step(TTL + 1)
        for locks in processes:
            locks.acquire(KEY, "write", 0).release()


# -- both forms at once, and what is refused


@pytest.mark.parametrize("held", ["read", "write"])
@pytest.mark.parametrize("asked", ["read", "write"])
def test_both_forms_of_the_lock_respect_each_other(
    cache: FaultyProvider, clock: SteppableClock, held: Mode, asked: Mode
) -> None:
    shared, exclusive = (
        MemcachedLocks(cache, clock, ttl=TTL, shared_reads=shared_reads) for shared_reads in (True, False)
    )
    for first, second in ((shared, exclusive), (exclusive, shared)):
        grant = first.acquire(KEY, held, 0)
        with pytest.raises(LockTimeout):
            second.acquire(KEY, asked, 0.1)
        grant.release()
        second.acquire(KEY, asked, 0).release()


class WithoutCompareAndSet(MemoryProvider):
    features = Features(
        cas=False, shared=True, shared_hosts=True, persistent=False, evicts=True, iterable=False
    )


def test_a_cache_without_compare_and_set_is_refused(clock: SteppableClock) -> None:
    with pytest.raises(ConfigError, match=r"lock\.backend"):
        MemcachedLocks(WithoutCompareAndSet(clock), clock, ttl=TTL, shared_reads=True)


@pytest.mark.parametrize("ttl", [0, MARGIN, LONGEST_TTL + 1])
def test_a_lease_that_cannot_be_is_refused(cache: FaultyProvider, clock: SteppableClock, ttl: float) -> None:
    with pytest.raises(ConfigError, match=r"lock\.ttl"):
        MemcachedLocks(cache, clock, ttl=ttl, shared_reads=True)
