"""What the simulated SQL store holds of one user, and what each kind of change makes of it. Pure; asks nobody.

A state is never changed: every commit makes a new one, and all of them are kept, so that the checker can compare
an answer with what was committed when.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from syncstore.bso import BSO, Change, payload_size
from syncstore.storage.api import Page, Position, Query
from syncstore.storage.durable import Being, KeptTime, StoredItem

Items = Mapping[str, StoredItem]


class Collection(NamedTuple):
    """A collection in SQL and its time in ticks."""

    modified: int
    items: Items


class Batch(NamedTuple):
    """A pending upload. `created` is in milliseconds since the epoch."""

    collection: str
    created: int
    changes: tuple[Change, ...] = ()


class UserState(NamedTuple):
    """All that a user has, committed at once. `mark` is the storage's time in ticks."""

    mark: int = 0
    collections: Mapping[str, Collection] = {}
    kept: Mapping[str, KeptTime] = {}
    batches: Mapping[str, Batch] = {}

    def modified(self, collection: str) -> int:
        """The time of a collection in SQL, 0 when it does not exist."""
        found = self.collections.get(collection)
        return 0 if found is None else found.modified

    def items(self, collection: str) -> Items:
        """The items of a collection in SQL, expired ones included."""
        found = self.collections.get(collection)
        return {} if found is None else found.items

    def with_items(self, collection: str, time: int, items: Items) -> UserState:
        """The state after a write to a collection at `time`."""
        return self._replace(mark=time, collections={**self.collections, collection: Collection(time, items)})

    def without_collection(self, collection: str, time: int) -> UserState:
        """The state after the deletion of a collection."""
        rest = {name: found for name, found in self.collections.items() if name != collection}
        return self._replace(mark=time, collections=rest)

    def wiped(self, time: int) -> UserState:
        """The state after the deletion of everything. Of cached-only collections it is kept when they were deleted."""
        gone = KeptTime(time, Being.DELETED)
        kept = {name: old if old.being is Being.DELETED else gone for name, old in self.kept.items()}
        return UserState(time, {}, kept, {})

    def used(self, now: int) -> int:
        """The bytes that count for the quota at `now`, in milliseconds."""
        in_sql = sum(size(live(found.items.values(), now)) for found in self.collections.values())
        return in_sql + sum(kept.bytes for kept in self.kept.values())


def live(items: Iterable[StoredItem], now: int) -> list[StoredItem]:
    """The items that can be seen at `now`, in milliseconds."""
    return [item for item in items if item.expires is None or item.expires > now]


def size(items: Iterable[StoredItem]) -> int:
    """The bytes of the payloads."""
    return sum(payload_size(item.payload) for item in items)


def changed(
    items: Items, changes: Sequence[Change], time: int, *, batch: bool = False
) -> dict[str, StoredItem]:
    """What changes at `time`, in ticks, make of items (sync-api sections 8.4 and 13).

    Expired items count as missing. In a batch all items get the time of the commit, elsewhere a change of the
    expiry alone leaves it as it was.
    """
    now = time * 10
    result = dict(items)
    for change in changes:
        old = result.get(change.id)
        if old is not None and old.expires is not None and old.expires <= now:
            old = None
        fresh = old is None or batch or change.payload is not None or change.sortindex is not None
        base = old or StoredItem(change.id, time, "")
        result[change.id] = StoredItem(
            change.id,
            time if fresh else base.modified,
            base.payload if change.payload is None else change.payload,
            base.sortindex if change.sortindex is None else change.sortindex,
            base.expires if change.ttl is None else now + change.ttl * 1000,
        )
    return result


def merged(changes: Iterable[Change]) -> list[Change]:
    """Changes with those of one id put together, later fields over earlier ones (sync-api section 13)."""
    result: dict[str, Change] = {}
    for one in changes:
        old = result.get(one.id)
        if old is not None:
            one = Change(
                one.id,
                old.payload if one.payload is None else one.payload,
                old.sortindex if one.sortindex is None else one.sortindex,
                old.ttl if one.ttl is None else one.ttl,
            )
        result[one.id] = one
    return list(result.values())


def page(modified: int, items: Iterable[StoredItem], query: Query, now: int) -> Page:
    """The items that a query finds (sync-api section 7). `now` is in milliseconds."""
    found = [
        item
        for item in live(items, now)
        if (query.ids is None or item.id in query.ids)
        and (query.newer is None or item.modified > query.newer)
        and (query.older is None or item.modified < query.older)
    ]
    by_index = query.sort == "index"
    found.sort(key=lambda item: _sort_key(by_index, item.sortindex if by_index else item.modified, item.id))
    if query.sort != "oldest":
        found.reverse()
    if query.after is not None:
        edge = _sort_key(by_index, query.after.key, query.after.id)
        keys = [_sort_key(by_index, item.sortindex if by_index else item.modified, item.id) for item in found]
        found = [
            item
            for item, key in zip(found, keys, strict=True)
            if (key > edge if query.sort == "oldest" else key < edge)
        ]
    following = None
    if query.limit is not None and len(found) > query.limit:
        found = found[: query.limit]
        if found:
            last = found[-1]
            following = Position(query.sort, last.sortindex if by_index else last.modified, last.id)
    if query.full:
        return Page(modified, items=[bso(item) for item in found], next=following)
    return Page(modified, ids=[item.id for item in found], next=following)


def _sort_key(by_index: bool, key: int | None, id_: str) -> tuple[int, int, str]:
    return (0, 0, id_) if key is None else (1, key, id_)


def bso(item: StoredItem) -> BSO:
    """The item as a storage hands it out."""
    return BSO(item.id, item.modified, item.payload, item.sortindex)
