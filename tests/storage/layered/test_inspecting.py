"""What operators are shown of the cache, where it disagrees with SQL, and what clearing it does to clients."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from syncstore.cache.api import NotFound, Remove
from syncstore.errors import Conflict, Unavailable
from syncstore.storage.durable import Being, KeptTime, StoredItem
from syncstore.storage.layered import contents
from syncstore.storage.layered.cached_only import cached_only_key
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.inspecting import CopySeen, EntrySeen, ItemsSeen
from syncstore.storage.layered.metadata import record_key
from syncstore.storage.layered.record import record
from syncstore.storage.layered.sql_backed import copy_key
from syncstore.storage.sql import migrate
from syncstore.testing.cached_store import CachedStore, open_cached_store
from syncstore.testing.servers import MemcachedServer

_users = itertools.count(1)
SECRET = "what-only-the-user-may-read"


@pytest.fixture(scope="module")
def store(database_url: str, memcached_server: MemcachedServer) -> Iterator[CachedStore]:
    migrate.upgrade(database_url)
    with open_cached_store(database_url, memcached_server.address) as opened:
        yield opened


@pytest.fixture
def uid() -> int:
    return next(_users)


@pytest.fixture
def user(store: CachedStore, uid: int) -> int:
    """A user with a collection of each kind, all of which the cache knows."""
    store.put(uid, "bookmarks", "a", "b")
    store.put(uid, "meta", "global", payload=SECRET)
    store.put(uid, "tabs", "phone", "desk", payload=SECRET)
    store.warm(uid)
    return uid


def told(store: CachedStore, uid: int) -> list[str]:
    return [str(one) for one in store.verifier.differences(uid)]


# -- reading


def test_everything_that_is_cached_is_reported_and_no_payload(store: CachedStore, user: int) -> None:
    report = store.inspector.report(user)
    times = store.storage.collection_times(user)
    at = times.collections
    assert report.trusted
    assert report.record is not None
    assert (report.record.complete, report.record.storage) == (True, times.modified)
    assert list(report.record.collections) == [
        EntrySeen(name, "clean", at[name]) for name in ("bookmarks", "meta", "tabs")
    ]
    assert list(report.copies) == [CopySeen("meta", at["meta"], 1, len(SECRET), believed=True)]
    assert list(report.cached_only) == [
        ItemsSeen("tabs", "agrees", at["tabs"], 2, 2 * len(SECRET), at["tabs"])
    ]
    assert SECRET not in repr(report)


def test_of_a_user_whom_nobody_knows_nothing_is_reported_nor_made(store: CachedStore, uid: int) -> None:
    report = store.inspector.report(uid)
    assert (report.record, list(report.copies), list(report.cached_only)) == (None, [], [])
    assert told(store, uid) == []
    assert uid not in set(store.below.storage.users())
    with pytest.raises(NotFound):
        store.cache.retrieve(record_key(store.epoch, uid))


def test_a_mark_is_reported_as_what_it_is(store: CachedStore, user: int) -> None:
    before = store.record(user)
    store.plant(user, before.marked("bookmarks", b"12345678").marked("meta", b"87654321"))
    report = store.inspector.report(user)
    assert report.record is not None
    assert [entry.state for entry in report.record.collections] == ["dirty", "dirty", "clean"]
    assert [copy.believed for copy in report.copies] == [False]


def test_items_without_their_time_are_reported_as_what_they_are(store: CachedStore, user: int) -> None:
    time = store.record(user).entry("tabs")
    assert isinstance(time, int)
    key = cached_only_key(user, "tabs")

    def state() -> str:
        (seen,) = store.inspector.report(user).cached_only
        return seen.state

    for other, name in ((time + 1, "newer"), (time - 1, "older")):
        store.cache.store(key, contents.encode(Contents(other, ())))
        assert state() == name
    store.cache.remove(key)
    assert state() == "missing"
    store.read(user, "tabs")
    assert state() == "lost"
    report = store.inspector.report(user)
    assert report.record is not None
    assert [entry.state for entry in report.record.collections] == ["clean", "clean", "lost"]


def test_what_a_deletion_left_behind_is_of_no_use(store: CachedStore, user: int) -> None:
    left = store.cache.retrieve(cached_only_key(user, "tabs")).value
    with store.storage.lock_for_write(user, "tabs") as work:
        work.delete_collection()
    store.cache.store(cached_only_key(user, "tabs"), left)
    (seen,) = store.inspector.report(user).cached_only
    assert (seen.state, seen.items, seen.kept) == ("unused", 2, None)
    assert told(store, user) == []


def test_looking_changes_nothing(store: CachedStore, user: int) -> None:
    key = record_key(store.epoch, user)
    before = store.cache.retrieve(key).token
    store.inspector.report(user)
    store.verifier.differences(user)
    assert store.cache.retrieve(key).token == before


# -- verifying


def test_nothing_is_wrong_with_what_was_written_and_read(store: CachedStore, user: int) -> None:
    assert told(store, user) == []
    with store.storage.lock_for_write(user, "bookmarks") as work:
        work.delete_collection()
    assert told(store, user) == []
    store.put(user, "meta", "global", "more")
    store.warm(user)
    assert told(store, user) == []
    with store.storage.lock_for_write(user, None) as work:
        work.delete_all()
    store.warm(user)
    assert told(store, user) == []


def test_items_that_expire_are_no_disagreement(store: CachedStore, uid: int) -> None:
    from syncstore.bso import Change

    for name in ("meta", "tabs"):
        with store.storage.lock_for_write(uid, name, ["a", "b", "c"], create=True) as work:
            work.put([Change("a", "x", ttl=0), Change("b", "y", sortindex=-3), Change("c", "é", ttl=9)])
    store.warm(uid)
    assert told(store, uid) == []
    for _ in store.below.purge().steps():
        pass
    assert told(store, uid) == []


def test_a_wrong_time_in_the_record_is_found(store: CachedStore, user: int) -> None:
    before = store.record(user)
    at = store.storage.collection_times(user)
    wrong = before.entries | {"bookmarks": at.collections["bookmarks"] - 5}
    store.plant(user, record(complete=True, storage=before.storage, entries=wrong))
    (line,) = told(store, user)
    assert line.startswith(f"user {user}, bookmarks: the record says 1")
    assert ", SQL says 1" in line


def test_a_collection_that_the_record_has_forgotten_or_made_up_is_found(
    store: CachedStore, user: int
) -> None:
    before = store.record(user)
    entries = before.entries
    del entries["bookmarks"]
    store.plant(user, record(complete=True, storage=before.storage, entries=entries | {"forms": 5}))
    lines = told(store, user)
    assert [line.partition(": ")[2].partition(", SQL")[0] for line in lines] == [
        "the record says that it does not exist",
        "the record says 0.05",
    ]


def test_an_incomplete_record_may_leave_out_what_it_likes(store: CachedStore, user: int) -> None:
    time = store.storage.collection_times(user).collections["meta"]
    store.plant(user, record(complete=False, storage=None, entries={"meta": time, "forms": b"12345678"}))
    assert told(store, user) == []


@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_time_of_the_storage_is_found(store: CachedStore, user: int, off: int) -> None:
    before = store.record(user)
    assert before.storage is not None
    store.plant(user, record(complete=True, storage=before.storage + off, entries=before.entries))
    (line,) = told(store, user)
    assert line.startswith(f"user {user}: the record has the storage's time")


def test_a_dirty_record_may_be_behind_but_never_ahead(store: CachedStore, user: int) -> None:
    before = store.record(user)
    assert before.storage is not None
    entries = before.entries | {"forms": b"12345678"}
    store.plant(user, record(complete=True, storage=before.storage - 1, entries=entries))
    assert told(store, user) == []
    store.plant(user, record(complete=True, storage=before.storage + 1, entries=entries))
    assert len(told(store, user)) == 1


def test_a_wrong_copy_is_found_if_anybody_would_believe_it(store: CachedStore, user: int) -> None:
    time = store.storage.collection_times(user).collections["meta"]
    key = copy_key(store.epoch, user, "meta")
    other = StoredItem("global", time, "something else")
    store.cache.store(key, contents.encode(Contents(time, [other])))
    (line,) = told(store, user)
    assert "the copy of" in line
    assert "is wrong in 1 items" in line
    assert "something" not in line
    store.cache.store(key, contents.encode(Contents(time - 1, [other])))
    assert told(store, user) == []
    store.cache.store(key, contents.encode(Contents(time + 10**6, [other])))
    (line,) = told(store, user)
    assert "SQL's last write of all was at" in line
    store.cache.store(key, contents.encode(Contents(time, None)))
    assert told(store, user) == [], "too large for a copy"


def test_items_that_are_older_than_their_time_are_found(store: CachedStore, user: int) -> None:
    time = store.record(user).entry("tabs")
    assert isinstance(time, int)
    key = cached_only_key(user, "tabs")
    store.cache.store(key, contents.encode(Contents(time - 1, ())))
    (line,) = told(store, user)
    assert "they will count as lost" in line
    store.cache.store(key, contents.encode(Contents(time, ())))
    (line,) = told(store, user)
    assert "the cache has 0 items of 0 bytes, SQL counts 2 of" in line
    store.cache.store(key, contents.encode(Contents(time + 1, ())))
    assert told(store, user) == [], "a writer may be about to commit"
    store.cache.remove(key)
    assert told(store, user) == [], "what is missing is no lie"


def test_what_is_out_of_use_is_not_compared(store: CachedStore, user: int) -> None:
    before = store.record(user)
    store.plant(user, record(complete=True, storage=5, entries={}))
    assert len(told(store, user)) > 1
    store.state.declare_failed(store.epoch, "by the test")
    try:
        assert told(store, user) == []
        assert not store.inspector.report(user).trusted
    finally:
        store.state.probe(store.cache)
        store.clock.sleep(store.state.wait)
        assert store.state.probe(store.cache)
    assert before.complete


def test_a_user_who_is_being_written_is_no_disagreement(
    store: CachedStore, database_url: str, memcached_server: MemcachedServer, user: int
) -> None:
    stop = threading.Event()
    faults: list[Exception] = []

    def write(collection: str) -> None:
        try:
            while not stop.is_set():
                store.put(user, collection, "a")
                store.warm(user)
        except Conflict:
            pass
        except Exception as error:
            faults.append(error)

    writers = [threading.Thread(target=write, args=[name]) for name in ("bookmarks", "meta", "tabs")]
    for writer in writers:
        writer.start()
    try:
        seen = [line for _ in range(60) for line in told(store, user)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert seen == []
    assert faults == []


def test_a_user_who_never_stands_still_is_looked_at_alone(
    store: CachedStore, user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector, below = store.inspector, store.below.storage
    locked = 0
    plain = below.times
    monkeypatch.setattr(type(below), "times", lambda self, uid: _moving(plain(uid)))
    original = type(below).lock_for_write

    def counted(*words: object, **more: object) -> object:
        nonlocal locked
        locked += 1
        return original(*words, **more)  # type: ignore[arg-type]  # whatever it was called with

    monkeypatch.setattr(type(below), "lock_for_write", counted)
    inspector.view(user)
    assert locked == 1


_moves = itertools.count()


def _moving(times: object) -> object:
    import msgspec

    return msgspec.structs.replace(times, modified=next(_moves))  # type: ignore[type-var]  # a struct


def test_a_cache_that_is_away_is_an_outage_and_no_miss(database_url: str, store: CachedStore) -> None:
    from syncstore.testing.processes import free_port

    with open_cached_store(database_url, f"127.0.0.1:{free_port()}") as away:
        with pytest.raises(Unavailable, match="the cache does not answer"):
            away.inspector.report(1)
        assert away.clearing.forget(1) == 0, "no request has ever used it"
        assert away.state.trusted()
        with pytest.raises(Unavailable):
            away.clearing.forget(1)


# -- clearing


def test_a_record_and_copies_are_forgotten_and_nobody_notices(store: CachedStore, user: int) -> None:
    before = store.storage.collection_times(user), store.read(user, "meta"), store.read(user, "tabs")
    assert store.clearing.forget(user) == 2
    report = store.inspector.report(user)
    assert (report.record, list(report.copies)) == (None, [])
    assert [seen.state for seen in report.cached_only] == ["agrees"]
    assert (
        store.storage.collection_times(user),
        store.read(user, "meta"),
        store.read(user, "tabs"),
    ) == before
    assert store.clearing.forget(user) in (1, 2)


def test_what_a_clearing_would_destroy_is_known_before(store: CachedStore, user: int) -> None:
    time = store.storage.collection_times(user).collections["tabs"]
    stake = store.clearing.at_stake(user)
    assert stake == {"tabs": KeptTime(time, Being.LIVE, 2, 2 * len(SECRET))}
    assert store.clearing.at_stake(next(_users)) == {}


def test_clients_see_that_a_collection_was_destroyed(store: CachedStore, user: int) -> None:
    before = store.storage.collection_times(user)
    kept = store.clearing.lose(user, "tabs")
    assert kept is not None
    assert kept.items == 2
    after = store.storage.collection_times(user)
    assert after.modified > before.modified
    assert "tabs" not in after.collections
    with pytest.raises(NotFound):
        store.cache.retrieve(cached_only_key(user, "tabs"))
    page = store.read(user, "tabs")
    assert list(page.items) == []
    assert page.modified == after.modified == store.storage.collection_modified(user, "tabs")
    assert told(store, user) == []
    time = store.put(user, "tabs", "phone")
    assert time > after.modified
    assert [item.id for item in store.read(user, "tabs").items] == ["phone"]
    assert told(store, user) == []


def test_to_destroy_what_is_not_there_changes_nothing(store: CachedStore, user: int) -> None:
    store.clearing.lose(user, "tabs")
    before = store.storage.collection_times(user)
    assert store.clearing.lose(user, "tabs") is None
    assert store.storage.collection_times(user) == before


def test_what_a_dying_writer_left_is_destroyed_with_the_rest(store: CachedStore, user: int) -> None:
    time = store.record(user).entry("tabs")
    assert isinstance(time, int)
    ahead = time + 3000
    store.cache.store(cached_only_key(user, "tabs"), contents.encode(Contents(ahead, ())))
    store.clearing.lose(user, "tabs")
    assert store.read(user, "tabs").modified > ahead


def test_a_collection_can_be_destroyed_while_the_cache_is_out_of_use(store: CachedStore, user: int) -> None:
    before = store.storage.collection_times(user)
    store.state.declare_failed(store.epoch, "by the test")
    try:
        assert store.clearing.forget(user) == 0
        assert store.clearing.lose(user, "tabs") is not None
        assert store.below.storage.times(user).kept["tabs"].being is Being.LOST
        assert store.storage.collection_times(user).modified > before.modified
    finally:
        assert store.state.probe(store.cache)
    store.warm(user)
    assert told(store, user) == []


def test_a_removal_does_not_take_what_a_writer_has_stored_since(store: CachedStore, user: int) -> None:
    # The removal that follows the commit is bound to what was there before.
    key = cached_only_key(user, "tabs")
    old = store.cache.retrieve(key).token
    store.clearing.lose(user, "tabs")
    store.put(user, "tabs", "phone")
    store.cache.change_later([Remove(key, old)])
    assert len(store.read(user, "tabs").items) == 1


# -- forgetting all


def test_all_is_forgotten_at_once_but_what_lives_in_the_cache_alone(store: CachedStore, user: int) -> None:
    before = store.storage.collection_times(user), store.read(user, "tabs")
    store.plant(user, record(complete=True, storage=5, entries={}))
    store.state.forget_all()
    with pytest.raises(Unavailable):
        store.put(user, "bookmarks", "c")
    store.clock.sleep(store.state.wait)
    assert store.state.probe(store.cache)
    assert (store.storage.collection_times(user), store.read(user, "tabs")) == before
