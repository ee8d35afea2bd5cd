"""The known writes of one user in the one order that their times claim, and what had been told to whom by when."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from syncstore.testing.history.records import LOOKS, REMOVALS, Exchange, Sent


@dataclass(frozen=True)
class Write:
    """A write that is known to have happened, at `time`. `sure` says that it was acknowledged with that time."""

    exchange: Exchange
    time: int
    sure: bool = True

    @property
    def sent(self) -> Sent:
        """The request."""
        return self.exchange.sent

    @property
    def deletes(self) -> bool:
        """Whether it was a deletion; one that finds nothing changes nothing, and tells the storage's time."""
        return self.sent.op.startswith("delete")

    @property
    def removes_collection(self) -> bool:
        """Whether nothing is left of its collection."""
        return self.sent.op in REMOVALS

    def touches(self, item: str) -> bool:
        """Whether it changed the item."""
        return self.removes_collection or item in self.sent.tags or item in self.sent.gone


class Greatest:
    """The greatest time that had been told to anybody before a moment. `told` are moments and times."""

    def __init__(self, told: Iterable[tuple[float, int]]) -> None:
        ordered = sorted(told)
        self._moments = [at for at, _ in ordered]
        self._greatest = list(itertools.accumulate((time for _, time in ordered), max, initial=0))

    def before(self, moment: float) -> int:
        """That time, 0 when there was none."""
        return self._greatest[bisect_left(self._moments, moment)]


class Collection:
    """The known writes of one collection in the order of their times, and what was told of its time.

    A read that finds the collection has no time before those in `told`; in `told_alive` are those at which it existed.
    `times` are those of all writes that leave one, `written` those of all but deletions.
    """

    def __init__(self, name: str, writes: Iterable[Write], looks: Iterable[tuple[float, int]]) -> None:
        self.name = name
        self.writes = sorted(writes, key=lambda write: write.time)
        self.times = frozenset(write.time for write in self.writes if not write.removes_collection)
        # A deletion that finds nothing tells the storage's time, which may be that of a loss.
        self.written = frozenset(write.time for write in self.writes if not write.deletes)
        self._sure = [one for one in self.writes if one.sure]
        # A deletion of items may have found no collection; nor does a doubtful write to what lives in the cache
        # alone count here, whose items may have been taken over at a later time than theirs.
        self._effective = [one for one in self._sure if one.sent.op != "delete items"]
        looks = list(looks)
        self.told = Greatest([*((one.exchange.ended, one.time) for one in self._sure), *looks])
        written = ((one.exchange.ended, one.time) for one in self._sure if not one.deletes)
        self.told_alive = Greatest([*written, *looks])
        removals = [one for one in self.writes if one.removes_collection]
        by_item: defaultdict[str, list[Write]] = defaultdict(list)
        for one in self.writes:
            for item in {*one.sent.tags, *one.sent.gone}:
                by_item[item].append(one)
        self.by_item = {
            item: sorted([*writes, *removals], key=lambda one: one.time) for item, writes in by_item.items()
        }
        self._item_told: dict[str, Greatest] = {}

    def last(self, item: str, time: int) -> Write | None:
        """The last write of the item at or before `time`."""
        return _last(self.by_item.get(item, []), time)

    def last_write(self, time: int) -> Write | None:
        """The last write of the collection at or before `time`."""
        return _last(self.writes, time)

    def last_sure(self, time: int) -> Write | None:
        """The last acknowledged one."""
        return _last(self._sure, time)

    def last_effective(self, time: int) -> Write | None:
        """The last acknowledged one that surely decided whether the collection exists."""
        return _last(self._effective, time)

    def acknowledged(self, item: str, moment: float) -> int:
        """The greatest time of a write of the item that had been acknowledged before a moment."""
        if item not in self._item_told:
            self._item_told[item] = Greatest(
                (one.exchange.ended, one.time) for one in self.by_item.get(item, []) if one.sure
            )
        return self._item_told[item].before(moment)

    def removed(self, item: str | None, after: int, before: float) -> bool:
        """Whether a deletion of the item, or of the whole collection, has a time greater than `after` and began
        before a moment."""
        writes = self.writes if item is None else self.by_item.get(item, [])
        return any(
            one.deletes and one.time > after and one.sent.at < before
            for one in writes[bisect_right(writes, after, key=lambda write: write.time) :]
            if item is not None or one.removes_collection
        )


class Story:
    """All collections of one user, from its known writes and its answered looks."""

    def __init__(self, writes: Iterable[Write], exchanges: Iterable[Exchange]) -> None:
        self.writes = list(writes)
        looks = [one for one in exchanges if one.sent.op in LOOKS and one.status == 200]
        times: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        for one in looks:
            assert one.answer is not None
            if one.sent.op == "info":
                for name, (time, _) in one.answer.items.items():
                    times[name].append((one.ended, time))
            else:
                times[one.sent.collection].append((one.ended, one.time))
        names = {write.sent.collection for write in self.writes} | times.keys()
        self.collections = {
            name: Collection(name, [one for one in self.writes if _concerns(one, name)], times[name])
            for name in names - {""}
        }
        acknowledged = ((one.exchange.ended, one.time) for one in self.writes if one.sure)
        self.told = Greatest([*acknowledged, *((one.ended, one.time) for one in looks)])

    def collection(self, name: str) -> Collection:
        """One of them, without writes where none is known."""
        found = self.collections.get(name)
        if found is None:
            found = self.collections[name] = Collection(
                name, [one for one in self.writes if _concerns(one, name)], ()
            )
        return found


def _concerns(write: Write, name: str) -> bool:
    return write.sent.collection == name or write.sent.op == "delete everything"


def _last(writes: list[Write], time: int) -> Write | None:
    at = bisect_right(writes, time, key=lambda write: write.time)
    return writes[at - 1] if at else None
