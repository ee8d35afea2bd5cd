"""All items of one collection in one cached value: the codec, queries and changes. Pure; it asks nobody.

What SQL does with statements is done here on a list, by the same rules (sync-api sections 7 and 8.4); the
conformance suite of storages is what holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from syncstore.bso import BSO, Change, payload_size
from syncstore.clock import MS_PER_TICK
from syncstore.storage.api import Page, Position, Query
from syncstore.storage.durable import StoredItem

_VERSION: Final = 1


class Contents(msgspec.Struct, frozen=True):
    """A collection at one time, in ticks. `items` is None for one that is too large to be kept in the cache."""

    time: int
    items: Sequence[StoredItem] | None


class _Layout(msgspec.Struct, array_like=True):
    version: int
    time: int
    items: list[StoredItem] | None


_decode = msgspec.msgpack.Decoder(_Layout).decode
_encode = msgspec.msgpack.Encoder().encode


def encode(contents: Contents) -> bytes:
    """The cached value."""
    items = None if contents.items is None else list(contents.items)
    return _encode(_Layout(_VERSION, contents.time, items))


def decode(value: bytes) -> Contents | None:
    """The contents in a cached value; None for a placeholder and for whatever is not ours, damaged or newer."""
    if not value:
        return None
    try:
        layout = _decode(value)
    except msgspec.MsgspecError:
        return None
    return Contents(layout.time, layout.items) if layout.version == _VERSION else None


def no_later(time: int, items: Sequence[StoredItem]) -> Contents:
    """The contents at a time, no item being later: one may have its time from a clock that was ahead."""
    if all(item.modified <= time for item in items):
        return Contents(time, items)
    return Contents(
        time, [msgspec.structs.replace(item, modified=min(item.modified, time)) for item in items]
    )


# -- reading


def live(items: Iterable[StoredItem], now: int) -> list[StoredItem]:
    """The items that have not expired at `now`, in milliseconds."""
    return [item for item in items if item.expires is None or item.expires > now]


def page(modified: int, items: Iterable[StoredItem], query: Query, now: int) -> Page:
    """What a query finds, as SQL would (see `Storage.find`). `now` is in milliseconds."""
    found = live(items, now)
    if query.ids is not None:
        wanted = frozenset(query.ids)
        found = [item for item in found if item.id in wanted]
    if query.newer is not None:
        found = [item for item in found if item.modified > query.newer]
    if query.older is not None:
        found = [item for item in found if item.modified < query.older]
    key = _by_index if query.sort == "index" else _by_time
    if query.after is not None:
        edge = _edge(query.after)
        behind = query.sort == "oldest"
        found = [item for item in found if (key(item) > edge if behind else key(item) < edge)]
    if len(found) > 1:
        found.sort(key=key, reverse=query.sort != "oldest")
    following = None
    if query.limit is not None and len(found) > query.limit:
        found = found[: query.limit]
        if found:
            last = found[-1]
            following = Position(
                query.sort, last.sortindex if query.sort == "index" else last.modified, last.id
            )
    if query.full:
        return Page(modified, items=[bso(item) for item in found], next=following)
    return Page(modified, ids=[item.id for item in found], next=following)


def bso(item: StoredItem) -> BSO:
    """The item as a storage hands it out."""
    return BSO(item.id, item.modified, item.payload, item.sortindex)


def _by_time(item: StoredItem) -> tuple[int, int, str]:
    return 0, item.modified, item.id


def _by_index(item: StoredItem) -> tuple[int, int, str]:
    # Items without a sortindex come last of a descending order.
    return (0, 0, item.id) if item.sortindex is None else (1, item.sortindex, item.id)


def _edge(after: Position) -> tuple[int, int, str]:
    if after.sort == "index":
        return (0, 0, after.id) if after.key is None else (1, after.key, after.id)
    return 0, after.key or 0, after.id


def size(items: Iterable[StoredItem]) -> int:
    """The bytes of the payloads."""
    return sum(payload_size(item.payload) for item in items)


# -- changing


def changed(
    items: Iterable[StoredItem], changes: Iterable[Change], time: int, *, all_at: bool = False
) -> list[StoredItem]:
    """What `changes` at `time`, in ticks, make of the items; those that have expired by then are left out.

    An absent field keeps a live item's value. A change of the expiry alone leaves the item's time as it was, but
    for a batch (`all_at`), all of which gets the time of its commit.
    """
    now = time * MS_PER_TICK
    result = {item.id: item for item in live(items, now)}
    for change in changes:
        old = result.get(change.id)
        payload, sortindex = change.payload, change.sortindex
        expires = None if change.ttl is None else now + change.ttl * 1000
        modified = time
        if old is not None:
            if payload is None and sortindex is None and not all_at:
                modified = old.modified
            payload = old.payload if payload is None else payload
            sortindex = old.sortindex if sortindex is None else sortindex
            expires = old.expires if change.ttl is None else expires
        result[change.id] = StoredItem(change.id, modified, payload or "", sortindex, expires)
    return list(result.values())


def without(items: Iterable[StoredItem], ids: Sequence[str], time: int) -> list[StoredItem]:
    """The items that are left after a deletion at `time`, in ticks."""
    gone = frozenset(ids)
    return [item for item in live(items, time * MS_PER_TICK) if item.id not in gone]


def merged(staged: Mapping[str, Change], changes: Iterable[Change]) -> dict[str, Change]:
    """Staged changes with later ones over them, field by field (sync-api section 13)."""
    result = dict(staged)
    for change in changes:
        old = result.get(change.id)
        if old is not None:
            change = Change(
                change.id,
                old.payload if change.payload is None else change.payload,
                old.sortindex if change.sortindex is None else change.sortindex,
                old.ttl if change.ttl is None else change.ttl,
            )
        result[change.id] = change
    return result
