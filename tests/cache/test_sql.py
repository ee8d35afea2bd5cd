"""The provider `sql` keeps the contract on each kind of database, and what it says of itself."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from syncstore import databases
from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Busy,
    Change,
    Conflict,
    NotFound,
    Provider,
    Remove,
    StorageFull,
    Store,
    Token,
)
from syncstore.cache.making import Description, Options, Surroundings, make
from syncstore.cache.sql import SqlProvider, address, mysql, postgresql, sqlite
from syncstore.cache.sql.kinds import Link, Result, Step
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.cache_conformance.rooms import Child, value_of
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.sql_cache import counted_trips, open_sql, run_sql

OpenSql = Callable[..., SqlProvider]


class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, database_url: str) -> Iterator[OpenCache]:
        with OpenCaches(lambda clock: open_sql(database_url, clock)) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self, database_url: str, tmp_path: Path) -> Iterator[OpenCache]:
        kind = database_url.partition("+")[0]
        nowhere = f"{kind}://nobody@{HOST}:{free_port()}/none"
        if database_url.startswith("sqlite"):
            nowhere = f"sqlite:///{tmp_path / 'nowhere' / 'cache.db'}"
        with OpenCaches(lambda clock: open_sql(nowhere, clock)) as open_cache:
            yield open_cache


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock(time.time_ns() // 1_000_000)


@pytest.fixture
def opened(database_url: str, clock: SteppableClock) -> Iterator[OpenSql]:
    """Opens caches in one database whose table is missing at first, closed at the end of the test."""
    if "sqlite" not in database_url or Path(database_url.removeprefix("sqlite:///")).exists():
        run_sql(database_url, "DROP TABLE IF EXISTS socache")
    caches: list[SqlProvider] = []

    def open_one(**facts: Any) -> SqlProvider:
        caches.append(open_sql(facts.pop("url", database_url), facts.pop("clock", clock), **facts))
        return caches[-1]

    yield open_one
    for cache in caches:
        cache.close()


def live(cache: Provider) -> dict[bytes, bytes]:
    return {key: item.value for key, item in cache.iterate()}


# -- settings


def made(text: str, here: Path, database: str = "sqlite:////none/own.db") -> Provider:
    def nobody(name: str) -> object:
        raise AssertionError(name)

    description = Description.parse(text)
    return make(
        description,
        Surroundings("a", SystemClock(), here, Options(description.options), nobody, nobody, database),  # type: ignore[arg-type]  # neither is asked
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sql:/x", "must have no argument"),
        ("sql:postgresql", "must have no argument"),
        ("sql:oracle://u:secret@h/d", "of sqlite, mysql, mariadb, postgresql, and not of oracle"),
        ("sql:postgresql+asyncpg://u:secret@h/d", "names the driver asyncpg"),
        ("sql:postgresql://u:secret@h", "must name a database"),
        ("sql:mysql://u:secret@h:port/d", "must have no argument"),
        ("sql:sqlite://", "SQLite needs a file"),
        ("sql:sqlite:///:memory:", "SQLite needs a file"),
        ("sql:sqlite:///file:x?mode=memory&uri=true", "SQLite needs a file"),
        ("sql: timeout=0", "timeout=0: must be"),
        ("sql: max_value=9999", "max_value=9999: must be a whole number from 10000"),
        ("sql: connections=0", "connections=0"),
        ("sql: lock_timeout=1", "lock_timeout is not an option"),
    ],
)
def test_it_refuses_settings_that_cannot_be_and_quotes_no_password(
    tmp_path: Path, text: str, fault: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        made(text, tmp_path)
    assert fault in str(refused.value)
    assert "secret" not in str(refused.value)


def test_without_an_argument_it_is_in_the_service_s_database(tmp_path: Path) -> None:
    cache = made("sql:", tmp_path, f"sqlite:///{tmp_path}/own.db")
    assert os.listdir(tmp_path) == []
    cache.store(b"k", b"x")
    assert {"own.db", "own.db-wal", "own.db-shm"} == set(os.listdir(tmp_path))
    assert (tmp_path / "own.db").stat().st_mode & 0o777 == 0o600
    cache.close()


def test_the_path_of_a_file_starts_from_here(tmp_path: Path) -> None:
    cache = made("sql:sqlite:///caches.db max_value=20000", tmp_path)
    assert cache.limits.max_value == 20_000
    assert not cache.features.shared_hosts
    cache.store(b"k", b"x")
    assert (tmp_path / "caches.db").exists()
    cache.close()


def test_its_drivers_are_those_of_the_service() -> None:
    assert address.DRIVERS == databases._DRIVERS


@pytest.mark.parametrize(
    "url", ["sqlite:////none/x.db", "mysql://u:secret@127.0.0.1:1/d", "postgresql://u:secret@127.0.0.1:1/d"]
)
def test_it_is_made_at_once_and_says_soon_that_nobody_is_there(tmp_path: Path, url: str) -> None:
    made(f"sql:{url}", tmp_path)  # which imports the driver
    times = []
    for _ in range(5):
        began = time.thread_time()  # of this thread alone: the machine may be busy
        cache = made(f"sql:{url}", tmp_path)
        times.append(time.thread_time() - began)
    assert min(times) < 0.01
    began = time.monotonic()
    with pytest.raises(BackendUnavailable) as away:
        cache.store(b"k", b"x")
    assert time.monotonic() - began < 2.2
    assert "secret" not in str(away.value)
    assert cache.features.shared_hosts == ("sqlite" not in url)


# -- the table


def test_eight_processes_make_one_table(opened: OpenSql, database_url: str) -> None:
    for _ in range(3):
        cache = opened()
        reading, writing = os.pipe()

        def begin(number: int) -> None:
            os.close(writing)  # noqa: B023 - called in this turn
            os.read(reading, 1)  # noqa: B023 - the same
            cache.store(b"%d" % number, b"x", expect=ABSENT)  # noqa: B023 - the same

        children = [Child(lambda number=number: begin(number)) for number in range(8)]  # type: ignore[misc]  # its own number
        os.close(writing)
        assert [child.join() for child in children] == [""] * 8
        os.close(reading)
        assert len(live(cache)) == 8
        found = [item for item in cache.fetch([b"%d" % number for number in range(8)]) if item]
        assert len({item.token.incarnation for item in found}) == 1
        assert len({item.token for item in found}) == 8
        rows = run_sql(database_url, "SELECT count(*) FROM socache WHERE expires = 0 AND version = 0")
        assert rows == [(1,)]
        cache.close()
        run_sql(database_url, "DROP TABLE socache")


def test_a_table_that_was_removed_is_made_again_and_knows_no_old_token(
    opened: OpenSql, database_url: str
) -> None:
    cache = opened()
    old = cache.store(b"k", b"x")
    run_sql(database_url, "DROP TABLE socache")
    assert cache.fetch([b"k"]) == [None]
    new = cache.store(b"k", b"y")
    assert new.incarnation != old.incarnation
    run_sql(database_url, "DROP TABLE socache")
    outcomes = cache.change(
        [Store(b"k", b"z", 0, old), Store(b"k", b"z", 0, new), Store(b"k", b"w", 0, ABSENT)]
    )
    assert [type(outcome) for outcome in outcomes] == [Conflict, Conflict, Token]


def test_who_may_make_no_table_is_told_so(opened: OpenSql, database_url: str) -> None:
    if "sqlite" in database_url:
        pytest.skip("a file has no users")
    base, _, name = database_url.rpartition("/")
    name = name.partition("?")[0]
    if "mysql" in database_url:
        run_sql(
            database_url,
            "DROP USER IF EXISTS cacher",
            "CREATE USER cacher IDENTIFIED BY 'secret'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO cacher",
        )
        url = f"{base.replace('root@', 'cacher:secret@')}/{name}"
        create, allow = [mysql.CREATE], "SELECT 1"
    else:
        run_sql(
            database_url,
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            "DO $$ BEGIN CREATE ROLE cacher LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        )
        url = f"{base.replace('postgres@', 'cacher:secret@')}/{name}"
        create = list(postgresql.CREATE)
        allow = "GRANT SELECT, INSERT, UPDATE, DELETE ON socache TO cacher"
    cache = opened(url=url)
    with pytest.raises(
        BackendUnavailable, match=r"the table socache is missing, .* CREATE in syncstore"
    ) as told:
        cache.store(b"k", b"x")
    assert "secret" not in str(told.value)
    run_sql(database_url, *create, allow)
    token = cache.store(b"k", b"x")
    assert cache.retrieve(b"k").token == token
    cache.close()


# -- what it costs


def test_one_key_is_one_round_trip_and_many_are_one(opened: OpenSql, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = opened()
    keys = [b"%d" % number for number in range(1000)]
    with counted_trips(cache, monkeypatch) as trips:
        token = cache.store(b"k", b"x")
        cache.retrieve(b"k")
        token = cache.store(b"k", b"y", expect=token)
        cache.store(b"l", b"y", expect=ABSENT)
        cache.remove(b"k", expect=token)
        cache.remove(b"l")
        assert trips.taken() == [1] * 6
        cache.fetch(keys)
        assert trips.taken() == [1]
        cache.fetch(keys[:3], reserve=10)
        cache.fetch(keys[:3], reserve=10)
        sizes = trips.taken()
        cache.change([Store(key, b"x") for key in keys[:100]])
        if cache.features.shared_hosts:
            assert sizes == [1, 3, 1]
            assert trips.taken() == [100]


# -- namespaces, races


def test_two_namespaces_do_not_meet(opened: OpenSql, clock: SteppableClock) -> None:
    one, other = opened(namespace="a"), opened(namespace="ab")
    dies = clock.seconds() + 10
    one.change([Store(b"b", b"one"), Store(b"\xff" * 250, b"last"), Store(b"\0", b"first", dies)])
    token = other.store(b"b", b"other")
    other.store(b"dies", b"other", dies)
    with pytest.raises(Conflict):
        one.store(b"b", b"x", expect=token)
    assert live(one) == {b"\0": b"first", b"b": b"one", b"\xff" * 250: b"last"}
    assert live(other) == {b"b": b"other", b"dies": b"other"}
    clock.step(11)
    assert one.cull() == 1
    assert one.cull() == 0
    assert (one.status()["items"], other.status()["items"]) == (2, 2)
    one.remove(b"b")
    assert other.retrieve(b"b").value == b"other"


def race(cache: Provider, count: int) -> None:
    """Two processes add each of so many keys; exactly one of them gets each."""
    reading, writing = os.pipe()

    def add(name: bytes) -> None:
        for number in range(count):
            try:
                cache.store(b"race%d" % number, name, expect=ABSENT)
            except Conflict:
                continue
            os.write(writing, b"%d " % number)

    children = [Child(lambda name=name: add(name)) for name in (b"one", b"other")]  # type: ignore[misc]  # its own name
    os.close(writing)
    with open(reading, "rb") as pipe:
        won = sorted(map(int, pipe.read().split()))
    assert [child.join() for child in children] == [""] * 2
    assert won == list(range(count))


def test_of_two_processes_that_add_exactly_one_wins(opened: OpenSql) -> None:
    race(opened(clock=SystemClock()), 1000)


@pytest.mark.soak
def test_eight_children_store_and_find_a_thousand_values_each(opened: OpenSql) -> None:
    cache = opened(clock=SystemClock())
    cache.store(b"parent", b"x")

    def use(name: bytes) -> None:
        for number in range(1000):
            key = name + b"%d" % (number % 50)
            token = cache.store(key, b"%d" % number + name)
            assert cache.retrieve(key)[:2] == (b"%d" % number + name, token)

    children = [Child(lambda name=b"c%d:" % number: use(name)) for number in range(8)]  # type: ignore[misc]  # its own name
    use(b"parent:")
    assert [child.join() for child in children] == [""] * 8
    assert cache.retrieve(b"parent").value == b"x"


def test_processes_that_change_many_keys_at_once_do_not_stand_in_each_other_s_way(opened: OpenSql) -> None:
    cache = opened(clock=SystemClock())
    keys = [b"%d" % number for number in range(60)]

    def change(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(15):
            some = rng.sample(keys, 40)
            outcomes = cache.change([Store(key, b"%d" % seed) for key in some])
            assert all(isinstance(outcome, Token) for outcome in outcomes)
            cache.fetch(rng.sample(keys, 40), reserve=10)
            cache.change([Remove(key) for key in rng.sample(keys, 40)])

    children = [Child(lambda seed=seed: change(seed)) for seed in range(4)]  # type: ignore[misc]  # its own seed
    assert [child.join() for child in children] == [""] * 4


# -- expiry, listing, culling


def test_times_come_back_as_they_were(opened: OpenSql, clock: SteppableClock) -> None:
    cache = opened()
    rng = random.Random(4)
    times = [clock.seconds() + rng.random() * 10 ** rng.randrange(-3, 9) for _ in range(200)]
    cache.change([Store(b"%d" % number, b"x", expires) for number, expires in enumerate(times)])
    found = cache.fetch([b"%d" % number for number in range(200)])
    assert [item and item.expires for item in found] == times
    cache.store(b"kept", b"x", math.inf)
    assert cache.retrieve(b"kept").expires == 0


def test_what_has_expired_is_dropped_in_steps_and_no_more_than_asked(
    opened: OpenSql, clock: SteppableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened()
    cache.change([Store(b"dies%d" % number, b"x", clock.seconds() + 10) for number in range(700)])
    cache.change([Store(b"lives%d" % number, b"x", clock.seconds() + 20) for number in range(10)])
    cache.store(b"stays", b"x")
    assert cache.cull() == 0
    assert cache.cull(now=clock.seconds() + 10, limit=3) == 3
    clock.step(10)
    assert len(live(cache)) == 11
    with counted_trips(cache, monkeypatch) as trips:
        assert cache.cull(limit=400) == 400
        assert trips.taken() == [1, 1]
    assert cache.cull(limit=0) == 0
    assert cache.cull() == 297
    assert cache.status()["items"] == 11


def test_what_is_refreshed_while_others_cull_stays(opened: OpenSql) -> None:
    cache = opened(clock=SystemClock())
    clock = SteppableClock(time.time_ns() // 1_000_000 - 3_600_000)
    keys = [b"%d" % number for number in range(300)]
    opened(clock=clock).change([Store(key, b"old", clock.seconds() + 1) for key in keys])

    def cull() -> None:
        while cache.cull(limit=7):
            pass

    children = [Child(cull) for _ in range(2)]
    for key in keys:
        cache.store(key, b"new")
    assert [child.join() for child in children] == ["", ""]
    assert live(cache) == dict.fromkeys(keys, b"new")


def test_it_lists_more_than_it_asks_for_at_once_and_stands_in_nobody_s_way(opened: OpenSql) -> None:
    cache = opened(connections=1)
    cache.change([Store(b"%d" % number, b"%d" % number * 3) for number in range(300)])
    found = []
    for key, item in cache.iterate():
        found.append(key)
        assert item.value == key * 3
        cache.remove(key)
    assert sorted(found) == sorted(b"%d" % number for number in range(300))
    assert live(cache) == {}


# -- tokens, removals


def test_no_number_comes_twice(opened: OpenSql) -> None:
    cache = opened()
    tokens = [cache.store(b"k", b"x") for _ in range(100)]
    tokens += [token for token in cache.change([Store(b"k", b"x")] * 300) if isinstance(token, Token)]
    tokens += [
        item.token for item in cache.fetch([b"%d" % number for number in range(99)], reserve=9) if item
    ]
    assert len({token.number for token in tokens}) == 499
    assert min(token.number for token in tokens) < 2**60 < max(token.number for token in tokens) < 2**63


def test_a_removal_that_is_refused_says_what_was_there_then(opened: OpenSql) -> None:
    cache = opened()
    stale = cache.store(b"k", b"1")
    cache.store(b"k", b"2")
    outcomes = cache.change([Remove(b"k", stale), Remove(b"k"), Remove(b"k", stale), Remove(b"k")])
    assert [type(outcome) for outcome in outcomes] == [Conflict, type(None), NotFound, NotFound]
    with pytest.raises(NotFound):
        cache.remove(b"k", expect=stale)


def test_a_change_of_an_expired_key_finds_nothing(opened: OpenSql, clock: SteppableClock) -> None:
    cache = opened()
    token = cache.store(b"k", b"x", clock.seconds() + 10)
    clock.step(10)
    with pytest.raises(Conflict):
        cache.store(b"k", b"y", expect=token)
    with pytest.raises(NotFound):
        cache.remove(b"k", expect=token)
    with pytest.raises(NotFound):
        cache.remove(b"k")
    again = cache.store(b"k", b"z", expect=ABSENT)
    assert cache.retrieve(b"k")[:2] == (b"z", again)
    assert cache.retrieve(b"k").expires == 0


# -- faults


@pytest.fixture
def faulty(opened: OpenSql, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[SqlProvider, list[str]]]:
    """A cache whose next calls fail with these faults, told as the driver's errors are, before anything is done."""
    cache = opened(timeout=5.0)
    cache.store(b"k", b"before")
    kind: Any = cache._database.kind
    faults: list[str] = []
    link = type(cache._database.run(lambda link: link, again=True))
    one, together, fault = link.one, link.together, kind.fault

    class Planned(kind.error):  # type: ignore[misc]  # of the driver
        pass

    def perhaps() -> None:
        if faults:
            raise Planned(faults[0])

    def faulty_one(self: Link, step: Step) -> Result:
        perhaps()
        return one(self, step)

    def faulty_together(self: Link, steps: list[Step]) -> list[Result]:
        perhaps()
        return together(self, steps)

    def planned(error: Exception, link: Link | None) -> str:
        return faults.pop(0) if isinstance(error, Planned) else fault(error, link)

    monkeypatch.setattr(link, "one", faulty_one)
    monkeypatch.setattr(link, "together", faulty_together)
    monkeypatch.setattr(kind, "fault", planned)
    yield cache, faults
    faults.clear()


