"""A server of a pool is killed, frozen, or comes and goes: the others do not notice, and nothing old is read.

The long forms, of eight and thirty-two processes, are soaks. What a server that is added, put out of use or full does
is in test_control and test_pool.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from syncstore.cache.api import ABSENT, BackendUnavailable, NotFound, Store
from syncstore.cache.memcached.pool import Pool
from syncstore.cache.memcached.records import Standing
from syncstore.testing.memcached_pools import (
    LEASE,
    PATIENCE,
    TIMEOUT,
    DeadPort,
    OpenPool,
    PoolDescription,
    PoolStand,
    flapping,
    keys_of,
)
from syncstore.testing.pool_readers import PoolReaders, Seen
from syncstore.testing.processes import HOST
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.waiting import await_that

Open = Callable[..., OpenPool]
ATTEMPTS = 20
FAILOVER = pytest.mark.parametrize("attempts", [0, ATTEMPTS], ids=["alone", "with stand-ins"])
SLACK = 2.0
"""Seconds by which a busy machine may be late."""


def soak(*values: object) -> Any:
    """The long form of a check."""
    return pytest.param(*values, marks=[pytest.mark.soak, pytest.mark.timeout(300)], id="long")


@pytest.fixture
def open_one(memcacheds: PoolStand, tmp_path: Path) -> Iterator[Open]:
    """Opens pools, closed at the end of the test."""
    with ExitStack() as pools:

        def open_it(description: PoolDescription | None = None, **more: Any) -> OpenPool:
            described = memcacheds.describe(tmp_path, **more) if description is None else description
            return pools.enter_context(memcacheds.open(described))

        yield open_it


@pytest.fixture
def home(memcacheds: PoolStand) -> MemcachedServer:
    """The server `a`, to which all that happens."""
    return memcacheds.servers["a"]


# -- placement (4.4.1, 4.4.2)


@pytest.mark.parametrize("strategy", ["consistent", "standard"])
@FAILOVER
def test_a_dead_server_voids_nothing_of_the_others(
    open_one: Open, home: MemcachedServer, strategy: str, attempts: int
) -> None:
    opened = open_one(strategy=strategy, attempts=attempts)
    pool, control = opened.pool, opened.control
    keys = [*keys_of(control, "b", 1500), *keys_of(control, "c", 1500)]
    of_dead = keys_of(control, "a", 500)
    homes = {key: control.find_server(key) for key in (*keys, *of_dead)}
    pool.change([Store(key, key) for key in (*keys, *of_dead)])

    home.kill9()
    with pytest.raises(BackendUnavailable):
        pool.store(of_dead[0], b"x")
    assert [item and item.value for item in pool.fetch(keys)] == keys
    opened.await_failure("a")
    assert [item and item.value for item in pool.fetch(keys)] == keys
    assert {key: control.find_server(key) for key in homes} == homes
    home.start()
    opened.await_use("a")
    assert [item and item.value for item in pool.fetch(keys)] == keys
    assert pool.fetch(of_dead) == [None] * 500


# -- what the one who meets the fault is told (4.4.4)


@FAILOVER
def test_with_resubmitting_the_first_read_is_a_miss(
    open_one: Open, home: MemcachedServer, attempts: int
) -> None:
    opened = open_one(attempts=attempts, resubmit=True)
    key = keys_of(opened.control, "a", 1)[0]
    opened.pool.store(key, b"x")
    home.kill9()
    assert opened.pool.fetch([key]) == [None]


@FAILOVER
def test_with_resubmitting_a_store_goes_where_it_may(
    open_one: Open, home: MemcachedServer, attempts: int
) -> None:
    opened = open_one(attempts=attempts, resubmit=True)
    pool = opened.pool
    first, second = keys_of(opened.control, "a", 2)
    token = pool.store(first, b"before")
    home.kill9()
    if attempts:
        pool.store(first, b"after")
        assert pool.retrieve(first).value == b"after"
        assert pool.place(first).member.name != "a"
        with pytest.raises(NotFound):
            pool.remove(second)
        return
    with pytest.raises(BackendUnavailable):
        pool.store(first, b"after")
    with pytest.raises(BackendUnavailable):
        pool.store(first, b"after", expect=token)


@FAILOVER
def test_with_resubmitting_a_removal_is_done_when_nobody_can_read_what_was_there(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path, home: MemcachedServer, attempts: int
) -> None:
    description = memcacheds.describe(tmp_path, attempts=attempts, resubmit=True)
    one, other = open_one(description), open_one(description)
    key = keys_of(one.control, "a", 1)[0]
    one.pool.store(key, b"before")
    home.freeze()
    try:
        one.pool.remove(key)
    except NotFound:
        assert attempts, "it is the stand-in that has nothing"
    home.thaw()
    found: list[object] = []
    while not found or other.group.members["a"].state.trusted() is None:
        try:
            found += other.pool.fetch([key])
        except BackendUnavailable:
            continue
    assert set(found + other.pool.fetch([key])) == {None}


@pytest.mark.parametrize("resubmit", [False, True])
@FAILOVER
def test_what_expects_a_state_is_never_done_twice(
    open_one: Open, home: MemcachedServer, resubmit: bool, attempts: int
) -> None:
    """An answer that was lost is no refusal."""
    for expect in ("absent", "token"):
        opened = open_one(attempts=attempts, resubmit=resubmit)
        key = keys_of(opened.control, "a", 1)[0]
        token = opened.pool.store(key, b"x")
        home.freeze()
        with pytest.raises(BackendUnavailable):
            opened.pool.store(key, b"y", expect=ABSENT if expect == "absent" else token)
        home.thaw()


@FAILOVER
def test_without_resubmitting_one_call_meets_the_fault(
    open_one: Open, home: MemcachedServer, attempts: int
) -> None:
    opened = open_one(attempts=attempts, keep=False, failure_limit=1)
    pool = opened.pool
    key = keys_of(opened.control, "a", 1)[0]
    pool.store(key, b"x")
    home.kill9()
    with DeadPort(home.port) as dead:
        with pytest.raises(BackendUnavailable):
            pool.fetch([key])
        assert dead.calls == 1
        with pytest.raises(BackendUnavailable):
            pool.fetch([key])  # others may rely on it until their leases end
        opened.await_failure("a")
        if attempts:
            assert pool.fetch([key]) == [None]
            pool.store(key, b"y")
            assert pool.retrieve(key).value == b"y"
        else:
            for _ in range(20):
                with pytest.raises(BackendUnavailable):
                    pool.fetch([key])
        assert dead.calls == 1


# -- many at once (4.4.5)


@pytest.mark.parametrize(("processes", "interval"), [pytest.param(3, 1.5, id="short"), soak(32, 15.0)])
def test_many_who_meet_a_dead_server_make_one_transition(
    open_one: Open,
    memcacheds: PoolStand,
    tmp_path: Path,
    home: MemcachedServer,
    processes: int,
    interval: float,
) -> None:
    """And it is called by hardly anybody, once all know."""
    told = tmp_path / "told"
    description = memcacheds.describe(
        tmp_path, retry_interval=interval, lease=0.5, on_failure=functools.partial(note, told)
    )
    opened = open_one(description)
    keys = [key for name in memcacheds.servers for key in keys_of(opened.control, name, 20)]
    with PoolReaders(description, keys, processes=processes, threads=4) as readers:
        readers.await_reads(20)
        home.kill9()
        with DeadPort(home.port) as dead:
            opened.await_failure("a")
            known = time.monotonic()
            time.sleep(interval)  # what is counted is what happens in it
            calls = [at for at in dead.times if at >= known]
        seen = readers.seen()
    failures = [one for each in (*(s.transitions for s in seen), opened.transitions) for one in each]
    assert [one.server for one in failures if one.standing is Standing.FAILED] == ["a"]
    assert len(calls) <= 2
    assert [line.split()[:2] for line in told.read_text().splitlines()] == [[HOST, str(home.port)]]
    assert max(waits for one in seen for waits in one.waits) <= 1
    assert sum(one.hits for one in seen) > 0
    print(figures(seen), f"{dead.calls} calls, {len(calls)} after all knew")  # noqa: T201 - what a soak is run for


def note(path: Path, host: str, port: int, reason: str) -> None:
    """Write down that somebody was told of a failure."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{host} {port} {reason}\n")


# -- never the past (5.4.1, 5.4.2)


@pytest.mark.parametrize(("processes", "seconds"), [pytest.param(2, 0.5, id="short"), soak(8, 10.0)])
@FAILOVER
def test_nothing_old_is_read_after_a_return_nor_in_the_next_outage(
    open_one: Open,
    memcacheds: PoolStand,
    tmp_path: Path,
    home: MemcachedServer,
    attempts: int,
    processes: int,
    seconds: float,
) -> None:
    """Values are written before, during, after and in the next outage, while others read all the time."""
    description = memcacheds.describe(tmp_path, attempts=attempts, resubmit=True)
    opened = open_one(description)
    keys = keys_of(opened.control, "a", 200)

    def write_all(value: int) -> None:
        for number in range(len(keys)):
            write(number, value)

    def write(number: int, value: int) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                readers.write(opened.pool, number, value)
            except BackendUnavailable:
                assert time.monotonic() < end
                if not attempts and opened.group.members["a"].state.settled() is not None:
                    readers.truth.acknowledged[number] = value  # in "SQL": nobody reads from the cache
                    return
                time.sleep(LEASE / 10)
            else:
                return

    with PoolReaders(description, keys, processes=processes) as readers:
        write_all(1)
        readers.await_reads(100)
        before = opened.state_of("a")
        home.freeze()
        write_all(2)
        readers.await_reads(50)
        home.thaw()
        opened.await_use("a")
        readers.await_reads(100)
        time.sleep(seconds)  # for whoever is late
        assert opened.state_of("a") > before
        write_all(3)
        readers.await_reads(50)
        home.kill9()
        readers.await_reads(100)
        write_all(4)
        readers.await_reads(50)
        home.start()
        opened.await_use("a")
        readers.await_reads(50)
        time.sleep(seconds)
        seen = readers.seen()
    print(figures(seen))  # noqa: T201 - as above
    assert [stale for one in seen for stale in one.stale] == []
    assert all(one.hits for one in seen)


