"""Numbers about a history, for people: how much was asked, what was refused, and how long nothing could be written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

from syncstore.testing.history.records import LOOKS, Exchange


def kind_of(one: Exchange, cached_only: Collection[str]) -> str:
    """What sort of request it was, in words: a read or a write, and where its collection lives."""
    action = "read" if one.sent.op in LOOKS else "write"
    return f"cached-only {action}" if one.sent.collection in cached_only else f"ordinary {action}"


def refusals(history: Iterable[Exchange], cached_only: Collection[str]) -> Counter[str]:
    """How many 503 there were of each sort."""
    return Counter(kind_of(one, cached_only) for one in history if one.status == 503)


def longest_pause(history: Iterable[Exchange], cached_only: Collection[str]) -> float:
    """The longest time, in seconds, from one successful ordinary write to the next, of any user and client."""
    ends = sorted(
        one.ended
        for one in history
        if one.status == 200 and kind_of(one, cached_only) == "ordinary write" and one.sent.op != "stage"
    )
    return max((later - earlier for earlier, later in pairwise(ends)), default=0.0)


def figures(
    history: Sequence[Exchange], episodes: Iterable[str], cached_only: Collection[str] = ()
) -> list[str]:
    """Lines about a history; `episodes` are the kinds of the faults that there were."""
    kinds = Counter(kind_of(one, cached_only) for one in history)
    written = sum(one.status == 200 and one.sent.op not in (*LOOKS, "stage") for one in history)
    unanswered = sum(one.answer is None for one in history)
    faults = Counter(episodes)
    return [
        f"requests: {len(history)} ({_told(kinds)}), of which {unanswered} were not answered",
        f"acknowledged writes: {written}",
        f"503: {_told(refusals(history, cached_only)) or 'none'}",
        f"longest time without an ordinary write: {longest_pause(history, cached_only):.2f} s",
        f"faults: {sum(faults.values())} ({_told(faults)})",
    ]


def _told(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
