"""The state of a cache server: who may use which epoch when, and what a failure costs whom."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from syncstore.cache.memory import MemoryProvider
from syncstore.cache.states import AlwaysUp, SharedState
from syncstore.errors import Unavailable
from syncstore.testing.clocks import SteppableClock

LEASE = 2.0


class Epochs:
    """The shared table, in memory; `away` makes it unreachable, `delay` takes time to answer, as `before_answer` may
    in earnest."""

    def __init__(self, clock: SteppableClock) -> None:
        self.clock = clock
        self.epochs: dict[str, int] = {"s": 10}
        self.asked = 0
        self.away = False
        self.delay = 0.0
        self.before_answer: Callable[[], object] = lambda: None

    def epoch(self, server: str) -> int:
        self.asked += 1
        self.before_answer()
        if self.away:
            raise Unavailable("away")
        found = self.epochs.get(server, 0)
        self.clock.step(self.delay)
        return found

    def advance_epoch(self, server: str, seen: int, to: int | None = None) -> bool:
        if self.away:
            raise Unavailable("away")
        if self.epochs.get(server, 0) != seen:
            return False
        self.epochs[server] = seen + 1 if to is None else to
        return True


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def epochs(clock: SteppableClock) -> Epochs:
    return Epochs(clock)


@pytest.fixture
def state(clock: SteppableClock, epochs: Epochs) -> SharedState:
    return SharedState(epochs, "s", clock, lease=LEASE, pause=1.0)


# -- readers


def test_the_table_is_asked_once_a_lease(state: SharedState, epochs: Epochs, clock: SteppableClock) -> None:
    for _ in range(4):
        assert state.trusted() == 10
        clock.step(LEASE / 4)
    assert epochs.asked == 1
    assert state.trusted() == 10
    assert epochs.asked == 2


def test_a_lease_begins_when_the_question_is_asked(
    state: SharedState, epochs: Epochs, clock: SteppableClock
) -> None:
    epochs.delay = 1.5
    assert state.trusted() == 10
    assert state.still(10)
    clock.step(0.5)
    assert not state.still(10)


def test_a_lease_does_not_heed_the_wall_clock(state: SharedState, clock: SteppableClock) -> None:
    state.trusted()
    clock.step(-3600)
    assert state.still(10)
    clock.step(LEASE)
    assert not state.still(10)


def test_a_failed_server_is_not_trusted(state: SharedState, epochs: Epochs) -> None:
    epochs.epochs["s"] = 11
    assert state.trusted() is None
    assert state.failed


def test_nothing_is_trusted_while_the_table_cannot_be_asked(
    state: SharedState, epochs: Epochs, clock: SteppableClock
) -> None:
    state.trusted()
    epochs.away = True
    assert state.trusted() == 10, "within the lease"
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

    def __init__(self, epochs: Epochs) -> None:
        self.asked = threading.Event()
        self.go_on = threading.Event()
        epochs.before_answer = self._wait

    def _wait(self) -> None:
        self.asked.set()
        assert self.go_on.wait(30)


def test_who_comes_while_another_asks_gets_the_same_answer(state: SharedState, epochs: Epochs) -> None:
    table = SlowTable(epochs)
    readers = [Reader(state) for _ in range(4)]
    for reader in readers:
        reader.start()
    assert table.asked.wait(30)
    table.go_on.set()
    for reader in readers:
        reader.join(30)
    assert [reader.found for reader in readers] == [10] * 4
    assert epochs.asked == 1


def test_nobody_waits_long_for_the_answer_to_another(state: SharedState, epochs: Epochs) -> None:
    table = SlowTable(epochs)
    first, second = Reader(state), Reader(state)
    first.start()
    assert table.asked.wait(30)
    second.start()
    second.join(20)
    assert second.found is None
    table.go_on.set()
    first.join(30)
    assert first.found == 10


def test_a_table_that_did_not_answer_is_not_asked_again_at_once(
    state: SharedState, epochs: Epochs, clock: SteppableClock
) -> None:
    epochs.away = True
    for _ in range(3):
        assert state.trusted() is None
    assert epochs.asked == 1
    assert not state.troubled(), "nothing is known against the cache"
    epochs.away = False
    clock.step(1.0)
    assert state.trusted() == 10


def test_a_server_that_does_not_answer_is_left_alone_by_this_process(
    state: SharedState, clock: SteppableClock
) -> None:
    state.trusted()
    state.trouble()
    assert state.trusted() is None
    assert state.troubled()
    clock.step(1.0)
    assert state.trusted() == 10


def test_a_server_that_was_never_heard_of_gets_names_of_its_own(
    clock: SteppableClock, epochs: Epochs, state: SharedState
) -> None:
    one, two = (SharedState(epochs, "new", clock, lease=LEASE) for _ in range(2))
    first = one.trusted()
    assert first is not None
    assert first >= 2 * 1_600_000_000
    assert first % 2 == 0
    assert two.trusted() == first


# -- writers


def read(epochs: Epochs) -> int:
    return epochs.epochs["s"]


def test_a_writer_may_mark_under_what_the_table_says_now(state: SharedState, epochs: Epochs) -> None:
    state.trusted()
    epochs.epochs["s"] = 12
    assert state.judge(epochs.epoch) == 12


def test_a_failure_must_be_known_for_a_lease_before_anybody_goes_without_the_cache(
    state: SharedState, epochs: Epochs, clock: SteppableClock
) -> None:
    epochs.epochs["s"] = 11
    for _ in range(4):
        with pytest.raises(Unavailable) as refused:
            state.judge(epochs.epoch)
        assert refused.value.retry_after == 3
        clock.step(LEASE / 4)
    clock.step(LEASE / 10)
    assert state.judge(epochs.epoch) is None


def test_another_failure_is_waited_for_anew(
    state: SharedState, epochs: Epochs, clock: SteppableClock
) -> None:
    epochs.epochs["s"] = 11
    state.trusted()
    clock.step(LEASE * 2)
    epochs.epochs["s"] = 13
    with pytest.raises(Unavailable):
        state.judge(epochs.epoch)


class InterruptedClock(SteppableClock):
    """Runs `meanwhile` once, when it is asked next: what another thread does in that moment."""

    meanwhile: Callable[[], object] | None = None

    def monotonic(self) -> float:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().monotonic()


def test_a_writer_may_judge_while_another_thread_brings_the_server_back() -> None:
    clock = InterruptedClock()
    epochs = Epochs(clock)
    epochs.epochs["s"] = 11
    state = SharedState(epochs, "s", clock, lease=LEASE)
    state.trusted()
    clock.step(LEASE * 2)
    cache = MemoryProvider(clock)
    clock.meanwhile = lambda: state.probe(cache)
    assert state.judge(lambda _: 11) is None
    assert epochs.epochs["s"] == 12


def test_the_prober_may_ask_how_long_to_wait_while_another_thread_brings_the_server_back() -> None:
    clock = InterruptedClock()
    epochs = Epochs(clock)
    epochs.epochs["s"] = 11
    state = SharedState(epochs, "s", clock, lease=LEASE)
    state.trusted()
    epochs.epochs["s"] = 12
    clock.meanwhile = state.current
    assert state.wait > 0
    assert state.wait == 0


def test_what_the_table_has_not_heard_of_is_no_licence(state: SharedState, epochs: Epochs) -> None:
    del epochs.epochs["s"]
    with pytest.raises(Unavailable):
        state.judge(epochs.epoch)


def test_a_failure_is_declared_once_and_only_of_the_epoch_that_failed(
    state: SharedState, epochs: Epochs
) -> None:
    state.trusted()
    assert state.declare_failed(10).retry_after == 3
    assert epochs.epochs["s"] == 11
    state.declare_failed(10)
    assert epochs.epochs["s"] == 11
    epochs.epochs["s"] = 12
    state.declare_failed(10)
    assert epochs.epochs["s"] == 12


def test_who_declares_a_failure_waits_one_lease_from_then(
    state: SharedState, epochs: Epochs, clock: SteppableClock
) -> None:
    state.trusted()
    state.declare_failed(10)
    clock.step(LEASE)
    with pytest.raises(Unavailable):
        state.judge(epochs.epoch)
    clock.step(LEASE / 10)
    assert state.judge(epochs.epoch) is None


def test_a_failure_that_cannot_be_declared_is_an_outage_of_both(state: SharedState, epochs: Epochs) -> None:
    state.trusted()
    epochs.away = True
    assert "neither does SQL" in state.declare_failed(10).reason
    assert epochs.epochs["s"] == 10


# -- coming back


def test_a_server_comes_back_under_new_names_one_lease_later(
    state: SharedState, epochs: Epochs, clock: SteppableClock
) -> None:
    cache = MemoryProvider(clock)
    state.trusted()
    state.declare_failed(10)
    assert not state.probe(cache)
    clock.step(LEASE)
    assert not state.probe(cache), "clocks may run a little differently"
    clock.step(LEASE / 10)
    assert state.probe(cache)
    assert state.trusted() == 12
    assert state.probe(cache), "it is back"
    assert epochs.epochs["s"] == 12


def test_two_who_probe_bring_it_back_once(clock: SteppableClock, epochs: Epochs) -> None:
    cache = MemoryProvider(clock)
    one, two = (SharedState(epochs, "s", clock, lease=LEASE) for _ in range(2))
    epochs.epochs["s"] = 11
    one.trusted(), two.trusted()
    clock.step(LEASE * 2)
    assert one.probe(cache)
    assert two.probe(cache)
    assert epochs.epochs["s"] == 12


# -- the cache of one process


def test_a_memory_is_of_use_to_the_process_that_made_it() -> None:
    state = AlwaysUp()
    assert (state.trusted(), state.judge(lambda _: 1), state.troubled()) == (0, 0, False)
    child = os.fork()
    if not child:
        os._exit(int((state.trusted(), state.judge(lambda _: 1), state.troubled()) != (None, None, True)))
    assert os.waitpid(child, 0)[1] == 0


# -- an operator's wish


def test_all_is_forgotten_under_names_that_no_life_of_the_database_has_used(
    clock: SteppableClock, epochs: Epochs, state: SharedState
) -> None:
    # As after a restore: the backup is from before two failures, whose epochs have records in the cache.
    cache = MemoryProvider(clock)
    state = SharedState(epochs, "new", clock, lease=LEASE)
    backup = state.trusted()
    assert backup is not None
    used = [backup]
    for _ in range(2):
        state.declare_failed(used[-1])
        clock.step(LEASE)
        assert state.trusted() is None
        clock.step(LEASE * 2)
        assert state.probe(cache)
        used.append(epochs.epochs["new"])
    epochs.epochs["new"] = backup
    state = SharedState(epochs, "new", clock, lease=LEASE)
    state.forget_all()
    assert state.trusted() is None
    assert not state.probe(cache)
    clock.step(state.wait)
    assert state.probe(cache)
    now = state.trusted()
    assert now is not None
    assert now > max(used)


@pytest.mark.parametrize("before", [0, 10, 11, 10**10, 10**10 + 1])
def test_whoever_brings_a_forgotten_server_back_finds_a_new_name(
    clock: SteppableClock, epochs: Epochs, state: SharedState, before: int
) -> None:
    epochs.epochs["s"] = before
    state.forget_all()
    failed = epochs.epochs["s"]
    assert failed & 1
    assert failed > before
    assert failed > 2 * clock.seconds()


def test_what_others_change_all_the_time_is_not_forgotten(
    state: SharedState, epochs: Epochs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "advance_epoch", lambda *_: False)
    with pytest.raises(Unavailable):
        state.forget_all()


# -- what the log says


def test_a_failure_and_a_return_are_told_once(
    clock: SteppableClock, epochs: Epochs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "syncstore")
    one, two = (SharedState(epochs, "s", clock, lease=LEASE) for _ in range(2))
    one.trusted(), two.trusted()
    one.declare_failed(10), two.declare_failed(10)
    clock.step(LEASE)
    one.trusted(), two.trusted()
    clock.step(LEASE * 2)
    cache = MemoryProvider(clock)
    one.probe(cache), two.probe(cache)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [message.split(" and ")[0] for message in warnings] == [
        "the cache s did not answer a writer",
        "the cache s answers again",
    ]
    assert [record.message for record in caplog.records if record.levelname == "INFO"].count(
        "the cache s is out of use since epoch 11"
    ) == 2
