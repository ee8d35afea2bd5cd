"""What a set of changes makes of the rows that exist: partial updates and their arithmetic (sync-api 8.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from syncstore.bso import Change
from syncstore.storage.sql.dialects.api import ItemRow, StoredRow
from syncstore.storage.sql.schema import NEVER


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
    uid: int, collection: int, changes: Sequence[Change], existing: Mapping[str, StoredRow], time: int
) -> Rows:
    """The rows that `changes` make of what exists, at `time` in milliseconds.

    An absent field keeps a live item's value. An expired item counts as missing: the change starts from
    defaults. A change of the expiry alone leaves the item's time as it was.
    """
    whole: list[ItemRow] = []
    touched: list[ItemRow] = []
    count = difference = expired = 0
    for change in changes:
        id_, payload, sortindex, ttl = change.id, change.payload, change.sortindex, change.ttl
        until = NEVER if ttl is None else time + ttl * 1000
        old = existing.get(id_)
        if old is None:
            count += 1
        else:
            old_modified, old_sortindex, old_size, old_ttl = old
            difference -= old_size
            if old_ttl > time:
                if ttl is None:
                    until = old_ttl
                if payload is None:
                    modified = old_modified if sortindex is None else time
                    index = old_sortindex if sortindex is None else sortindex
                    difference += old_size
                    touched.append((uid, collection, id_, index, modified, "", 0, until))
                    continue
                if sortindex is None:
                    sortindex = old_sortindex
            else:
                expired += old_size
        text = payload or ""
        size = len(text) if text.isascii() else len(text.encode())
        difference += size
        whole.append((uid, collection, id_, sortindex, time, text, size, until))
    return Rows(whole, touched, count, difference, expired)
