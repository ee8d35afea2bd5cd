"""Whether an answer can come from given contents of a collection.

Two things are not always known: the time of items that a writer stored who then died, which is known no better
than "greater than"; and whether an item with an expiry could be seen at the moment, when clocks jump.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from syncstore.bso import BSO
from syncstore.storage.api import Page, Query
from syncstore.storage.durable import StoredItem
from syncstore.testing.simulation.exchanges import Exchange
from syncstore.testing.simulation.sql_state import page

Items = Mapping[str, StoredItem]

UNKNOWN_EXPIRY = 2**62
"""In place of an expiry that is not known."""


def unknown_time(later_than: int) -> int:
    """In place of an item's time: it is greater than this."""
    return -1 - later_than


class Sight(NamedTuple):
    """When somebody looked: the earliest and the latest that his clock may have said, in milliseconds."""

    earliest: int
    latest: int

    def may_see(self, item: StoredItem) -> bool:
        """Whether the item need not have expired."""
        return item.expires is None or item.expires > self.earliest

    def must_see(self, item: StoredItem) -> bool:
        """Whether the item cannot have expired."""
        return item.expires is None or (item.expires != UNKNOWN_EXPIRY and item.expires > self.latest)


def sight(exchange: Exchange, written_at: int) -> Sight:
    """When the request looked. What expired before `written_at`, in ticks, may have been left out by a writer."""
    if not exchange.walls_are_sure:
        return Sight(0, 2**60)
    return Sight(exchange.now_at_start, max(exchange.now_at_end, written_at * 10))


def fits(items: Items, exchange: Exchange) -> Items | None:
    """The items, with times now known, if the page that the exchange was answered with can come from them."""
    found: Page = exchange.answer
    when = sight(exchange, found.modified)
    if exchange.request.kind == "ids":
        return _fits_ids(items, found, exchange, when)
    answered = {item.id: item for item in found.items}
    newer = exchange.newer or 0
    if len(answered) != len(found.items) or not _in_order(found.items):
        return None
    learnt: dict[str, StoredItem] = {}
    for id_, item in answered.items():
        stored = items.get(id_)
        if stored is None or not when.may_see(stored) or item.modified <= newer:
            return None
        if stored.modified < 0 and -1 - stored.modified < item.modified <= found.modified:
            stored = learnt[id_] = msgspec.structs.replace(stored, modified=item.modified)
        if not _same(stored, item):
            return None
    for id_, stored in items.items():
        if id_ not in answered and when.must_see(stored) and stored.modified > newer:
            return None
    return {**items, **learnt} if learnt else items


def _fits_ids(items: Items, found: Page, exchange: Exchange, when: Sight) -> Items | None:
    stored = items.values()
    if any(item.modified < 0 or when.may_see(item) != when.must_see(item) for item in stored):
        return items if all(id_ in items for id_ in found.ids) else None
    expected = page(found.modified, stored, Query(sort="newest", limit=1), exchange.now_at_start)
    return items if list(expected.ids) == list(found.ids) else None


def fits_item(items: Items, exchange: Exchange, written_at: int) -> bool:
    """Whether one item, or that it is missing, can come from these contents."""
    (id_,) = exchange.request.ids
    stored = items.get(id_)
    when = sight(exchange, written_at)
    if exchange.outcome != "ok" or exchange.answer is None:
        return stored is None or not when.must_see(stored)
    answer: BSO = exchange.answer
    if stored is None or not when.may_see(stored):
        return False
    if stored.modified < 0 and -1 - stored.modified < answer.modified:
        stored = msgspec.structs.replace(stored, modified=answer.modified)
    return _same(stored, answer)


def fits_time(items: Items, id_: str, told: int, exchange: Exchange, written_at: int) -> bool:
    """Whether a unit of work may have told this time of an item, 0 for a missing one."""
    stored = items.get(id_)
    when = sight(exchange, written_at)
    if not told:
        return stored is None or not when.must_see(stored)
    return (
        stored is not None
        and when.may_see(stored)
        and (stored.modified == told or 0 > stored.modified > -1 - told)
    )


def _same(stored: StoredItem, item: BSO) -> bool:
    return (
        stored.modified == item.modified
        and stored.payload == item.payload
        and stored.sortindex == item.sortindex
    )


def _in_order(items: Sequence[BSO]) -> bool:
    """Oldest first."""
    keys = [(item.modified, item.id) for item in items]
    return keys == sorted(keys)