# -- only by hand (5.4.4)


@pytest.mark.parametrize("seconds", [pytest.param(1.5, id="short"), soak(30.0)])
def test_a_server_that_only_comes_back_by_hand_is_not_called(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path, home: MemcachedServer, seconds: float
) -> None:
    description = memcacheds.describe(tmp_path, retry_interval=-1.0)
    opened = open_one(description)
    pool, control = opened.pool, opened.control
    key = keys_of(control, "a", 1)[0]
    with PoolReaders(description, keys_of(control, "a", 20), processes=1) as readers:
        pool.store(key, b"before")
        old = opened.state_of("a")
        home.kill9()
        with pytest.raises(BackendUnavailable):
            pool.store(key, b"lost")
        opened.await_failure("a")
        home.start()
        calls = connections_to(home)
        readers.await_reads(100)
        time.sleep(seconds)  # what is counted is what happens in it
        assert connections_to(home) - calls == 1, "its own"
        readers.seen()
    opened.group.members["a"].cache.store(b"%d:%b" % (old, key), b"planted")

    control.set_server_params(HOST, home.port, status=True)
    opened.await_use("a")
    assert opened.state_of("a") > old
    assert pool.fetch([key]) == [None]
    pool.store(key, b"after")
    assert pool.retrieve(key).value == b"after"


# -- those who are told (5.4.6)


def test_whoever_is_told_may_take_his_time(open_one: Open, memcacheds: PoolStand) -> None:
    told: list[tuple[str, int, str]] = []
    go_on = threading.Event()

    def hang(host: str, port: int, reason: str) -> None:
        told.append((host, port, reason))
        assert go_on.wait(PATIENCE)

    opened = open_one(on_failure=hang)
    kill_and_store(opened, memcacheds, "a")
    await_that(lambda: len(told) == 1, what="somebody is told")
    key = keys_of(opened.control, "c", 1)[0]
    opened.pool.store(key, b"x")
    assert opened.pool.retrieve(key).value == b"x"
    kill_and_store(opened, memcacheds, "b")
    assert opened.control.get_server_status(HOST, memcacheds.servers["b"].port) == 0
    go_on.set()
    await_that(lambda: len(told) == 2, what="he is told of the other, too")
    assert [(host, port) for host, port, _ in told] == [
        (HOST, memcacheds.servers[name].port) for name in ("a", "b")
    ]
    assert "not confirmed" in told[0][2]


