"""The codec of the metadata record: small, exact, and deaf to what is not its own."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.storage.durable import Being, KeptTime, Times
from syncstore.storage.layered.record import EMPTY, Record, decode, encode, record_of

KINDS = 77
names = st.text("abcXYZ019._-", min_size=1, max_size=32) | st.sampled_from(
    ["clients", "tabs", "meta", "forms"]
)
ticks = st.integers(0, 10**13)
entries = st.one_of(
    ticks,
    st.binary(min_size=8, max_size=8),
    st.builds(KeptTime, ticks, st.sampled_from([Being.DELETED, Being.LOST])),
)
records = st.builds(Record, st.booleans(), st.none() | ticks, st.dictionaries(names, entries, max_size=20))


@given(records)
def test_what_is_encoded_is_decoded(record: Record) -> None:
    assert decode(encode(record, KINDS), KINDS) == record


def test_thirteen_collections_take_less_than_a_hundred_bytes() -> None:
    now = 179_400_000_000
    standard = (
        *("clients", "crypto", "forms", "history", "keys", "meta", "bookmarks", "prefs", "tabs", "passwords"),
        *("addons", "addresses", "creditcards"),
    )
    times = Times(now, {name: now - i * 100_000_000 for i, name in enumerate(standard)}, {})
    assert len(encode(record_of(times, ()), KINDS)) < 100


@given(records, st.data())
def test_a_truncated_value_is_nothing_known(record: Record, data: st.DataObject) -> None:
    value = encode(record, KINDS)
    assert decode(value[: data.draw(st.integers(0, len(value) - 1))], KINDS) == EMPTY


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"true",
        b"\xff" * 40,
        b'{"modified": null}',
        msgspec.msgpack.encode([2, KINDS, True, 5, {}]),
        msgspec.msgpack.encode([1, KINDS, True, 5, {99: 1}]),
        msgspec.msgpack.encode([1, KINDS, True, 5, {-1: 1}]),
        msgspec.msgpack.encode([1, KINDS, True, 5, {"a": [1, 9]}]),
        msgspec.msgpack.encode([1, KINDS, True, 5, {"a": "x"}]),
        msgspec.msgpack.encode([1, KINDS, True]),
        encode(Record(True, 5, {}), KINDS) + b"\0",
        encode(Record(True, 5, {}), KINDS + 1),
    ],
    ids=[
        *("placeholder", "text", "noise", "json", "newer version", "newer name", "negative name", "newer being"),
        *("no time", "short", "long", "other configuration"),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_nothing_known(value: bytes) -> None:
    assert decode(value, KINDS) == EMPTY


# -- what a record tells


def test_all_times_are_known_only_of_a_complete_record_without_marks() -> None:
    clean = Record(True, 9, {"a": 5, "tabs": KeptTime(7, Being.LOST)})
    assert clean.times() == Times(9, {"a": 5}, {"tabs": KeptTime(7, Being.LOST)})
    assert clean.marked("b", b"12345678").times() is None
    assert Record(False, 9, {"a": 5}).times() is None
    assert EMPTY.times() is None


def test_a_mark_replaces_whatever_stood_there_and_nothing_else() -> None:
    record = Record(True, 9, {"a": b"foreign!", "b": 5})
    assert record.marked("a", b"my own m") == Record(True, 9, {"a": b"my own m", "b": 5})


@pytest.mark.parametrize(("known", "time", "after"), [(None, 7, 7), (9, 7, 9), (9, 12, 12)])
def test_a_publication_never_takes_the_storage_s_time_back(known: int | None, time: int, after: int) -> None:
    assert Record(False, known, {"a": b"my own m"}).published("a", time, time) == Record(
        False, after, {"a": time}
    )


def test_a_deletion_is_published_as_no_entry() -> None:
    assert Record(True, 5, {"a": b"my own m", "b": 5}).published("a", None, 8) == Record(True, 8, {"b": 5})


def test_a_cached_only_collection_has_the_time_that_is_kept_and_no_other() -> None:
    times = Times(
        9,
        {"a": 1, "tabs": 2, "old": 3},
        {"tabs": KeptTime(8), "gone": KeptTime(9, Being.DELETED), "a": KeptTime(4)},
    )
    assert record_of(times, ["tabs", "gone", "old"]).entries == {
        "a": 1,
        "tabs": 8,
        "gone": KeptTime(9, Being.DELETED),
    }
