"""The record of a lock: whom it admits, and that its bytes are read back or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.locks.api import Mode
from syncstore.locks.leases import Lease, Record, decode, encode

A, B, C = (Lease(owner, 1000 * owner) for owner in (1, 2, 3))

leases = st.builds(Lease, st.integers(0, 2**64 - 1), st.integers(0, 2**50))
records = st.builds(
    Record, st.integers(0, 2**50), st.none() | leases, st.none() | leases, st.lists(leases).map(tuple)
)


@given(records)
def test_a_record_is_read_back_from_its_bytes(record: Record) -> None:
    assert decode(encode(record)) == record


@given(records, st.data())
def test_a_record_that_was_cut_or_lengthened_is_none(record: Record, data: st.DataObject) -> None:
    value = encode(record)
    assert decode(value[: data.draw(st.integers(0, len(value) - 1))]) is None
    assert decode(value + data.draw(st.binary(min_size=1))) is None


@given(st.binary())
def test_other_values_are_none(value: bytes) -> None:
    assert decode(value) is None


FOREIGN = {
    "a placeholder": b"",
    "another value": b"\x00\x01\x02",
    "a version to come": b"L\x02" + encode(Record(1, A))[2:],
    "a field to come": b"L\x01\x95\x00\xc0\xc0\x90\x00",
    "a count that nobody could exceed": b"L\x01\x94\xcf" + b"\xff" * 8 + b"\xc0\xc0\x90",
    "a lease without an end": b"L\x01\x94\x00\x91\x01\xc0\x90",
}


@pytest.mark.parametrize("value", FOREIGN.values(), ids=FOREIGN)
def test_what_cannot_be_a_record_is_none(value: bytes) -> None:
    assert decode(value) is None


def test_a_record_of_one_owner_is_small() -> None:
    assert len(encode(Record(2**41, Lease(2**64 - 1, 2**41)))) <= 40


ADMITTED: list[tuple[Record, bool, bool]] = [
    (Record(), True, True),
    (Record(writer=A), False, False),
    (Record(readers=(A,)), True, False),
    (Record(readers=(A, B), waiting=C), False, False),
    (Record(waiting=C), False, True),
]


@pytest.mark.parametrize(("record", "reader", "writer"), ADMITTED)
def test_it_admits(record: Record, reader: bool, writer: bool) -> None:
    assert (record.admits("read"), record.admits("write")) == (reader, writer)


@pytest.mark.parametrize("mode", ["read", "write"])
def test_whoever_is_granted_holds_it_and_can_be_taken_out_again(mode: Mode) -> None:
    granted = Record(5).granted(mode, A, at_least=0)
    assert granted.holds(1)
    assert not granted.holds(2)
    assert granted.without(1) == Record(6)


def test_a_reader_joins_those_who_are_there() -> None:
    assert Record(readers=(A,)).granted("read", B, at_least=0).readers == (A, B)


@pytest.mark.parametrize("waiting", [A, B])
def test_a_writer_stands_alone_whoever_waited(waiting: Lease) -> None:
    assert Record(readers=(C,)).awaited(waiting).without(3).granted("write", A, at_least=0).leases == [A]


def test_the_generation_grows_and_is_at_least_what_is_asked() -> None:
    assert Record(7).granted("write", A, at_least=3).generation == 8
    assert Record(7).granted("write", A, at_least=30).generation == 30


def test_a_record_ends_with_its_last_lease() -> None:
    assert Record(3).until == 0
    assert Record(readers=(A, C), waiting=B).until == C.until
    assert Record(readers=(A, C), waiting=B).only(lambda lease: lease.until < C.until).until == B.until
