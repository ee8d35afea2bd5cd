"""The purge deletes what has expired, keeps all totals right, and waits for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Table, func, select

from syncstore.bso import Change
from syncstore.errors import Conflict, InvalidBatch, LockUnavailable, Unavailable
from syncstore.locks.api import Locks
from syncstore.locks.sql import SqlLocks
from syncstore.storage.sql.compiling import Statement
from syncstore.storage.sql.purge import Purge, Purged, Sweeper
from syncstore.storage.sql.schema import batch_upload_items, batch_uploads, bso, users
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.sql_store import BATCH_LIFETIME, SqlStore


def rows(store: SqlStore, table: Table, uid: int | None = None) -> int:
    """The rows of a table, of one user or of all."""
    clause = select(func.count()).select_from(table)
    if uid is not None:
        clause = clause.where(table.c.userid == uid)
    statement = Statement("count", clause, store.database.dialect.compiler)
    return int(store.database.query(statement, dict.fromkeys(statement.names, uid))[0][0])


def put(store: SqlStore, uid: int, *changes: Change, collection: str = "col") -> int:
    with store.storage.lock_for_write(
        uid, collection, [change.id for change in changes], create=True
    ) as work:
        return work.put(changes)


def open_batch(store: SqlStore, uid: int, *changes: Change) -> str:
    with store.storage.lock_for_write(uid, "col", create=True) as work:
        batch = work.create_batch()
        work.append_to_batch(batch, changes)
    return batch


def commit(store: SqlStore, uid: int, batch: str) -> int:
    with store.storage.lock_for_write(uid, "col", create=True) as work:
        return work.commit_batch(batch, [])


def run(purge: Purge) -> Purged:
    """One pass, added up."""
    steps = list(purge.steps())
    return Purged(
        sum(step.users for step in steps),
        sum(step.items for step in steps),
        sum(step.batches for step in steps),
        sum(step.skipped for step in steps),
    )


@pytest.fixture(autouse=True)
def _clean(store: SqlStore, clock: SteppableClock) -> None:
    """Nothing is left that another test has let expire."""
    now = clock.now_ms()
    clock.step(10**9)
    run(store.purge())
    clock.step((now - clock.now_ms()) / 1000)


def test_expired_items_go_and_nothing_else_changes(store: SqlStore, clock: SteppableClock) -> None:
    put(store, 1, Change("dead", "12345", ttl=1), Change("live", "123"), Change("later", "1", ttl=1000))
    put(store, 1, Change("dead", "12345", ttl=1), collection="bookmarks")
    put(store, 2, Change("live", "123"))
    clock.step(2)
    read = store.storage
    before = [
        (read.collection_times(uid), read.collection_counts(uid), read.collection_usage(uid))
        for uid in (1, 2)
    ]
    assert rows(store, bso, 1) == 4
    assert run(store.purge()).items == 2
    assert rows(store, bso, 1) == 2
    after = [
        (read.collection_times(uid), read.collection_counts(uid), read.collection_usage(uid))
        for uid in (1, 2)
    ]
    assert after == before
    assert before[0][2].collections == {"col": 4}
    assert run(store.purge()).items == 0


def test_totals_stay_right_when_the_user_writes_on(store: SqlStore, clock: SteppableClock) -> None:
    put(store, 3, Change("dead", "12345", ttl=1), Change("live", "123"))
    clock.step(2)
    run(store.purge())
    put(store, 3, Change("dead", "12"), Change("live", "1"))
    assert store.storage.collection_usage(3).collections == {"col": 3}
    assert store.storage.collection_counts(3).collections == {"col": 2}


def test_an_expired_item_is_kept_for_the_grace_period(store: SqlStore, clock: SteppableClock) -> None:
    at = put(store, 4, Change("dead", "12345", ttl=1))
    clock.step((at * 10 + 1_000 + 59_999 - clock.now_ms()) / 1000)
    assert run(store.purge(grace=60)).items == 0
    clock.step(0.001)
    assert run(store.purge(grace=60)).items == 1


def test_an_item_without_a_ttl_is_never_purged(store: SqlStore, clock: SteppableClock) -> None:
    put(store, 5, Change("a", "1"))
    clock.step(10**10)  # beyond the number that stands for "never"
    run(store.purge())
    assert rows(store, bso, 5) == 1


def test_a_busy_user_is_left_for_the_next_pass(store: SqlStore, clock: SteppableClock) -> None:
    for uid in (6, 7, 8):
        put(store, uid, Change("dead", "x", ttl=1))
    clock.step(2)
    in_work, done = threading.Event(), threading.Event()

    def be_busy() -> None:
        with store.storage.lock_for_write(7, "col"):
            in_work.set()
            done.wait(60)

    busy = threading.Thread(target=be_busy)
    busy.start()
    try:
        assert in_work.wait(20)
        purged = run(store.purge())
    finally:
        done.set()
        busy.join()
    one_writer_at_all = store.database.dialect.name == "sqlite"
    assert (purged.items, purged.skipped) == ((0, 3) if one_writer_at_all else (2, 1))
    assert run(store.purge()).items == 3 - purged.items


def test_a_step_looks_at_a_bounded_number_of_users(store: SqlStore, clock: SteppableClock) -> None:
    for uid in range(20, 30):
        put(store, uid, Change("dead", "x", ttl=1))
    clock.step(2)
    steps = list(store.purge(step=4).steps())
    assert max(step.users for step in steps) == 4
    assert max(step.items for step in steps) <= 4
    assert sum(step.items for step in steps) == 10
    assert sum(step.users for step in steps) == rows(store, users)


def test_old_batches_go_in_bounded_steps(store: SqlStore, clock: SteppableClock) -> None:
    for i in range(7):
        open_batch(store, 30 + i % 2, Change("a", "1"), Change("b", "2"))
    clock.step(BATCH_LIFETIME + 1)
    young = open_batch(store, 30, Change("young", "1"))
    assert [step.batches for step in store.purge(step=3).steps() if step.batches] == [3, 3, 1]
    assert rows(store, batch_uploads) == 1
    assert rows(store, batch_upload_items) == 1
    commit(store, 30, young)
    assert store.storage.collection_counts(30).collections == {"col": 1}


def test_a_batch_is_kept_for_the_grace_period(store: SqlStore, clock: SteppableClock) -> None:
    batch = open_batch(store, 32, Change("a", "1"))
    clock.step(BATCH_LIFETIME + 59)
    assert run(store.purge(grace=60)).batches == 0
    with pytest.raises(InvalidBatch):
        commit(store, 32, batch)
    clock.step(2)
    assert run(store.purge(grace=60)).batches == 1


class PurgingClock(SteppableClock):
    """A clock that lets somebody else's purge run at the moment when a commit asks for its time."""

    def __init__(self) -> None:
        super().__init__()
        self.purge: Callable[[], object] | None = None

    def now(self) -> int:
        purge, self.purge = self.purge, None
        if purge is not None:
            purge()
        return super().now()


