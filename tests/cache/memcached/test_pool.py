"""Several memcacheds as one cache: it keeps the contract, and each key lives with its home and under its epoch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    BadKey,
    Busy,
    Change,
    NotFound,
    NotSupported,
    Outcome,
    Remove,
    StorageFull,
    Store,
    Token,
)
from syncstore.cache.memcached.records import ServerRecord, Standing
from syncstore.clock import Clock
from syncstore.errors import Unavailable
from syncstore.testing.cache_conformance import CacheConformance, OpenCache
from syncstore.testing.cache_conformance.rooms import Child, value_of
from syncstore.testing.memcached_pools import (
    OpenPool,
    PoolDescription,
    PoolServer,
    PoolStand,
    keys_of,
    open_pool,
)
from syncstore.testing.waiting import await_that

Open = Callable[..., OpenPool]
ATTEMPTS = 20


@pytest.fixture(scope="module")
def stand(_memcacheds: PoolStand) -> PoolStand:
    """Memcacheds that this module's tests of the contract share, without emptying them in between."""
    return _memcacheds


@pytest.fixture(scope="module")
def descriptions(stand: PoolStand, tmp_path_factory: pytest.TempPathFactory) -> dict[int, PoolDescription]:
    """The pools that the contract is proved on, by their attempts to find a stand-in."""
    folder = tmp_path_factory.mktemp("pool")
    return {attempts: stand.describe(folder, attempts=attempts, timeout=20.0) for attempts in (0, ATTEMPTS)}


@pytest.fixture
def open_one(memcacheds: PoolStand, tmp_path: Path) -> Iterator[Open]:
    """Opens pools, closed at the end of the test."""
    with ExitStack() as pools:

        def open_it(description: PoolDescription | None = None, **more: object) -> OpenPool:
            return pools.enter_context(
                memcacheds.open(memcacheds.describe(tmp_path, **more) if description is None else description)
            )

        yield open_it


class _Conformance(CacheConformance):
    """The contract, over three servers, with `attempts` to find a stand-in."""

    attempts = 0

    @pytest.fixture
    def open_cache(self, stand: PoolStand, descriptions: dict[int, PoolDescription]) -> Iterator[OpenCache]:
        with ExitStack() as pools:

            def open_it(clock: Clock) -> object:
                return pools.enter_context(stand.open(descriptions[self.attempts], clock=clock)).pool

            yield open_it  # type: ignore[misc]  # a Pool is a Provider

    @pytest.fixture
    def open_unreachable_cache(self, tmp_path: Path, stand: PoolStand) -> Iterator[OpenCache]:
        nowhere = tuple(PoolServer(name, number + 1) for number, name in enumerate("abc"))
        description = stand.describe(tmp_path, servers=nowhere, attempts=self.attempts, keep=False)
        with ExitStack() as pools:

            def open_it(clock: Clock) -> object:
                opened = pools.enter_context(open_pool(description, clock))
                for (
                    state
                ) in opened.group.servers:  # else they are out of use from the beginning, and nobody is asked
                    epoch = state.current() or 1
                    opened.group.servers.records.advance(
                        state.row, state.current(), epoch * 8, "for the test"
                    )
                return opened.pool

            yield open_it  # type: ignore[misc]  # as above


class TestAlone(_Conformance):
    """Without failover."""


class TestWithStandIns(_Conformance):
    """With failover."""

    attempts = ATTEMPTS


# -- where keys live


def test_keys_live_with_their_homes_under_the_epoch(open_one: Open, memcacheds: PoolStand) -> None:
    opened = open_one()
    pool, control = opened.pool, opened.control
    keys = [key for name in memcacheds.servers for key in keys_of(control, name, 3)]
    outcomes = pool.change([Store(key, b"of " + key) for key in keys])

    assert all(isinstance(outcome, Token) for outcome in outcomes)
    for name, server in memcacheds.servers.items():
        own = [key for key in keys if control.find_server(key) == name]
        assert len(own) == 3
        cache = opened.group.members[name].cache
        epoch = opened.state_of(name)
        assert [item and item.value for item in cache.fetch([b"%d:%b" % (epoch, key) for key in own])] == [
            b"of " + key for key in own
        ]
        assert server.alive


def test_all_keys_of_a_user_live_together(open_one: Open) -> None:
    opened = open_one()
    for uid in range(50):
        homes = {opened.control.find_server(b"%d:%b" % (uid, kind)) for kind in (b"meta", b"tabs", b"")}
        assert homes == {opened.pool.place(b"%d:anything" % uid).member.name}


