"""The check of histories finds each kind of fault, and finds none in a right history."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from syncstore.testing.history import (
    Answered,
    Exchange,
    Op,
    Recorder,
    Sent,
    payload_of,
    problems,
    read_history,
    tag_of,
)

_clock = itertools.count(1)


def exchange(
    op: Op,
    status: int | None = 200,
    time: int | None = None,
    *,
    tags: dict[str, str] | None = None,
    gone: list[str] | None = None,
    items: dict[str, tuple[int, str]] | None = None,
    unless: int | None = None,
    newer: int | None = None,
    began: float | None = None,
) -> Exchange:
    """An exchange that comes after those made before it, unless it `began` earlier."""
    number = next(_clock)
    at = number if began is None else began
    sent = Sent(number, at, 1, op, "col", tags or {}, gone or [], unless, newer)
    answer = None if status is None else Answered(number, number + 0.5, status, time, items or {})
    return Exchange(sent, answer)


def put(tag: str, time: int | None, status: int | None = 200, *, unless: int | None = None) -> Exchange:
    return exchange("put", status, time, tags={"a": tag}, unless=unless)


def read(time: int, items: dict[str, tuple[int, str]], *, newer: int | None = None) -> Exchange:
    return exchange("read", 200, time, items=items, newer=newer)


def test_a_right_history_has_no_problems() -> None:
    assert problems([put("x", 5), put("y", 6), read(6, {"a": (6, "y")})]) == []
    assert problems([put("x", 5), put("y", 6), read(6, {}, newer=6)]) == []
    assert problems([put("x", 5), exchange("delete items", 200, 7, gone=["a"]), read(7, {})]) == []
    assert problems([put("x", 5), exchange("delete collection", 200, 7), read(0, {})]) == []
    assert problems([exchange("delete collection", 200, 0), read(0, {})]) == []


def test_a_write_without_an_answer_may_have_happened_or_not() -> None:
    for unclear in (put("y", None, None), put("y", None, 503)):
        assert problems([put("x", 5), unclear, read(5, {"a": (5, "x")})]) == []
        assert problems([put("x", 5), unclear, read(6, {"a": (6, "y")})]) == []
    assert problems([put("x", 5), exchange("delete items", None, gone=["a"]), read(7, {})]) == []


def test_a_503_promises_that_nothing_happened_when_it_says_so() -> None:
    history = [put("x", 5), put("y", None, 503), read(6, {"a": (6, "y")})]

    assert len(problems(history, refused_may_count=False)) >= 1


@pytest.mark.parametrize(
    ("history", "word"),
    [
        ([put("x", None, 500)], "500"),
        ([put("x", 5), put("y", 5)], "one time"),
        ([put("x", 5), put("y", 4)], "before it began"),
        ([put("x", 5), read(5, {})], "lacks"),
        ([put("x", 5), put("y", 6), read(6, {"a": (5, "x")})], "and not as"),
        ([put("x", 5), put("y", 6), read(5, {"a": (5, "x")})], "before it began"),
        ([put("x", 5), read(4, {"a": (5, "x")})], "has a"),
        ([put("x", 5), read(5, {"a": (5, "x")}, newer=5)], "has a"),
        ([put("x", 5), put("y", 7), read(7, {}, newer=6)], "lacks"),
        ([put("x", 5), read(6, {"a": (6, "x")})], "acknowledged"),
        ([put("x", 5), read(6, {"a": (6, "foreign")})], "never sent"),
        ([put("x", 5), put("y", 0, 412, unless=9)], "412"),
        ([put("x", 5), put("y", 6, 412, unless=4), read(6, {"a": (6, "y")})], "yet stored"),
        ([put("x", 5), put("y", 6), put("z", 7, unless=5)], "precondition"),
        ([put("x", 5), exchange("delete items", 200, 7, gone=["a"]), read(7, {"a": (5, "x")})], "and not as"),
        ([put("x", 5), read(0, {})], "finds no collection"),
        ([put("x", 5), exchange("follow", 200, 5, newer=0), read(5, {"a": (5, "x")})], "follower"),
    ],
)
def test_a_fault_is_found(history: list[Exchange], word: str) -> None:
    assert word in "\n".join(problems(history))


def test_a_write_that_happened_in_part_is_found() -> None:
    """Though nobody answered it: one of its items was seen, so the other must be there, at the same time."""
    unclear = exchange("commit", None, tags={"a": "x", "b": "y"})

    assert problems([unclear, read(5, {"a": (5, "x"), "b": (5, "y")})]) == []
    assert "lacks b" in problems([unclear, read(5, {"a": (5, "x")})])[0]
    assert "different times" in problems([unclear, read(6, {"a": (5, "x"), "b": (6, "y")})])[0]


def test_records_survive_the_death_of_their_writer(tmp_path: Path) -> None:
    path = tmp_path / "one.history"
    recorder = Recorder(path)
    recorder.write(Sent(1, 1.0, 7, "put", "col", {"a": "x"}))
    recorder.write(Answered(1, 2.0, 200, 5))
    recorder.write(Sent(2, 3.0, 7, "put", "col", {"a": "y"}))
    path.write_bytes(path.read_bytes() + b'{"type": "answered", "num')

    first, second = read_history([path])

    assert (first.status, first.seconds, second.answer) == (200, 1.0, None)


def test_a_tag_stands_for_one_payload() -> None:
    assert tag_of(payload_of("w-1-300")) == "w-1-300"
    assert len(payload_of("w-1-300")) == 307
    assert tag_of(payload_of("w-1-300")[:-1]) != "w-1-300"
