"""The check of histories finds each kind of fault, and finds none in a right history."""

from __future__ import annotations

import itertools

import pytest

from syncstore.testing.history import Answered, Exchange, Op, Sent, problems

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
    collection: str = "col",
    item: str = "",
    batch_at: float = 0.0,
) -> Exchange:
    """An exchange that comes after those made before it, unless it `began` earlier."""
    number = next(_clock)
    at = number if began is None else began
    sent = Sent(number, at, 1, op, collection, tags or {}, gone or [], unless, newer, item, batch_at)
    answer = None if status is None else Answered(number, number + 0.5, status, time, items or {})
    return Exchange(sent, answer)


def put(tag: str, time: int | None, status: int | None = 200, *, unless: int | None = None) -> Exchange:
    return exchange("put", status, time, tags={"a": tag}, unless=unless)


def read(time: int, items: dict[str, tuple[int, str]], *, newer: int | None = None) -> Exchange:
    return exchange("read", 200, time, items=items, newer=newer)


def item(time: int, tag: str) -> Exchange:
    return exchange("item", 200, time, item="a", items={"a": (time, tag)})


def missing() -> Exchange:
    return exchange("item", 404, item="a")


def info(storage: int, **times: int) -> Exchange:
    return exchange(
        "info", 200, storage, collection="", items={name: (time, "") for name, time in times.items()}
    )


def wipe(time: int | None, status: int | None = 200) -> Exchange:
    return exchange("delete everything", status, time, collection="")


def test_a_right_history_has_no_problems() -> None:
    assert problems([put("x", 5), put("y", 6), read(6, {"a": (6, "y")})]) == []
    assert problems([put("x", 5), put("y", 6), read(6, {}, newer=6)]) == []
    assert problems([put("x", 5), exchange("delete items", 200, 7, gone=["a"]), read(7, {})]) == []
    assert problems([put("x", 5), exchange("delete collection", 200, 7), read(0, {})]) == []
    assert problems([exchange("delete collection", 200, 0), read(0, {})]) == []
    assert (
        problems([missing(), put("x", 5), item(5, "x"), put("y", 6), item(6, "y"), wipe(7), missing()]) == []
    )
    assert problems([info(0), put("x", 5), info(5, col=5), info(9, col=5), wipe(10), info(10)]) == []
    assert (
        problems([put("x", 5), wipe(6), exchange("commit", 400, tags={"a": "y"}, began=1), read(0, {})]) == []
    )
    staged = exchange("stage", 202, tags={"a": "first"})
    replaced = [wipe(6), exchange("stage", 400, tags={"a": "second"}, batch_at=staged.sent.at), read(0, {})]
    assert problems([staged, *replaced]) == [], (
        "all that was staged was replaced, and everything deleted between"
    )


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
        ([put("x", 5), wipe(6), read(5, {"a": (5, "x")})], "before it began"),
        ([put("x", 5), wipe(6), put("y", 6)], "one time"),
        ([put("x", 5), read(6, {"a": (5, "x")})], "time of no write"),
        ([put("x", 5), put("y", 6), item(5, "x")], "though 6"),
        ([put("x", 5), missing()], "does not find"),
        ([put("x", 5), wipe(6), put("y", 7), missing()], "does not find"),
        ([put("x", 5), wipe(6), item(5, "x")], "though 6"),
        ([put("x", 5), item(6, "x")], "acknowledged"),
        ([put("x", 5), info(4)], "before it began"),
        ([put("x", 5), info(5)], "does not list"),
        ([put("x", 5), put("y", 6), info(6, col=5)], "and not of 6"),
        ([put("x", 5), exchange("delete items", 200, 6, gone=["a"]), info(6, col=5)], "and not of 6"),
        ([put("x", 5), wipe(6), info(6, col=5)], "and not of 6"),
        ([put("x", 5), info(6, col=6)], "time of no write"),
        ([put("x", 5), info(5, col=6)], "lists col of 6"),
        ([info(6), put("x", 5)], "before it began"),
        ([put("x", 5), exchange("stage", 400, tags={"a": "y"})], "400"),
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
