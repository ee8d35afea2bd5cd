"""The codec of the metadata record: small, exact, and deaf to what is not its own."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.storage.durable import Being, KeptTime, Times
from syncstore.storage.layered.record import EMPTY, Codec, Entry, Record, record, record_of

CODEC = Codec(77)
HEADER = b"\1\0\0\0\x4d"


def known(complete: bool, storage: int | None, entries: Mapping[str, Entry]) -> Record:
    return record(complete=complete, storage=storage, entries=entries)


names = st.text("abcXYZ019._-", min_size=1, max_size=32) | st.sampled_from(
    ["clients", "tabs", "meta", "forms"]
)
ticks = st.integers(0, 10**13)
entries = st.one_of(
    ticks,
    st.binary(min_size=8, max_size=8),
    st.builds(KeptTime, ticks, st.sampled_from([Being.DELETED, Being.LOST])),
)
records = st.builds(known, st.booleans(), st.none() | ticks, st.dictionaries(names, entries, max_size=20))


@given(records)
def test_what_is_encoded_is_decoded(one: Record) -> None:
    assert CODEC.decode(CODEC.encode(one)) == one


def test_thirteen_collections_take_less_than_a_hundred_bytes() -> None:
    now = 179_400_000_000
    standard = (
        *("clients", "crypto", "forms", "history", "keys", "meta", "bookmarks", "prefs", "tabs", "passwords"),
        *("addons", "addresses", "creditcards"),
    )
    times = Times(now, {name: now - i * 100_000_000 for i, name in enumerate(standard)}, {})
    assert len(CODEC.encode(record_of(times, ()))) < 100


@given(records, st.data())
def test_a_truncated_value_is_nothing_known(one: Record, data: st.DataObject) -> None:
    value = CODEC.encode(one)
    assert CODEC.decode(value[: data.draw(st.integers(0, len(value) - 1))]) == EMPTY


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"true",
        b"\xff" * 40,
        b'{"modified": null}',
        b"\2" + HEADER[1:] + msgspec.msgpack.encode([True, 5, 0, {}]),
        HEADER + msgspec.msgpack.encode([True, 5, 0, {99: 1}]),
        HEADER + msgspec.msgpack.encode([True, 5, 0, {-1: 1}]),
        HEADER + msgspec.msgpack.encode([True, 5, 0, {"a": [1, 9]}]),
        HEADER + msgspec.msgpack.encode([True, 5, 0, {"a": "x"}]),
        HEADER + msgspec.msgpack.encode([True]),
        CODEC.encode(known(True, 5, {})) + b"\0",
        Codec(78).encode(known(True, 5, {})),
    ],
    ids=[
        *("placeholder", "text", "noise", "json", "newer version", "newer name", "negative name", "newer being"),
        *("no time", "short", "long", "other configuration"),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_nothing_known(value: bytes) -> None:
    assert CODEC.decode(value) == EMPTY


# -- what a record tells


def test_all_times_are_known_only_of_a_complete_record_without_marks() -> None:
    clean = known(True, 9, {"a": 5, "tabs": KeptTime(7, Being.LOST)})
    assert clean.times() == Times(9, {"a": 5}, {"tabs": KeptTime(7, Being.LOST)})
    assert clean.marked("b", b"12345678").times() is None
    assert known(False, 9, {"a": 5}).times() is None
    assert EMPTY.times() is None


def test_a_mark_replaces_whatever_stood_there_and_nothing_else() -> None:
    before = known(True, 9, {"a": b"foreign!", "b": 5})
    assert before.marked("a", b"my own m") == known(True, 9, {"a": b"my own m", "b": 5})


@pytest.mark.parametrize(("before", "time", "after"), [(None, 7, 7), (9, 7, 9), (9, 12, 12)])
def test_a_publication_never_takes_the_storage_s_time_back(before: int | None, time: int, after: int) -> None:
    published = known(False, before, {"a": b"my own m"}).published("a", time, time)
    assert (published.storage, published.entries) == (after, {"a": time})


def test_a_deletion_is_published_as_no_entry() -> None:
    published = known(True, 5, {"a": b"my own m", "b": 5}).published("a", None, 8)
    assert published.times() == Times(8, {"b": 5}, {})


def test_what_was_published_survives_the_codec() -> None:
    published = known(True, 5, {"a": b"my own m", "b": 5, "c": b"another"}).published("a", 8, 8)
    assert CODEC.decode(CODEC.encode(published)).entries == {"a": 8, "b": 5, "c": b"another"}


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