TWO: list[Change] = [Store(b"k", b"new"), Remove(b"other")]


def test_what_gave_way_to_others_is_done_again(faulty: tuple[SqlProvider, list[str]]) -> None:
    cache, faults = faulty
    faults += ["in the way"] * 4
    cache.store(b"k", b"x", expect=cache.retrieve(b"k").token)
    assert faults == []
    faults += ["in the way"] * 4
    assert [type(outcome) for outcome in cache.change(TWO)] == [Token, NotFound]
    assert cache.retrieve(b"k").value == b"new"


def test_a_lost_read_is_done_again_once_and_a_lost_change_never(
    faulty: tuple[SqlProvider, list[str]],
) -> None:
    cache, faults = faulty
    token = cache.retrieve(b"k").token
    faults += ["gone"]
    assert cache.retrieve(b"k").value == b"before"
    faults += ["gone"] * 2
    with pytest.raises(BackendUnavailable):
        cache.retrieve(b"k")
    calls: list[Callable[[], object]] = [
        lambda: cache.store(b"k", b"x"),
        lambda: cache.store(b"k", b"x", expect=token),
        lambda: cache.store(b"new", b"x", expect=ABSENT),
        lambda: cache.remove(b"k"),
        lambda: cache.change(TWO),
        lambda: cache.cull(),
    ]
    for call in calls:
        faults += ["gone"]
        with pytest.raises(BackendUnavailable, match="went away"):
            call()
        assert faults == []
    assert live(cache) == {b"k": b"before"}