def test_several_keys_are_answered_in_their_order(open_one: Open) -> None:
    pool = open_one().pool
    keys = [b"%d:key" % number for number in range(500)]
    pool.change([Store(key, key) for key in keys[::2]])

    found = pool.fetch(keys)
    assert [item and item.value for item in found] == [
        key if number % 2 == 0 else None for number, key in enumerate(keys)
    ]
    outcomes = pool.change([Remove(key) for key in keys])
    assert [type(outcome) for outcome in outcomes] == [type(None), NotFound] * 250
    reserved = pool.fetch(keys[:20], reserve=5)
    assert {item.value for item in reserved if item} == {b""}
    stored = pool.change(
        [Store(key, b"new", 0.0, item.token) for key, item in zip(keys, reserved, strict=False) if item]
    )
    assert all(isinstance(outcome, Token) for outcome in stored)


def test_it_asks_each_server_once_for_many_keys(open_one: Open, memcacheds: PoolStand) -> None:
    opened = open_one(keep=False)
    asked: list[str] = []
    for name, member in opened.group.members.items():
        count_calls(member.cache, "fetch", asked, name)
        count_calls(member.cache, "change", asked, name)
    opened.pool.change([Store(b"%d:key" % number, b"x") for number in range(90)])
    opened.pool.fetch([b"%d:key" % number for number in range(90)])

    assert sorted(asked) == sorted([*memcacheds.servers] * 2)


def test_another_process_finds_them(open_one: Open, memcacheds: PoolStand, tmp_path: Path) -> None:
    description = memcacheds.describe(tmp_path)
    one, other = open_one(description), open_one(description)
    token = one.pool.store(b"7:key", b"x")
    assert other.pool.retrieve(b"7:key").token == token
    other.pool.remove(b"7:key", expect=token)
    with pytest.raises(NotFound):
        one.pool.retrieve(b"7:key")


def test_it_cannot_list_and_culls_nothing(open_one: Open) -> None:
    pool = open_one().pool
    with pytest.raises(NotSupported):
        pool.iterate()
    assert pool.cull() == 0


def test_its_status_is_the_sum_of_those_that_answer(open_one: Open, memcacheds: PoolStand) -> None:
    pool = open_one(keep=False).pool
    pool.change([Store(b"%d:key" % number, b"x") for number in range(100)])
    status = pool.status()
    assert (status["servers"], status["answering"]) == (3, 3)
    assert int(status["items"]) >= 100
    memcacheds.servers["a"].kill9()
    status = pool.status()
    assert (status["servers"], status["answering"]) == (3, 2)
    assert 0 < int(status["items"]) < 100


# -- what is against the rules


def test_a_key_that_is_refused_stops_no_other_server(open_one: Open) -> None:
    opened = open_one()
    pool = opened.pool
    one, other = keys_of(opened.control, "a", 1)[0], keys_of(opened.control, "b", 1)[0]
    too_long = b"k" * (pool.limits.max_key + 1)
    outcomes = pool.change([Store(b"", b"x"), Store(one, b"1"), Store(too_long, b"x"), Store(other, b"2")])
    assert [type(outcome) for outcome in outcomes] == [BadKey, Token, BadKey, Token]
    with pytest.raises(BadKey):
        pool.fetch([one, too_long, other])


def test_a_value_that_has_expired_changes_nothing_anywhere(open_one: Open) -> None:
    opened = open_one()
    pool = opened.pool
    one, other = keys_of(opened.control, "a", 1)[0], keys_of(opened.control, "b", 1)[0]
    pool.change([Store(one, b"1"), Store(other, b"2")])
    for first, second in ((one, other), (other, one)):
        with pytest.raises(ValueError, match="expired"):
            pool.change([Remove(first), Store(second, b"new", 1.0)])
        with pytest.raises(ValueError, match="expired"):
            pool.change_later([Remove(first), Store(second, b"new", 1.0)])
    assert (value_of(pool, one), value_of(pool, other)) == (b"1", b"2")


def test_busy_says_that_nothing_was_sent_anywhere(open_one: Open) -> None:
    """A server whose connections are all in use is no fault of it, but what another one was told is known only here."""
    opened = open_one()
    pool = opened.pool
    one, other = keys_of(opened.control, "a", 1)[0], keys_of(opened.control, "b", 1)[0]
    pool.change([Store(one, b"1"), Store(other, b"2")])

    def busy(changes: Sequence[Change]) -> list[Outcome]:
        raise Busy("all connections are in use")

    opened.group.members["b"].cache.change = busy  # type: ignore[method-assign]  # a fault
    with pytest.raises(BackendUnavailable) as refused:
        pool.change([Remove(one), Remove(other)])
    assert isinstance(refused.value, Busy) == (value_of(pool, one) == b"1")
    with pytest.raises(Busy):
        pool.remove(other)
    assert {transition.standing for transition in opened.transitions} == {Standing.UP}


