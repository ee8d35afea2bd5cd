"""Items in one value: the codec, and queries and changes that do what SQL does."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.bso import Change
from syncstore.storage.api import Position, Query
from syncstore.storage.durable import StoredItem
from syncstore.storage.layered import contents
from syncstore.storage.layered.contents import Contents
from syncstore.testing.storage_conformance.model import Model

ids = st.sampled_from(["a", "b", "B", "~", "c d"])
payloads = st.none() | st.sampled_from(["", "x", "\u2603", "\0"])
changes = st.builds(Change, ids, payloads, st.none() | st.integers(-3, 3), st.none() | st.integers(0, 3))
uploads = st.lists(changes, max_size=4, unique_by=lambda change: change.id)


def applied(history: list[list[Change]]) -> tuple[Model, list[StoredItem], int]:
    """The same uploads in the model of the conformance suite and here, one each second."""
    model, items, time = Model(), list[StoredItem](), 100
    for upload in history:
        time += 100
        model.put("col", upload, time)
        items = contents.changed(items, upload, time)
    return model, items, time


@given(st.lists(uploads, min_size=1, max_size=6), st.integers(0, 5000))
def test_uploads_make_the_items_that_the_rules_say(history: list[list[Change]], later: int) -> None:
    model, items, time = applied(history)
    now = time * 10 + later
    assert sorted(map(contents.bso, contents.live(items, now)), key=lambda item: item.id) == sorted(
        model.live("col", now), key=lambda item: item.id
    )
    assert contents.size(contents.live(items, now)) == model.usage(now).get("col", 0)


@given(uploads, uploads, uploads)
def test_a_batch_is_merged_field_by_field(
    before: list[Change], staged: list[Change], last: list[Change]
) -> None:
    model, items, time = applied([before])
    model.batches["id"] = ("col", staged)
    model.commit("id", last, time + 50)
    together = contents.merged(contents.merged({}, staged), last).values()
    items = contents.changed(items, together, time + 50, all_at=True)
    now = (time + 50) * 10
    assert sorted(map(contents.bso, contents.live(items, now)), key=lambda item: item.id) == sorted(
        model.live("col", now), key=lambda item: item.id
    )


queries = st.builds(
    Query,
    st.none() | st.lists(ids, max_size=3).map(tuple),
    st.none() | st.integers(100, 800),
    st.none() | st.integers(100, 800),
    st.sampled_from(["newest", "oldest", "index"]),
    full=st.booleans(),
)


@given(st.lists(uploads, min_size=1, max_size=6), queries, st.integers(1, 4))
def test_pages_put_together_are_the_whole_answer(
    history: list[list[Change]], query: Query, limit: int
) -> None:
    model, items, time = applied(history)
    now = time * 10
    expected = model.find("col", query, now)
    pieces: list[object] = []
    after: Position | None = None
    for _ in range(10):
        page = contents.page(time, items, msgspec.structs.replace(query, limit=limit, after=after), now)
        pieces += [*page.items, *page.ids]
        assert len(page.items) + len(page.ids) <= limit
        after = page.next
        if after is None:
            break
    assert pieces == (expected if query.full else [item.id for item in expected])


def test_what_is_encoded_is_decoded() -> None:
    items = [StoredItem("a", 5, "x\0\u2603", None, None), StoredItem("b", 6, "", -3, 10**15)]
    assert contents.decode(contents.encode(Contents(7, items))) == Contents(7, items)
    assert contents.decode(contents.encode(Contents(7, None))) == Contents(7, None)


@pytest.mark.parametrize(
    "value", [b"", b"[1,2]", b"\x93\x02\x07\x90", b"\xff" * 9, contents.encode(Contents(7, []))[:-1]]
)
def test_what_is_not_ours_is_not_there(value: bytes) -> None:
    assert contents.decode(value) is None


def test_a_deletion_takes_expired_items_along() -> None:
    items = [StoredItem("a", 5, "x"), StoredItem("b", 5, "x"), StoredItem("dead", 5, "x", None, 60)]
    assert [item.id for item in contents.without(items, ["a", "z"], 7)] == ["b"]
