"""The keeper of a group's servers: markers are renewed, and what answers again comes back. The clock is stepped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from syncstore.cache.api import BackendUnavailable
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.claims import LIFE, RENEWAL, Claims, Taken
from syncstore.cache.memcached.group import Group, Member
from syncstore.cache.memcached.keeper import Keeper
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memcached.records import Standing, after_failure, standing
from syncstore.cache.memcached.records_in_memory import MemoryRecords
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import DRIFT, Rules, SharedState
from syncstore.errors import ConfigError
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.tcp_proxy import TcpProxy

LEASE = 1.0
RETRY = 15.0
UP = 80
FAILED = after_failure(UP)
LONG = LEASE * DRIFT + 0.001


class Process:
    """A process with its view of one server, its markers and its keeper, which the test calls round by round."""

    def __init__(
        self,
        values: MemcachedProvider,
        marks: MemcachedProvider,
        records: MemoryRecords,
        clock: SteppableClock,
        host: str = "web1",
        *,
        settings: str = "ours",
        retry_interval: float = RETRY,
        stand_ins: bool = False,
        flush: bool = False,
        in_sql: bool = True,
    ) -> None:
        self.clock = clock
        self.claims = Claims(settings, host, clock)
        self.values = values
        self.marks = marks
        servers = Servers(records, ["s"], clock, Rules(LEASE, stand_ins=stand_ins), in_sql=in_sql)
        group = Group(servers, "consistent")
        group.add(Member("s", values, marks, servers["s"], retry_interval), 1)
        self.state: SharedState = servers["s"]
        self.keeper = Keeper(group, self.claims, clock, flush=flush)

    def rounds(self, seconds: float) -> None:
        """So many seconds in the life of the keeper."""
        ends = self.clock.monotonic() + seconds
        while self.clock.monotonic() < ends:
            pause = self.keeper.look_after_all()
            assert 0 < pause <= LEASE
            self.clock.step(min(max(pause, 0.01), ends - self.clock.monotonic()))
        self.keeper.look_after_all()


Begin = Callable[..., Process]


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def records(clock: SteppableClock) -> MemoryRecords:
    records = MemoryRecords(clock)
    records.advance("s", 0, UP, "before the test")
    return records


OpenAt = Callable[[str, bytes], MemcachedProvider]


@pytest.fixture
def open_at(clock: SteppableClock) -> Iterator[OpenAt]:
    """Opens the way to an address, under a prefix. Its values expire by the clock of the test."""
    opened: list[MemcachedProvider] = []

    def open_one(address: str, prefix: bytes) -> MemcachedProvider:
        where = Address.parse(address)
        opened.append(MemcachedProvider(where, clock, prefix=prefix, timeout=20, connect_timeout=20))
        return opened[-1]

    yield open_one
    for provider in opened:
        provider.close()


@pytest.fixture
def begin(proxy: TcpProxy, open_at: OpenAt, records: MemoryRecords, clock: SteppableClock) -> Begin:
    """Begins processes on one way to the memcached."""

    def begin_one(host: str = "web1", **more: object) -> Process:
        values, marks = (open_at(proxy.address, prefix) for prefix in (b"values:", b"marks:"))
        return Process(values, marks, clock=clock, host=host, **{"records": records, **more})  # type: ignore[arg-type]  # as they are named

    return begin_one


@pytest.fixture
def other_marks(server: MemcachedServer, open_at: OpenAt) -> MemcachedProvider:
    """A way of its own to the markers."""
    return open_at(server.address, b"marks:")


def go_away(proxy: TcpProxy) -> None:
    """Until it accepts again."""
    proxy.refuse()
    proxy.cut()


def epoch(records: MemoryRecords) -> int:
    return records.read(["s"])[0].epoch


# -- markers


def test_before_its_server_is_claimed_nobody_reads_from_it(begin: Begin) -> None:
    process = begin()
    assert process.state.trusted() is None
    process.keeper.claim_all()
    assert process.state.trusted() == UP


def test_a_claim_is_renewed_as_long_as_the_process_lives(
    begin: Begin, other_marks: MemcachedProvider, clock: SteppableClock
) -> None:
    process = begin()
    process.keeper.claim_all()
    process.rounds(3 * LIFE)
    assert process.state.trusted() == UP
    assert process.state.claimed_for > LIFE - RENEWAL - 6
    with pytest.raises(Taken, match="web1"):
        Claims("theirs", "web9", clock).claim(other_marks)


def test_a_server_of_another_group_is_refused_at_the_start_with_the_hosts(
    begin: Begin, other_marks: MemcachedProvider, clock: SteppableClock
) -> None:
    for host in ("web9", "web8"):
        Claims("theirs", host, clock).claim(other_marks)
    with pytest.raises(ConfigError) as refused:
        begin().keeper.claim_all()
    assert "the memcached s is used for this database by servers that were started with other" in str(
        refused.value
    )
    assert "on web8, web9: stop all servers" in str(refused.value)


def test_one_that_does_not_answer_at_the_start_is_declared_failed_and_the_start_goes_on(
    begin: Begin, proxy: TcpProxy, records: MemoryRecords
) -> None:
    go_away(proxy)
    process = begin()
    process.keeper.claim_all()
    (record,) = records.read(["s"])
    assert record.epoch == FAILED
    assert record.reason.startswith("it does not answer when a server starts: ")
    assert process.state.trusted() is None


def test_one_whose_marker_cannot_be_renewed_is_declared_failed_before_it_ends(
    begin: Begin, proxy: TcpProxy, records: MemoryRecords, clock: SteppableClock
) -> None:
    process = begin()
    process.keeper.claim_all()
    go_away(proxy)
    process.rounds(LIFE - RENEWAL - 6)
    assert epoch(records) == UP, "its marker lives"
    process.rounds(2)
    (record,) = records.read(["s"])
    assert record.epoch == FAILED
    assert record.reason.startswith("its marker cannot be renewed: ")
    assert clock.monotonic() < 1000 + LIFE - 5


def test_one_that_another_group_has_got_hold_of_is_not_used_until_that_is_gone(
    begin: Begin, other_marks: MemcachedProvider, server: MemcachedServer, clock: SteppableClock
) -> None:
    process = begin()
    process.keeper.claim_all()
    server.flush()
    theirs = Claims("theirs", "web9", clock)
    theirs.claim(other_marks)
    process.rounds(RENEWAL)
    assert process.state.trusted() is None
    with pytest.raises(Exception, match="on web9: stop all servers"):
        process.state.judge(lambda _: UP)
    theirs.withdraw(other_marks)
    process.rounds(2)
    assert process.state.trusted() == UP


# -- leaving


def test_the_last_process_of_a_host_takes_its_marker_away(
    begin: Begin, other_marks: MemcachedProvider, clock: SteppableClock
) -> None:
    one, two = begin("web1"), begin("web2")
    for process in (one, two):
        process.keeper.claim_all()
    theirs = Claims("theirs", "web9", clock)
    for process, last, hosts in ((one, False, "web1, web2"), (one, True, "web2")):
        process.keeper.stop(last=last)
        with pytest.raises(Taken, match=f"^{hosts}$"):
            theirs.claim(other_marks)
    two.keeper.stop(last=True)
    theirs.claim(other_marks)


# -- coming back


def test_one_that_answers_again_is_back_after_its_interval(
    begin: Begin, proxy: TcpProxy, records: MemoryRecords, server: MemcachedServer
) -> None:
    process = begin()
    process.keeper.claim_all()
    process.keeper.look_after_all()
    go_away(proxy)
    process.state.declare_failed(UP, "away")
    process.rounds(3 * RETRY)
    assert epoch(records) == FAILED
    server.flush()  # by its own clock the markers are not old yet
    proxy.accept()
    process.rounds(1.3 * RETRY + LONG)
    assert standing(epoch(records)) is Standing.UP
    assert process.state.trusted() == epoch(records)


def test_one_that_has_failed_before_the_start_is_tried_as_soon_as_may_be(
    begin: Begin, records: MemoryRecords
) -> None:
    records.advance("s", UP, FAILED, "away")
    process = begin()
    process.keeper.claim_all()
    process.rounds(LONG + 0.1)
    assert standing(epoch(records)) is Standing.UP


def test_where_others_stand_in_both_steps_are_taken_at_once(begin: Begin, records: MemoryRecords) -> None:
    records.advance("s", UP, FAILED, "away")
    process = begin(stand_ins=True)
    process.keeper.claim_all()
    process.rounds(LONG + 0.1)
    assert standing(epoch(records)) is Standing.RETURNING
    process.rounds(LONG + 0.2)
    assert standing(epoch(records)) is Standing.UP


def test_one_process_probes_for_all(
    begin: Begin, proxy: TcpProxy, records: MemoryRecords, clock: SteppableClock
) -> None:
    processes = [begin(f"web{number}") for number in range(4)]
    for process in processes:
        process.keeper.claim_all()
    go_away(proxy)
    records.advance("s", UP, FAILED, "away")
    tried: list[Process] = []

    def noting(process: Process) -> None:
        def claim(_: object) -> None:
            tried.append(process)
            raise BackendUnavailable("away")

        process.claims.claim = claim  # type: ignore[assignment,method-assign]  # it would say the same

    for process in processes:
        noting(process)
    ends = clock.monotonic() + 1.3 * RETRY + 10 * RETRY
    while clock.monotonic() < ends:
        for process in processes:
            process.keeper.look_after_all()
        clock.step(0.5)
    assert 6 <= len(tried) <= 13


@pytest.mark.parametrize("why", ["held", "never by itself"])
def test_one_that_nobody_may_bring_back_by_himself_is_left_alone(
    begin: Begin, proxy: TcpProxy, records: MemoryRecords, server: MemcachedServer, why: str
) -> None:
    process = begin(retry_interval=RETRY if why == "held" else -1.0)
    process.keeper.claim_all()
    if why == "held":
        process.state.hold("it moves")
    else:
        process.state.declare_failed(UP, "away")
    before = proxy.passed
    pauses = []
    for _ in range(100):
        pauses.append(process.keeper.look_after_all())
        process.clock.step(pauses[-1])
    assert proxy.passed == before, "nobody asks it"
    assert epoch(records) & 1
    assert min(pauses) == LEASE, "and nobody is busy with it"
    server.flush()  # by its own clock the markers are not old yet
    assert process.state.probe(process.values, held=True)
    process.rounds(2)
    assert process.state.trusted() == epoch(records)


@pytest.mark.parametrize("stand_ins", [False, True])
@pytest.mark.parametrize("why", ["new", "forgotten"])
def test_one_that_never_failed_comes_into_use_though_failed_ones_wait_for_an_operator(
    begin: Begin, clock: SteppableClock, why: str, *, stand_ins: bool
) -> None:
    records = MemoryRecords(clock)
    process = begin(retry_interval=-1.0, stand_ins=stand_ins, records=records, in_sql=False)
    process.keeper.claim_all()
    if why == "forgotten":
        records.advance("s", 0, UP, "before the test")
        process.state.forget_all()
    assert process.state.trusted() is None
    process.rounds(4 * LONG)
    assert process.state.trusted() == epoch(records)


def test_to_forget_one_that_has_failed_does_not_bring_it_back(begin: Begin, records: MemoryRecords) -> None:
    process = begin(retry_interval=-1.0)
    process.keeper.claim_all()
    process.state.declare_failed(UP, "away")
    process.state.forget_all()
    process.rounds(4 * LONG)
    assert epoch(records) & 1
    assert process.state.trusted() is None


@pytest.mark.parametrize("flush", [False, True])
def test_it_is_emptied_before_it_comes_back_only_if_that_is_wanted(
    begin: Begin, records: MemoryRecords, *, flush: bool
) -> None:
    process = begin(flush=flush)
    process.keeper.claim_all()
    process.values.store(b"tabs", b"of long ago")
    records.advance("s", UP, FAILED, "away")
    process.rounds(3 * RETRY)
    assert process.state.trusted() is not None
    assert (process.values.fetch([b"tabs"]) == [None]) is flush


def test_one_that_another_group_has_is_not_brought_back(
    begin: Begin, other_marks: MemcachedProvider, records: MemoryRecords, clock: SteppableClock
) -> None:
    process = begin()
    records.advance("s", UP, FAILED, "away")
    theirs = Claims("theirs", "web9", clock)
    theirs.claim(other_marks)
    process.rounds(RETRY)
    assert epoch(records) == FAILED
    theirs.withdraw(other_marks)
    process.rounds(2 * RETRY)
    assert standing(epoch(records)) is Standing.UP
    assert process.state.trusted() == epoch(records)


def test_a_failure_is_learned_of_where_no_requests_come(begin: Begin, records: MemoryRecords) -> None:
    process = begin(retry_interval=-1.0)
    process.keeper.claim_all()
    process.rounds(1)
    records.advance("s", UP, FAILED, "away")
    process.rounds(2 * LEASE + LONG)
    assert process.state.failed
    assert process.state.settled() == FAILED


# -- the thread


@pytest.fixture
def running(begin: Begin) -> Iterator[Process]:
    process = begin()
    process.keeper.claim_all()
    yield process
    process.keeper.stop(last=False)


def test_the_thread_looks_after_all_until_it_is_stopped_whatever_happens(
    running: Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Semaphore(0)

    def look() -> None:
        looked.release()
        raise ZeroDivisionError

    monkeypatch.setattr(running.state, "look", look)
    running.keeper.start()
    for _ in range(2):
        assert looked.acquire(timeout=20)
        running.clock.step(LEASE)
    running.keeper.stop(last=True)
    assert "the cache s could not be looked after" in caplog.text
    assert not any(thread.name == "syncstore-cache-keeper" for thread in threading.enumerate())