def test_a_full_server_stays_in_use(tmp_path: Path) -> None:
    """5.4.10: what does not fit is told, and is nothing against the server."""
    stand = PoolStand(options=["-M", "-m", "1", "-I", "512k"])
    try:
        with stand.start().open(stand.describe(tmp_path)) as opened:
            pool = opened.pool
            changes = [Store(b"%d:key" % number, b"x" * 30_000) for number in range(500)]
            outcomes = [pool.change([change])[0] for change in changes]
            assert {type(outcome) for outcome in outcomes} == {Token, StorageFull}
            refused = next(number for number, outcome in enumerate(outcomes) if type(outcome) is StorageFull)
            with pytest.raises(StorageFull):
                pool.store(changes[refused].key, b"x" * 30_000)
            assert {type(outcome) for outcome in pool.change(changes)} == {Token, StorageFull}
            assert {state.standing for state in opened.control.states()} == {Standing.UP}
            assert {transition.standing for transition in opened.transitions} == {Standing.UP}
            assert b"x" * 30_000 in [value_of(pool, change.key) for change in changes]
    finally:
        stand.close()


# -- an operation that is overtaken by a failure


def test_a_store_that_was_overtaken_by_a_failure_is_not_confirmed(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path
) -> None:
    """Its process stood still from before it was sent until the server had failed and returned, and another one had
    filled the cache with the old value: under a new name, which the store does not reach."""
    description = memcacheds.describe(tmp_path, keep=False)
    slow, other = open_one(description), open_one(description)
    key = keys_of(slow.control, "a", 1)[0]
    slow.pool.store(key, b"old")
    cache = slow.group.members["a"].cache
    change = cache.change

    def stand_still(changes: Sequence[Change]) -> list[Outcome]:
        cache.change = change  # type: ignore[method-assign]  # back to what it was
        state = other.group.members["a"].state
        state.declare_failed(state.current(), "for the test")
        assert other.control.rejoin("127.0.0.1", memcacheds.servers["a"].port)
        other.pool.store(key, b"old", expect=ABSENT)
        return change(changes)

    cache.change = stand_still  # type: ignore[method-assign]  # where a process may be stopped
    try:
        slow.pool.store(key, b"new")
    except BackendUnavailable:
        return
    assert other.pool.retrieve(key).value == b"new"


@pytest.mark.parametrize("attempts", [0, ATTEMPTS])
def test_a_removal_is_not_confirmed_when_nobody_could_be_told_of_the_failure(
    open_one: Open, memcacheds: PoolStand, tmp_path: Path, attempts: int
) -> None:
    """Here neither the server nor the store of states answers; others reach both, and read what was there."""
    description = memcacheds.describe(tmp_path, keep=False, resubmit=True, attempts=attempts)
    lonely, other = open_one(description), open_one(description)
    key = keys_of(lonely.control, "a", 1)[0]
    lonely.pool.store(key, b"old")
    records = lonely.group.servers.records

    def away(*_: object) -> list[ServerRecord]:
        raise Unavailable("for the test")

    def silent(changes: Sequence[Change]) -> list[Outcome]:
        records.read = records.advance = away  # type: ignore[assignment,method-assign]  # the fault
        raise BackendUnavailable("for the test")

    lonely.group.members["a"].cache.change = silent  # type: ignore[method-assign]  # the fault
    with pytest.raises(BackendUnavailable):
        lonely.pool.remove(key)
    assert other.pool.retrieve(key).value == b"old"


def test_a_child_may_be_forked_while_another_thread_asks_for_the_states(open_one: Open) -> None:
    """What that thread holds is held for ever in the child, which has only the thread that forked."""
    opened = open_one(keep=False)
    opened.pool.store(b"7:key", b"x")
    records = opened.group.servers.records
    read = records.read
    asking, go_on = threading.Event(), threading.Event()

    def slow(servers: Sequence[str]) -> list[ServerRecord]:
        asking.set()
        go_on.wait(20)
        return read(servers)

    with ThreadPoolExecutor(1) as threads:
        records.read = slow  # type: ignore[method-assign]  # a store that takes its time
        for state in opened.group.servers:
            state.forget_view()
        threads.submit(opened.pool.place, b"7:key")
        assert asking.wait(20)
        records.read = read  # type: ignore[method-assign]  # back to what it was

        def look() -> None:
            await_that(lambda: value_of_if_there(opened, b"7:key") == b"x")

        child = Child(look)
        go_on.set()
    assert child.join() == ""


def value_of_if_there(opened: OpenPool, key: bytes) -> bytes | None:
    try:
        return value_of(opened.pool, key)
    except BackendUnavailable:
        return None


def count_calls(cache: object, name: str, calls: list[str], what: str) -> None:
    call = getattr(cache, name)

    def counted(*arguments: object, **more: object) -> object:
        calls.append(what)
        return call(*arguments, **more)

    setattr(cache, name, counted)
