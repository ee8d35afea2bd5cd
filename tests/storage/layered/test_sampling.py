"""The sampler finds what the cache was wrong about, also once, and takes nothing else for it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from syncstore.bso import BSO, Change
from syncstore.clock import SystemClock
from syncstore.errors import Conflict, NotFound, Unavailable
from syncstore.storage.api import Page, Query, Storage, Totals
from syncstore.storage.durable import StoredItem
from syncstore.storage.layered import contents
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.record import record
from syncstore.storage.layered.sampling import SampledStorage, Untrusting
from syncstore.storage.layered.sql_backed import copy_key
from syncstore.storage.layered.store import LayeredStorage
from syncstore.storage.sql import migrate
from syncstore.testing.cached_store import CachedStore, open_cached_store
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.servers import MemcachedServer

_users = itertools.count(1)
FULL = Query(full=True)


@pytest.fixture(scope="module")
def store(database_url: str, memcached_server: MemcachedServer) -> Iterator[CachedStore]:
    migrate.upgrade(database_url)
    with open_cached_store(database_url, memcached_server.address) as opened:
        yield opened


@pytest.fixture
def sampled(store: CachedStore) -> SampledStorage:
    reference = LayeredStorage(
        store.below.storage, store.cache, Untrusting(store.state), store.kinds, store.clock
    )
    return SampledStorage(store.storage, reference, 1.0, store.clock)


@pytest.fixture
def user(store: CachedStore) -> int:
    uid = next(_users)
    for name in ("bookmarks", "meta", "tabs"):
        store.put(uid, name, "a", "b")
    store.warm(uid)
    return uid


def read_all(storage: Storage, uid: int) -> None:
    """Every read that a sample can be of, and some that find nothing."""
    storage.collection_times(uid)
    for name in ("bookmarks", "meta", "tabs", "never"):
        storage.collection_modified(uid, name)
        storage.find(uid, name, FULL)
        storage.find(uid, name, Query(limit=1, sort="oldest"))
        for item in ("a", "none"):
            with suppress(NotFound):
                storage.item(uid, name, item)


# -- what is right


def test_what_is_right_is_counted_and_not_told(
    sampled: SampledStorage, user: int, caplog: pytest.LogCaptureFixture
) -> None:
    read_all(sampled, user)
    read_all(sampled, next(_users))
    assert (sampled.compared, sampled.disagreements, sampled.undecided) == (42, 0, 0)
    assert caplog.records == []


def test_answers_are_the_storage_s_own(sampled: SampledStorage, store: CachedStore, user: int) -> None:
    plain = store.storage
    assert sampled.collection_times(user) == plain.collection_times(user)
    assert sampled.collection_counts(user) == plain.collection_counts(user)
    assert sampled.collection_usage(user) == plain.collection_usage(user)
    assert sampled.item(user, "meta", "a") == plain.item(user, "meta", "a")
    with pytest.raises(NotFound):
        sampled.item(user, "meta", "none")
    with sampled.lock_for_write(user, "meta", ["c"]) as work:
        work.put([Change("c", "x")])
    assert len(sampled.find(user, "meta", FULL).items) == 3
    sampled.check()


def test_losses_and_deletions_are_right(sampled: SampledStorage, store: CachedStore, user: int) -> None:
    store.clearing.lose(user, "tabs")
    read_all(sampled, user)
    with sampled.lock_for_write(user, "meta") as work:
        work.delete_collection()
    read_all(sampled, user)
    assert sampled.disagreements == sampled.undecided == 0


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_only_a_share_is_compared(store: CachedStore, user: int, share: float) -> None:
    draws = itertools.cycle([0.0, 0.24, 0.25, 0.99])
    reference = LayeredStorage(
        store.below.storage, store.cache, Untrusting(store.state), store.kinds, store.clock
    )
    one = SampledStorage(store.storage, reference, share, store.clock, draw=lambda: next(draws))
    for _ in range(8):
        one.collection_times(user)
    assert one.compared == (4 if share else 0)


# -- what is wrong


def test_a_record_that_is_behind_is_found(
    sampled: SampledStorage, store: CachedStore, user: int, caplog: pytest.LogCaptureFixture
) -> None:
    old = store.record(user)
    store.put(user, "bookmarks", "c")
    store.plant(user, old)
    sampled.collection_times(user)
    sampled.collection_modified(user, "bookmarks")
    sampled.collection_modified(user, "meta")
    assert (sampled.compared, sampled.disagreements) == (3, 2)
    assert [one.levelname for one in caplog.records] == ["ERROR", "ERROR"]
    first, second = (one.getMessage() for one in caplog.records)
    assert first.startswith(f"the cache was wrong about user {user}, the times of all collections: storage=1")
    assert second.startswith(f"the cache was wrong about user {user}, the time of bookmarks: 1")


def test_a_collection_that_is_told_to_be_missing_is_found(
    sampled: SampledStorage, store: CachedStore, user: int
) -> None:
    before = store.record(user)
    store.plant(user, record(complete=True, storage=before.storage, entries={}))
    sampled.collection_times(user)
    sampled.find(user, "meta", FULL)
    sampled.find(user, "tabs", FULL)
    with pytest.raises(NotFound):
        sampled.item(user, "meta", "a")
    assert sampled.disagreements == 4


def test_a_wrong_copy_is_found_without_a_word_of_it(
    sampled: SampledStorage, store: CachedStore, user: int, caplog: pytest.LogCaptureFixture
) -> None:
    page = store.read(user, "meta")
    wrong = [StoredItem("a", page.modified, "a secret")]
    store.cache.store(copy_key(store.epoch, user, "meta"), contents.encode(Contents(page.modified, wrong)))
    sampled.find(user, "meta", FULL)
    sampled.item(user, "meta", "a")
    assert sampled.disagreements == 2
    assert "items of meta: 1 items at" in caplog.text
    assert "secret" not in caplog.text


# -- in the midst of writes: what each moment proves, step by step


class Script:
    """A storage whose answers are written down."""

    def __init__(self, *answers: Totals | Page | BSO | int | type[Exception]) -> None:
        self.answers = list(answers)

    def _next(self, kind: type | tuple[type, ...]) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, type):
            raise answer("as written")
        assert isinstance(answer, kind)
        return answer

    def collection_times(self, uid: int) -> Totals:
        return self._next(Totals)  # type: ignore[return-value]  # checked there

    def collection_modified(self, uid: int, collection: str) -> int:
        return self._next(int)  # type: ignore[return-value]  # checked there

    def item(self, uid: int, collection: str, item: str) -> BSO:
        return self._next(BSO)  # type: ignore[return-value]  # checked there


def at(time: int, **times: int) -> Totals:
    return Totals(time, times)


def verdict(
    answer: Totals | BSO | int | type[Exception], *reference: Totals | BSO | int | type[Exception]
) -> str:
    """What a sample finds that got `answer`, while the reference says these."""
    store = Script(answer)
    truth = Script(*reference)
    sampled = SampledStorage(store, truth, 1.0, SystemClock())  # type: ignore[arg-type]  # no more is needed
    calls: dict[type, Callable[[], object]] = {
        Totals: lambda: sampled.collection_times(1),
        int: lambda: sampled.collection_modified(1, "a"),
    }
    kind = type(reference[1])
    with suppress(NotFound):
        calls.get(kind, lambda: sampled.item(1, "a", "x"))()
    assert truth.answers == []
    assert sampled.compared == 1
    if sampled.undecided:
        return "undecided"
    return "wrong" if sampled.disagreements else "right"


BEFORE, AFTER = at(5, a=5), at(7, a=7)


@pytest.mark.parametrize(
    ("answer", "reference", "found"),
    [
        (BEFORE, [BEFORE, BEFORE], "right"),
        (AFTER, [BEFORE, BEFORE, AFTER, AFTER], "right"),
        (at(6, a=6), [BEFORE, BEFORE, AFTER, AFTER], "undecided"),
        (at(6, a=6), [BEFORE, BEFORE, BEFORE, BEFORE], "wrong"),
        (at(4, a=4), [BEFORE, BEFORE, AFTER, AFTER], "wrong"),
        (at(8, a=8), [BEFORE, BEFORE, AFTER, AFTER], "wrong"),
        (5, [BEFORE, 5], "right"),
        (7, [BEFORE, 5, 7, AFTER], "right"),
        (6, [BEFORE, 5, 7, AFTER], "undecided"),
        (0, [BEFORE, 5, 7, AFTER], "undecided"),
        (6, [BEFORE, 5, 5, BEFORE], "wrong"),
        (4, [BEFORE, 5, 7, AFTER], "wrong"),
        (8, [BEFORE, 5, 7, AFTER], "wrong"),
        # made and deleted again between two looks that find nothing
        (6, [at(5), 0, 0, at(7)], "undecided"),
        (BSO("x", 6, "p"), [BEFORE, NotFound, NotFound, AFTER], "undecided"),
        (BSO("x", 4, "p"), [BEFORE, BSO("x", 5, "p"), BSO("x", 7, "p"), AFTER], "wrong"),
        (NotFound, [BEFORE, BSO("x", 5, "p"), BSO("x", 5, "p"), BEFORE], "wrong"),
        (NotFound, [BEFORE, BSO("x", 5, "p"), NotFound, BEFORE], "right"),
        (AFTER, [BEFORE, BEFORE, Unavailable], "undecided"),
    ],
)  # fmt: skip
def test_what_a_sample_proves(
    answer: Totals | BSO | int | type[Exception],
    reference: list[Totals | BSO | int | type[Exception]],
    found: str,
) -> None:
    assert verdict(answer, *reference) == found


def test_requests_do_not_wait_for_sql_again_and_again() -> None:
    clock = SteppableClock()
    store, truth = Script(*[BEFORE] * 3), Script(Unavailable, BEFORE, BEFORE)
    one = SampledStorage(store, truth, 1.0, clock)  # type: ignore[arg-type]  # no more is needed
    assert [one.collection_times(1) for _ in range(2)] == [BEFORE] * 2
    assert len(truth.answers) == 2
    assert one.compared == 0
    clock.step(31)
    one.collection_times(1)
    assert one.compared == 1


# -- under load


def test_nothing_is_wrong_under_load(sampled: SampledStorage, store: CachedStore, user: int) -> None:
    stop = threading.Event()
    faults: list[Exception] = []

    def write(collection: str) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                with sampled.lock_for_write(user, collection, ["a"], create=True) as work:
                    if turn % 5:
                        work.put([Change("a", str(turn))])
                    else:
                        work.delete_collection()
            except Conflict:
                continue
            except Exception as error:
                faults.append(error)
                return

    writers = [threading.Thread(target=write, args=[name]) for name in ("bookmarks", "meta", "tabs")]
    for writer in writers:
        writer.start()
    try:
        for _ in range(25):
            try:
                read_all(sampled, user)
            except Conflict:
                continue
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert faults == []
    assert sampled.compared > 100
    assert sampled.disagreements == 0
