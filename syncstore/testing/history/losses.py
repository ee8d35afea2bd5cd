"""The rule of collections that live in the cache alone: what is lost is lost whole, for a reason, and announced.

A loss is a change at a time of its own, which no client was told: everything from before it is gone, and whoever
saw the collection later must not have seen any of that. So an answer in which something is missing needs a time at
which the loss can have been, after the write that is missing and no later than the time of the answer, at which
nothing that was seen contradicts it; and the cache must have lost something between that write and the answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from syncstore.testing.history.cache import CacheLife
from syncstore.testing.history.order import Collection, Story, Write
from syncstore.testing.history.records import READS, Exchange

_FOREVER = 1 << 62


class Losses:
    """When the collections of one user can have been lost."""

    def __init__(self, cache: CacheLife, story: Story, exchanges: Iterable[Exchange]) -> None:
        self._cache = cache
        self._story = story
        self._alive = {name: _alive(name, exchanges) for name in cache.only} if cache.only else {}

    def explain(self, collection: Collection, write: Write, time: int | None, missed: float) -> bool:
        """Whether what was written may be missing in an answer at `time`, None for any, that came at `missed`."""
        alive = self._alive.get(collection.name)
        if alive is None or not self._cache.may_lose(write.sent.at, missed):
            return False
        at = write.time + 1
        limit = _FOREVER if time is None else time
        starts, ends = alive
        while at <= limit:
            place = bisect_right(starts, at) - 1
            if place >= 0 and at <= ends[place]:
                at = ends[place] + 1
            elif at in collection.written:
                at += 1  # the time of somebody's write
            else:
                return True
        return False

    def changes(self, name: str, missed: float) -> bool:
        """Whether the server itself may have given the collection a new time before an answer that came at `missed`:
        since it was lost, or since what a refused writer had left in the cache was taken over."""
        if name not in self._alive:
            return False
        writes = self._story.collection(name).writes
        first = min((write.sent.at for write in writes), default=missed)
        return self._cache.may_lose(first, missed) or any(
            not write.sure and write.sent.at < missed for write in writes
        )


def _alive(name: str, exchanges: Iterable[Exchange]) -> tuple[list[int], list[int]]:
    """From which times to which it was not lost, as the answers show: an item of one time was there at another."""
    seen: set[tuple[int, int]] = set()
    for one in exchanges:
        if one.answer is None or one.status != 200:
            continue
        if one.sent.op in READS and one.sent.collection == name:
            seen.update((modified + 1, one.time) for modified, _ in one.answer.items.values())
        elif one.sent.op == "info" and name in one.answer.items:
            seen.add((one.answer.items[name][0] + 1, one.time))
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(seen):
        if end < start:
            continue
        if ends and start <= ends[-1] + 1:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends
