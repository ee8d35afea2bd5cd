"""Every statement that reaches a database carries its name, and there are few different texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import pytest

from syncstore.bso import Change
from syncstore.storage.api import Position, Query, Sort
from syncstore.storage.durable import Being, KeptTime
from syncstore.storage.sql.clauses import MAX_IDS
from syncstore.testing.sql_store import SqlStore

SORTS: tuple[Sort, ...] = ("newest", "oldest", "index")
NAMED = re.compile(
    r"/\* [a-z_]+ \*/ (SELECT|INSERT|UPDATE|DELETE|WITH)\b|(BEGIN|COMMIT|ROLLBACK|PRAGMA)\b", re.I
)


class Recorded:
    """What a dialect was asked to send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: SqlStore) -> None:
        self.texts: list[str] = []
        dialect = store.database.dialect
        fetch, execute, finish = dialect.fetch, dialect.execute, dialect.finish

        def recording_fetch(connection: Any, sql: str, parameters: Sequence[object]) -> Any:
            self.texts.append(sql)
            return fetch(connection, sql, parameters)

        def recording_execute(connection: Any, sql: str, parameters: Sequence[object]) -> Any:
            self.texts.append(sql)
            return execute(connection, sql, parameters)

        def recording_finish(connection: Any, writes: Any) -> None:
            self.texts += [write.sql for write in writes]
            finish(connection, writes)

        monkeypatch.setattr(dialect, "fetch", recording_fetch)
        monkeypatch.setattr(dialect, "execute", recording_execute)
        monkeypatch.setattr(dialect, "finish", recording_finish)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, store: SqlStore) -> Recorded:
    return Recorded(monkeypatch, store)


def do_everything(store: SqlStore, uid: int) -> None:
    """Every call of a storage, and a purge."""
    storage = store.storage

    def put(*changes: Change, collection: str = "col") -> None:
        with storage.lock_for_write(uid, collection, [change.id for change in changes], create=True) as work:
            work.put(changes)

    put(Change("a", "1"), Change("b", "\0", ttl=0))
    put(Change("a", sortindex=1))
    put(Change("a", "1"), collection=f"new-{uid}")
    with storage.lock_for_write(uid, "col", create=True) as work:
        batch = work.create_batch()
        work.append_to_batch(batch, [Change("a", "1"), Change("c", "1")])
    with storage.lock_for_write(uid, "col", create=True) as work:
        work.commit_batch(batch, [])
    with storage.lock_for_write(uid, "col", ["c"]) as work:
        work.delete_item("c")
    storage.collection_times(uid)
    storage.collection_counts(uid)
    storage.collection_usage(uid)
    storage.collection_modified(uid, "col")
    storage.item(uid, "col", "a")
    storage.check()
    with storage.lock_for_times(uid, "tabs") as work:
        work.epoch("server")
        work.keep_time("tabs", KeptTime(work.draw_time(), items=1, bytes=1))
    storage.times(uid)
    storage.sums(uid)
    storage.whole(uid, "col", 10**9)
    storage.records.advance(f"server-{uid}", storage.records.read([f"server-{uid}"])[0].epoch, 8, "new")
    storage.records.identity()
    storage.records.change_group(storage.records.group().number, f"group-{uid}")
    for _ in store.purge().steps():
        pass
    with storage.lock_for_write(uid, "col") as work:
        work.delete_collection()
    with storage.lock_for_write(uid, None) as work:
        work.delete_all()


def test_every_statement_has_its_name_in_front(store: SqlStore, recorded: Recorded) -> None:
    do_everything(store, 1)
    assert len(set(recorded.texts)) > 25
    assert [text for text in recorded.texts if not NAMED.match(text)] == []


def test_kept_times_cost_no_statement_of_their_own(store: SqlStore, recorded: Recorded) -> None:
    def names() -> list[str]:
        told = [text.split()[1] for text in recorded.texts]
        recorded.texts.clear()
        return told

    with store.storage.lock_for_write(7, "col", create=True) as work:
        work.put([])
    recorded.texts.clear()
    with store.storage.lock_for_times(7, "tabs") as work:
        assert work.kept == {}
        work.keep_time("tabs", KeptTime(work.draw_time(), items=1, bytes=1))
        assert recorded.texts == []  # beyond that which locked the row
    assert names() == ["set_times"]
    with store.storage.lock_for_write(7, "bookmarks", ["a"], create=True) as work:
        assert "tabs" in work.kept
        work.put([Change("a", "1")])
    assert names() == ["state", "put_items", "add_collection", "set_high_water"]
    with store.storage.lock_for_write(7, None) as work:
        work.keep_time("", KeptTime(work.delete_all(), Being.DELETED))
    assert names()[-1:] == ["set_times"]


def test_every_shape_of_a_listing_is_a_statement_that_runs(store: SqlStore, recorded: Recorded) -> None:
    with store.storage.lock_for_write(2, "col", ["a"], create=True) as work:
        work.put([Change("a", "1")])
    recorded.texts.clear()
    shapes = itertools.product(
        SORTS,
        (None, 1),
        (None, 10**12),
        (None, 5),
        (None, 1, "null"),
        (None, ("a",)),
        (0, 1),
    )
    for sort, newer, older, limit, after, ids, full in shapes:
        key = None if after == "null" else 1
        if key is None and sort != "index":
            continue
        position = None if after is None else Position(sort, key, "0")
        store.storage.find(2, "col", Query(ids, newer, older, sort, limit, position, bool(full)))
    assert all(text.startswith("/* find */ ") for text in recorded.texts)
    assert len(set(recorded.texts)) < 200


def test_the_number_of_texts_does_not_grow_with_the_number_of_ids(
    store: SqlStore, recorded: Recorded
) -> None:
    for count in range(1, 101):
        store.storage.find(3, "bookmarks", Query(ids=tuple(map(str, range(count)))))
    assert len(set(recorded.texts)) <= 4


def test_too_many_items_for_one_work_are_refused_before_it_begins(store: SqlStore) -> None:
    with pytest.raises(ValueError, match=str(MAX_IDS)):
        store.storage.lock_for_write(4, "col", [str(i) for i in range(MAX_IDS + 1)])


def test_the_largest_work_is_possible(store: SqlStore) -> None:
    ids = [str(i) for i in range(MAX_IDS)]
    for payload in ("1", "22"):
        with store.storage.lock_for_write(5, "col", ids, create=True) as work:
            work.put([Change(item, payload) for item in ids])
    assert store.storage.collection_usage(5).collections == {"col": 2 * MAX_IDS}
    with store.storage.lock_for_write(5, "col", ids) as work:
        work.delete_items(ids)
    assert store.storage.collection_counts(5).collections == {}


def test_the_name_of_a_collection_is_looked_up_once(store: SqlStore, recorded: Recorded) -> None:
    for _ in range(5):
        with store.storage.lock_for_write(6, "remembered", ["a"], create=True) as work:
            work.put([Change("a", "1")])
        store.storage.find(6, "remembered", Query())
        store.storage.collection_times(6)
    assert sum(text.startswith("/* collection_id */") for text in recorded.texts) <= 2
    assert sum(text.startswith("/* collection_name */") for text in recorded.texts) <= 1