def test_the_purge_takes_nothing_from_a_commit_that_is_under_way(
    open_store: Callable[..., SqlStore], migrated_url: str
) -> None:
    clock, ahead = PurgingClock(), SteppableClock()
    ahead.step(BATCH_LIFETIME + 1)  # another machine's clock, for which the batch is over
    store, elsewhere = open_store(migrated_url, clock=clock), open_store(migrated_url, clock=ahead)
    batch = open_batch(store, 34, Change("a", "1"), Change("b", "2"))
    purged: list[Purged] = []
    with store.storage.lock_for_write(34, "col", create=True) as work:
        clock.purge = lambda: purged.append(run(elsewhere.purge()))
        work.commit_batch(batch, [])
    assert [(step.batches, step.skipped) for step in purged] == [(0, 1)]
    assert store.storage.collection_counts(34).collections == {"col": 2}


def test_a_purge_that_dies_in_a_batch_leaves_it_whole_to_the_next(
    store: SqlStore, clock: SteppableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_batch(store, 33, Change("a", "1"))
    clock.step(BATCH_LIFETIME + 1)

    def dies(*_arguments: object) -> None:
        raise Unavailable("the database went away")

    with monkeypatch.context() as patch:
        patch.setattr(store.database.dialect, "finish", dies)
        purged = run(store.purge())
    assert (purged.batches, purged.skipped) == (0, 1)
    assert rows(store, batch_uploads, 33) == rows(store, batch_upload_items, 33) == 1
    assert run(store.purge()).batches == 1
    assert rows(store, batch_uploads, 33) == rows(store, batch_upload_items, 33) == 0


def test_busy_users_do_not_keep_the_purge_from_the_batches_of_others(
    open_store: Callable[..., SqlStore], migrated_url: str, clock: SteppableClock
) -> None:
    store, elsewhere = open_store(migrated_url), open_store(migrated_url)
    for uid in (35, 36, 37):
        open_batch(store, uid, Change("a", "1"))
    clock.step(BATCH_LIFETIME + 1)
    one_writer_at_all = store.database.dialect.name == "sqlite"
    with store.storage.lock_for_write(35, "col"):
        purged = run(elsewhere.purge(step=1))
    assert (purged.batches, purged.skipped) == ((0, 3) if one_writer_at_all else (2, 1))
    assert run(elsewhere.purge(step=1)).batches == 3 - purged.batches


def test_the_sweeper_purges_again_and_again_until_it_is_stopped(
    store: SqlStore, clock: SteppableClock
) -> None:
    passes: list[int] = []
    twice = threading.Event()

    class Counting(Purge):
        def steps(self):  # type: ignore[no-untyped-def]
            passes.append(1)
            if len(passes) == 1:
                raise Conflict("the first pass fails, and the thread goes on")
            if len(passes) == 3:
                twice.set()
            return iter([Purged(items=1)])

    purge = Counting(store.database, store.statements, store.locks, clock, grace=0, batch_lifetime=1, step=1)
    sweeper = Sweeper(purge, 0.01)
    sweeper.start()
    assert twice.wait(20)
    sweeper.stop()
    stopped = len(passes)
    assert not [thread for thread in threading.enumerate() if thread.name == "syncstore-purge"]
    assert len(passes) == stopped


def test_a_fault_in_a_pass_is_told_and_does_not_end_the_sweeper(caplog: pytest.LogCaptureFixture) -> None:
    again = threading.Event()

    class Faulty:
        passes = 0

        def steps(self) -> Iterator[Purged]:
            self.passes += 1
            if self.passes == 1:
                raise RuntimeError("nobody foresaw this")
            again.set()
            return iter([])

    sweeper = Sweeper(Faulty(), 0.01)
    sweeper.start()
    try:
        assert again.wait(20)
    finally:
        sweeper.stop()
    assert "nobody foresaw this" in caplog.text


def test_a_sweeper_without_an_interval_never_starts(store: SqlStore) -> None:
    sweeper = Sweeper(store.purge(), 0)
    sweeper.start()
    sweeper.stop()


# -- what is left of locks


class SweptLocks(SqlLocks):
    """Locks of which the dead leave something, or of which nobody knows."""

    swept = 0
    away = False

    def sweep(self) -> Iterator[int]:
        for _ in range(3):
            if self.away:
                raise LockUnavailable("nobody answers")
            self.swept += 1
            yield 1


def test_what_dead_holders_left_is_removed_too_and_keeps_nothing_waiting(
    store: SqlStore, clock: SteppableClock
) -> None:
    backend = SweptLocks(store.database)
    purge = Purge(
        store.database,
        store.statements,
        Locks(backend, clock, 5.0),
        clock,
        grace=0,
        batch_lifetime=BATCH_LIFETIME,
        step=10,
    )
    run(purge)
    assert backend.swept == 3
    backend.away = True
    run(purge)
    assert backend.swept == 3
