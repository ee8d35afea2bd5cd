"""What a cached-only collection may have held at each of its times: all contents that its writers can have made.

SQL knows the times of such a collection, not its items. They follow from the writes: a write that committed its
time changed what was there, and a writer of whom nobody knows whether he succeeded may have left items that a later
one took over. Whatever a read has shown narrows down what can have been there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import msgspec

from syncstore.bso import Change
from syncstore.storage.durable import Being, StoredItem
from syncstore.testing.simulation import sql_state
from syncstore.testing.simulation.database import Version
from syncstore.testing.simulation.exchanges import Exchange
from syncstore.testing.simulation.matching import UNKNOWN_EXPIRY, Items, unknown_time
from syncstore.testing.simulation.memcached import Loss

WRITES = frozenset({"put", "put item", "delete item", "delete items", "commit"})
_MOST_ATTEMPTS = 6


class Content(NamedTuple):
    """What may have been there, and the numbers of the doubtful requests that are in it."""

    items: Items
    taken_over: frozenset[int] = frozenset()


NOTHING = (Content({}),)


class Chains:
    """Derives the contents of one user's cached-only collection from version to version."""

    def __init__(self, collection: str, exchanges: Sequence[Exchange], losses: Iterable[Loss]) -> None:
        self.collection = collection
        self._exchanges = [one for one in exchanges if one.request.collection == collection]
        self._doubtful = [
            one for one in self._exchanges if one.unclear and one.stored and one.request.kind in WRITES
        ]
        self._losses = [
            loss for loss in losses if loss.size and loss.key.endswith(b":" + collection.encode())
        ]

    def after_write(self, before: Iterable[Content], exchange: Exchange, time: int) -> list[Content]:
        """The contents after the request's own write at `time`."""
        return [
            Content(items, one.taken_over)
            for one in before
            for items in self._applied(one.items, exchange, time, None)
        ]

    def after_mending(
        self, before: Sequence[Content], lower: int, since: int, version: Version
    ) -> list[Content]:
        """The contents after somebody took over what doubtful writers had left: all, or some of it, or nothing.

        `since` is the step at which the writer of `before` began: who had given up by then has a token that is
        older than what stands in the cache.
        """
        bases = [*before, *(NOTHING if self.lost(0, version.step) else ())]
        found = list(bases)
        writers = [one for one in self._doubtful if one.first_step < version.step and one.last_step >= since]
        for base in bases:
            free = [one for one in writers if one.number not in base.taken_over][-_MOST_ATTEMPTS:]
            for order in _orders(free):
                inside = base.taken_over.union(one.number for one in order)
                found += [Content(items, inside) for items in self._all_applied(base.items, order, lower)]
        return found

    def lost(self, since: int, until: int) -> bool:
        """Whether the cache forgot the items between two steps."""
        return any(since <= loss.step <= until for loss in self._losses)

    def _all_applied(self, items: Items, order: Sequence[Exchange], lower: int) -> Iterator[Items]:
        if not order:
            yield items
            return
        for after in self._applied(items, order[0], None, lower):
            yield from self._all_applied(after, order[1:], lower)

    def _applied(
        self, items: Items, exchange: Exchange, time: int | None, lower: int | None
    ) -> Iterator[Mapping[str, StoredItem]]:
        """What the write makes of the items: at a known time, or at one that is only known to be above `lower`.

        Items of which it is not known whether they have expired by then are there or not.
        """
        mortal = [
            id_
            for id_, item in items.items()
            if item.expires is not None and (time is None or item.expires == UNKNOWN_EXPIRY)
        ]
        bases: list[Items] = [
            {id_: item for id_, item in items.items() if id_ not in gone}
            for size in range(len(mortal) + 1)
            for gone in combinations(mortal, size)
        ]
        kind = exchange.request.kind
        for base in bases:
            for changes in self._changes(exchange):
                at = time if time is not None else 0
                left = base
                if time is not None:
                    left = {id_: item for id_, item in base.items() if not _expired(item, at)}
                if kind.startswith("delete"):
                    yield {id_: item for id_, item in left.items() if id_ not in exchange.request.ids}
                    continue
                after = sql_state.changed(left, changes, at, batch=kind == "commit")
                if time is None and lower is not None:
                    after = {id_: _doubtful(item, left.get(id_), lower) for id_, item in after.items()}
                yield after

    def _changes(self, exchange: Exchange) -> Iterator[Sequence[Change]]:
        """What the request writes; for a batch also what was staged, surely or perhaps."""
        if exchange.request.kind != "commit":
            yield exchange.request.changes
            return
        staged = [
            one
            for one in self._exchanges
            if one.batch == exchange.batch
            and one.request.kind in ("open", "append")
            and one.number < exchange.number
            and (one.outcome == "ok" or one.unclear)
        ]
        doubtful = [one for one in staged if one.unclear]
        for size in range(len(doubtful) + 1):
            for left_out in combinations(doubtful, size):
                changes = [change for one in staged if one not in left_out for change in one.request.changes]
                yield sql_state.merged([*changes, *exchange.request.changes])


def _orders(writers: Sequence[Exchange]) -> Iterator[tuple[Exchange, ...]]:
    """All orders of some of them in which nobody comes after one who began when he had ended."""
    for size in range(1, len(writers) + 1):
        for order in permutations(writers, size):
            if all(
                earlier.first_step <= later.last_step
                for number, later in enumerate(order)
                for earlier in order[:number]
            ):
                yield order


def _expired(item: StoredItem, time: int) -> bool:
    return item.expires is not None and item.expires <= time * 10


def _doubtful(item: StoredItem, before: StoredItem | None, lower: int) -> StoredItem:
    """An item after a write at an unknown time."""
    if item is before:
        return item
    modified = (
        item.modified if before is not None and item.modified == before.modified else unknown_time(lower)
    )
    expires = item.expires if before is not None and item.expires == before.expires else UNKNOWN_EXPIRY
    return msgspec.structs.replace(item, modified=modified, expires=None if item.expires is None else expires)


def consistent(content: Content, version: Version, collection: str) -> bool:
    """Whether the totals that were kept beside the time fit."""
    kept = version.state.kept[collection]
    items = content.items.values()
    if kept.being is not Being.LIVE or any(item.expires is not None for item in items):
        return True
    return kept.items == len(content.items) and kept.bytes == sql_state.size(items)


def distinct(contents: Iterable[Content]) -> list[Content]:
    """Each once."""
    return list({(frozenset(one.items.values()), one.taken_over): one for one in contents}.values())
