"""What lives in a cache alone may be lost: whole, when the cache lost it, at a time of its own, and never unsaid."""

from __future__ import annotations

import itertools

import pytest

from syncstore.testing.history import Answered, CacheLife, Exchange, Op, Sent, problems

_clock = itertools.count(1)
ONLY = frozenset({"tabs"})
ALWAYS = CacheLife(ONLY, [(0.0, 1e9)])
NEVER = CacheLife(ONLY)


def exchange(
    op: Op,
    status: int | None,
    time: int | None = None,
    *,
    tags: dict[str, str] | None = None,
    gone: list[str] | None = None,
    items: dict[str, tuple[int, str]] | None = None,
    unless: int | None = None,
    newer: int | None = None,
) -> Exchange:
    number = next(_clock)
    collection = "" if op == "info" else "tabs"
    sent = Sent(
        number, number, 1, op, collection, tags or {}, gone or [], unless, newer, "a" if op == "item" else ""
    )
    return Exchange(
        sent, None if status is None else Answered(number, number + 0.5, status, time, items or {})
    )


def put(item: str, time: int | None, status: int | None = 200, *, unless: int | None = None) -> Exchange:
    return exchange("put", status, time, tags={item: f"{item}{time}"}, unless=unless)


def read(time: int, *items: tuple[str, int], op: Op = "read", newer: int | None = None) -> Exchange:
    return exchange(op, 200, time, items={item: (at, f"{item}{at}") for item, at in items}, newer=newer)


def info(storage: int, tabs: int | None = None) -> Exchange:
    return exchange("info", 200, storage, items={} if tabs is None else {"tabs": (tabs, "")})


def put_elsewhere(time: int) -> Exchange:
    number = next(_clock)
    return Exchange(
        Sent(number, number, 1, "put", "col", {"x": "x"}), Answered(number, number + 0.5, 200, time)
    )


LOSSES = {
    "seen at its time": [put("a", 5), read(6)],
    "seen under a later write": [put("a", 5), put("b", 8), read(8, ("b", 8))],
    "listed until it is noticed": [put("a", 5), info(5, 5), info(6, 5), read(7), info(7), info(9)],
    "an item that is not there": [put("a", 5), exchange("item", 404)],
    "a precondition of nothing": [put("a", 5), put("b", 8, unless=3), read(8, ("b", 8))],
    "a batch as well": [
        *(put("a", 5), exchange("stage", 202, 5, tags={"b": "b1"})),
        exchange("commit", 400, tags={"b": "b1"}),
    ],
    "a delete of what is gone": [
        *(put("a", 5), read(6), put("b", 7), read(9), exchange("delete collection", 200, 12)),
        *(read(9), info(12)),
    ],
    "a delete that notices it": [put("a", 5), exchange("delete collection", 200, 7), put_elsewhere(8), read(7)],
    "a follower keeps what it had": [
        *(put("a", 5), read(5, ("a", 5), op="follow", newer=0), read(6, op="follow", newer=5)),
        *(put("b", 8), read(8, ("b", 8), op="follow", newer=6), read(8, ("b", 8))),
    ],
}  # fmt: skip


@pytest.mark.parametrize("history", LOSSES.values(), ids=LOSSES)
def test_a_loss_is_no_fault_where_the_cache_lost_something(history: list[Exchange]) -> None:
    assert problems(history, cache=ALWAYS) == []
    assert problems(history, cache=NEVER) != []
    assert problems(history, cache=CacheLife(ONLY, [(0.0, history[0].sent.at - 0.1)])) != []
    assert problems(history, cache=CacheLife(ONLY, [(history[-1].ended + 0.1, 1e9)])) != []
    assert problems(history, cache=CacheLife(frozenset({"other"}), [(0.0, 1e9)])) != []


@pytest.mark.parametrize(
    ("history", "word"),
    [
        ([put("a", 5), read(5)], "lacks a"),  # empty under the time that clients know
        ([put("a", 5), put("b", 6), read(6, ("b", 6))], "lacks a"),  # no time between for the loss
        ([put("a", 5), put("b", 8), read(8, ("a", 5))], "lacks b"),
        ([put("a", 5), put("b", 8), read(9, ("a", 5))], "lacks b"),  # lost in part
        ([put("a", 5), read(7), read(7, ("a", 5))], "lacks a"),  # lost, and there again
        ([put("a", 5), read(7), info(7, 5)], "lacks a"),
        ([put("a", 5), info(5)], "does not list"),  # without a new time
        ([put("a", 5), read(0)], "finds no collection"),
        ([put("a", 5), read(7), put("b", 7)], "had been told"),
        ([put("a", 5), read(7), put("b", 9), read(8)], "before it began"),
    ],
)  # fmt: skip
def test_a_loss_that_is_not_whole_or_not_told_is_a_fault(history: list[Exchange], word: str) -> None:
    assert word in "\n".join(problems(history, cache=ALWAYS))


def test_what_was_refused_may_be_taken_over_later_at_a_time_that_another_has() -> None:
    """Its items have the time that its writer drew and gave back; they are seen from a later one on."""
    before, refused, at = put("a", 5), exchange("put", 503, tags={"b": "b6"}), next(_clock)
    elsewhere = Exchange(Sent(at, at, 1, "put", "col", {"x": "x6"}), Answered(at, at + 0.1, 200, 6))
    history = [before, refused, elsewhere, read(8, ("a", 5), ("b", 6))]

    assert problems(history, refused_may_count=False, cache=NEVER) == []
    assert problems(history, refused_may_count=False) != []


def test_a_refused_deletion_may_be_taken_over_later() -> None:
    refused = exchange("delete items", 503, gone=["a"])

    assert problems([put("a", 5), refused, put("a", 9, unless=3)], refused_may_count=False, cache=NEVER) == []
    assert problems([put("a", 5), refused, read(9)], refused_may_count=False, cache=NEVER) == []
    assert problems([put("a", 5), refused, put("a", 9, unless=3)], refused_may_count=False) != []