def test_without_room_others_of_the_same_call_are_done(
    faulty: tuple[SqlProvider, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, faults = faulty
    monkeypatch.setattr(cache, "cull", lambda: 0)
    faults += ["full"]
    with pytest.raises(StorageFull, match="no room"):
        cache.store(b"k", b"x")
    faults += ["full", "full"]  # both together, and the first alone
    outcomes = cache.change(TWO)
    assert [type(outcome) for outcome in outcomes] == [StorageFull, NotFound]
    assert faults == []
    monkeypatch.setattr(cache, "cull", lambda: 1)  # and now there was something to drop
    faults += ["full"]
    cache.store(b"k", b"x")
    faults += ["full"]
    outcomes = cache.change(TWO)
    assert [type(outcome) for outcome in outcomes] == [Token, NotFound]


def test_a_file_without_room_takes_nothing_and_loses_nothing(tmp_path: Path, clock: SteppableClock) -> None:
    cache = open_sql(f"sqlite:///{tmp_path}/x.db", clock)
    cache.store(b"0", b"x" * 100_000, clock.seconds() + 10)
    cache._database.run(lambda link: link.one(Step("PRAGMA max_page_count = 200", ())), again=True)
    for number in range(1, 7):
        cache.store(b"%d" % number, b"x" * 100_000)
    token = cache.retrieve(b"1").token
    with pytest.raises(StorageFull, match="no room"):
        cache.store(b"more", b"x" * 200_000)
    with pytest.raises(StorageFull, match="no room"):
        cache.store(b"1", b"x" * 300_000, expect=token)
    outcomes = cache.change([Store(b"more", b"x" * 200_000), Store(b"small", b"x"), Remove(b"2")])
    assert [type(outcome) for outcome in outcomes] == [StorageFull, Token, type(None)]
    assert cache.retrieve(b"1").token == token
    clock.step(10)  # and what has expired makes room
    cache.store(b"more", b"x" * 150_000)
    cache.close()


def test_others_who_hold_the_row_are_waited_for_so_long_and_no_longer(
    opened: OpenSql, database_url: str
) -> None:
    from sqlalchemy import NullPool, create_engine, text

    cache = opened(timeout=0.5)
    token = cache.store(b"k", b"x")
    engine = create_engine(database_url, poolclass=NullPool)
    with engine.connect() as other:
        if "sqlite" in database_url:
            other.exec_driver_sql("BEGIN IMMEDIATE")
        other.execute(text("UPDATE socache SET version = 7 WHERE version <> 0"))
        for call in (
            lambda: cache.store(b"k", b"y"),
            lambda: cache.remove(b"k", expect=token),
            lambda: cache.change([Remove(b"k"), Store(b"l", b"y")]),
        ):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match=r"others have been in the way|time"):
                call()
            assert time.monotonic() - began < 10
        assert cache.retrieve(b"k").token == token  # who reads waits for nobody
        other.rollback()
    assert cache.store(b"k", b"y", expect=token)


def test_threads_that_hang_make_the_others_busy(opened: OpenSql) -> None:
    cache = opened(timeout=0.3, connections=1)
    cache.store(b"k", b"x")
    hangs, go_on = threading.Event(), threading.Event()

    def hang(link: Link) -> None:
        hangs.set()
        go_on.wait(20)

    thread = threading.Thread(target=lambda: cache._database.run(hang, again=False))
    thread.start()
    assert hangs.wait(20)
    with pytest.raises(Busy):
        cache.retrieve(b"k")
    go_on.set()
    thread.join()
    assert value_of(cache, b"k") == b"x"


def test_what_is_interrupted_amid_several_changes_is_taken_back(opened: OpenSql) -> None:
    cache = opened()
    cache.change([Store(b"1", b"before"), Store(b"2", b"before")])
    put = cache._statements.put

    def interrupted(link: Link) -> None:
        given = {"ns": b"a", "key": b"1", "value": b"after", "expires": 0.0, "version": 1}
        link.one(Step("BEGIN IMMEDIATE" if cache._database.kind.patient else "BEGIN", ()))
        assert link.one(Step(put.sql, put.bind(given)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache._database.run(interrupted, again=False)
    assert live(cache) == {b"1": b"before", b"2": b"before"}
    cache.change([Store(b"1", b"new"), Store(b"2", b"new")])
    assert live(cache) == {b"1": b"new", b"2": b"new"}


def test_what_quotes_cannot_break_out(opened: OpenSql) -> None:
    cache = opened(max_value=64 * 1024 * 1024)
    largest = cache.limits.max_value
    for worst in (
        b"'" * min(largest, 8_000_000),
        b"\\" * 100_000,
        b"%s%%(x)s\0;--",
        b"x'; DROP TABLE socache; --",
    ):
        key = worst[:250]
        token = cache.store(key, worst)
        assert cache.retrieve(key)[:2] == (worst, token)
        assert cache.change([Remove(key, token), Store(key, worst[:100])])[0] is None
        assert cache.fetch([key, b"%s"])[1] is None


def test_the_statements_of_the_tables_say_what_they_make() -> None:
    for create in (sqlite.CREATE[0], mysql.CREATE, postgresql.CREATE[0]):
        assert create.startswith("CREATE TABLE IF NOT EXISTS socache (ns ")
