"""What a set of changes makes of the rows that exist: partial updates and their arithmetic (sync-api 8.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from syncstore.bso import Change, payload_size
from syncstore.storage.sql.dialects.api import ItemRow
from syncstore.storage.sql.schema import NEVER


class Stored(NamedTuple):
    """What a unit of work knows of a row: all but its payload. Times in milliseconds, `size` in bytes."""

    modified: int
    sortindex: int | None
    size: int
    ttl: int

    def live(self, now: int) -> bool:
        """Whether the item has not expired at `now`, in milliseconds."""
        return self.ttl > now


class Rows(NamedTuple):
    """Rows to write, and what they add to the collection: items and bytes.

    `whole` rows replace everything, `touched` rows exist and keep their payloads. `expired_bytes` is the size
    of expired rows among those replaced.
    """

    whole: list[ItemRow]
    touched: list[ItemRow]
    items: int
    bytes: int
    expired_bytes: int


def rows_of(
    uid: int, collection: int, changes: Sequence[Change], existing: Mapping[str, Stored], time: int
) -> Rows:
    """The rows that `changes` make of what exists, at `time` in milliseconds.

    An absent field keeps a live item's value. An expired item counts as missing: the change starts from
    defaults. A change of the expiry alone leaves the item's time as it was.
    """
    whole: list[ItemRow] = []
    touched: list[ItemRow] = []
    count = size_difference = expired = 0
    for change in changes:
        id_, payload, sortindex = change.id, change.payload, change.sortindex
        ttl = NEVER if change.ttl is None else time + change.ttl * 1000
        old = existing.get(id_)
        if old is None:
            count += 1
        else:
            size_difference -= old.size
            if old.ttl > time:
                if change.ttl is None:
                    ttl = old.ttl
                if payload is None:
                    modified = old.modified if sortindex is None else time
                    index = old.sortindex if sortindex is None else sortindex
                    size_difference += old.size
                    touched.append(ItemRow(uid, collection, id_, index, modified, "", 0, ttl))
                    continue
                if sortindex is None:
                    sortindex = old.sortindex
            else:
                expired += old.size
        text = payload or ""
        size = payload_size(text)
        size_difference += size
        whole.append(ItemRow(uid, collection, id_, sortindex, time, text, size, ttl))
    return Rows(whole, touched, count, size_difference, expired)
