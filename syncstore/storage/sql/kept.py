"""The times of cached-only collections as the column `storage_users.cached` has them.

MessagePack of {name: [time in ticks, being, items, bytes]}, NULL for none. A few dozen bytes for each collection,
so the row stays small enough for the databases to keep the column inside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from syncstore.errors import Unavailable
from syncstore.storage.durable import KeptTime

NONE: Mapping[str, KeptTime] = {}

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(dict[str, KeptTime])


def decode(column: bytes | None) -> Mapping[str, KeptTime]:
    """The kept times in a column. Raises Unavailable for one that nobody of us wrote."""
    if column is None:
        return NONE
    try:
        return _decoder.decode(column)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"the times of cached-only collections cannot be read: {error}") from error


def encode(kept: Mapping[str, KeptTime]) -> bytes | None:
    """The column for these kept times."""
    return _encoder.encode(kept) if kept else None