def test_whoever_is_told_may_raise(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []

    def fail(host: str, port: int, reason: str) -> None:
        told.append(port)
        raise RuntimeError(f"for the test: {host} {reason}")

    description = memcacheds.describe(tmp_path, on_failure=fail)
    one, other = open_one(description), open_one(description)
    for name in ("a", "b"):
        kill_and_store(one, memcacheds, name)
        with pytest.raises(BackendUnavailable):
            other.pool.store(keys_of(other.control, name, 1)[0], b"x")
    await_that(lambda: len(told) == 2, what="somebody is told of both")
    await_that(lambda: caplog.text.count("on_failure raised") == 2, what="it is logged")
    assert told == [memcacheds.servers[name].port for name in ("a", "b")]


def kill_and_store(opened: OpenPool, memcacheds: PoolStand, name: str) -> None:
    memcacheds.servers[name].kill9()
    with pytest.raises(BackendUnavailable):
        opened.pool.store(keys_of(opened.control, name, 1)[0], b"x")


# -- those who wait (5.4.8)


CALLS: dict[str, Callable[[Pool, bytes], object]] = {
    "fetch": lambda pool, key: pool.fetch([key]),
    "store": lambda pool, key: pool.store(key, b"y"),
    "remove": lambda pool, key: pool.remove(key),
}


@pytest.mark.parametrize("word", CALLS)
def test_a_silent_server_costs_a_few_timeouts_in_all(
    open_one: Open, home: MemcachedServer, word: str
) -> None:
    limit = 3
    opened = open_one(failure_limit=limit, retry_interval=30.0)
    keys = keys_of(opened.control, "a", 100)
    opened.pool.change([Store(key, b"x") for key in keys])
    home.freeze()
    lost = waits = 0.0
    for key in keys:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            CALLS[word](opened.pool, key)
        took = time.monotonic() - began
        lost += took
        waits += took > TIMEOUT / 2
    assert waits <= limit
    assert lost <= limit * TIMEOUT + 0.05 + SLACK


# -- a server that comes and goes (5.4.9)


@pytest.mark.parametrize(
    ("seconds", "interval", "phase"), [pytest.param(4.0, 0.8, 0.3, id="short"), soak(30.0, 3.0, 1.0)]
)
def test_a_flapping_server_fails_once_in_an_interval(
    open_one: Open, home: MemcachedServer, seconds: float, interval: float, phase: float
) -> None:
    failures: list[float] = []
    opened = open_one(
        retry_interval=interval, on_failure=lambda *_: failures.append(time.monotonic()), timeout=0.1
    )
    key = keys_of(opened.control, "a", 1)[0]
    with flapping(home, up=phase, down=phase):
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(failures) < 2:
            assert time.monotonic() < end + PATIENCE
            try:
                opened.pool.store(key, b"x")
            except BackendUnavailable:
                time.sleep(0.01)
    gaps = [later - earlier for earlier, later in itertools.pairwise(failures)]
    assert min(gaps) >= interval - LEASE - 0.1, gaps  # a look at its state may be a lease old when it fails
    assert len(failures) <= seconds / (interval - LEASE) + PATIENCE / interval + 1


# -- what a failure is (5.4.14)


def test_isolated_timeouts_of_reads_leave_a_server_in_use(open_one: Open, home: MemcachedServer) -> None:
    opened = open_one(keep=False, pause=0.01)
    pool = opened.pool
    key = keys_of(opened.control, "a", 1)[0]
    pool.store(key, b"x")
    epoch = opened.state_of("a")
    for _ in range(2):
        for _ in range(2):
            home.freeze()
            with pytest.raises(BackendUnavailable):
                pool.fetch([key])
            home.thaw()
            time.sleep(0.02)  # for so long it is left alone
        await_that(lambda: there(pool.fetch, key), what="it answers")
    assert opened.state_of("a") == epoch
    home.freeze()
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            pool.fetch([key])
        time.sleep(0.02)
    assert opened.state_of("a") > epoch
    assert opened.transitions[-1].standing is Standing.FAILED


def there(fetch: Callable[[list[bytes]], list[Any]], key: bytes) -> bool:
    try:
        return fetch([key])[0] is not None
    except BackendUnavailable:
        return False


@pytest.mark.parametrize("word", ["store", "remove"])
def test_one_change_that_is_not_confirmed_takes_a_server_out(
    open_one: Open, home: MemcachedServer, word: str
) -> None:
    opened = open_one(keep=False)
    key = keys_of(opened.control, "a", 1)[0]
    opened.pool.store(key, b"x")
    epoch = opened.state_of("a")
    home.freeze()
    with pytest.raises(BackendUnavailable):
        CALLS[word](opened.pool, key)
    assert opened.state_of("a") > epoch
    assert [one.standing for one in opened.control.states()] == [Standing.FAILED, Standing.UP, Standing.UP]


def connections_to(server: MemcachedServer) -> int:
    """How many connections it has had since its start, with the one that asks."""
    with server.connect(timeout=PATIENCE) as connection:
        connection.sendall(b"stats\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += connection.recv(65536)
    return next(int(line.split()[2]) for line in text.splitlines() if b" total_connections " in line)


def figures(seen: list[Seen]) -> str:
    """What readers saw, in numbers."""
    return (
        f"{sum(one.reads for one in seen)} reads, {sum(one.hits for one in seen)} hits, "
        f"{sum(one.refused for one in seen)} refused, {sum(len(one.stale) for one in seen)} stale"
    )
