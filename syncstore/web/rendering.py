"""Values as JSON bytes. Times have exactly two decimals on the wire, so they are written, not converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from syncstore.bso import BSO
from syncstore.clock import format_ticks
from syncstore.web.answers import JSON

_encoder = msgspec.json.Encoder()


class _WireBso(msgspec.Struct, omit_defaults=True, gc=False):
    id: str
    modified: msgspec.Raw
    payload: str
    sortindex: int | None = None


class _Posted(msgspec.Struct):
    modified: msgspec.Raw
    success: list[str]
    failed: dict[str, str]


class _Staged(msgspec.Struct):
    batch: str
    success: list[str]
    failed: dict[str, str]


def _raw_time(ticks: int) -> msgspec.Raw:
    return msgspec.Raw(b"%d.%02d" % divmod(ticks, 100))


def times(collections: Mapping[str, int]) -> bytes:
    """`{"bookmarks": 1388635807.40, ...}`; names need no escaping by their syntax."""
    parts = ['"%s":%d.%02d' % (name, time // 100, time % 100) for name, time in collections.items()]  # noqa: UP031 - hot
    return ("{" + ",".join(parts) + "}").encode()


def counts(collections: Mapping[str, int]) -> bytes:
    """`{"bookmarks": 12, ...}`."""
    return _encoder.encode(collections)


def kilobytes(collections: Mapping[str, int]) -> bytes:
    """Bytes as units of 1024, unrounded."""
    return _encoder.encode({name: size / 1024 for name, size in collections.items()})


def quota(used: int, limit: int | None) -> bytes:
    """`[used, limit or null]` in units of 1024 bytes, unrounded."""
    return _encoder.encode([used / 1024, None if limit is None else limit / 1024])


def time(ticks: int) -> bytes:
    """A bare time, the body of a PUT's answer."""
    return format_ticks(ticks).encode()


def modified(ticks: int) -> bytes:
    """`{"modified": 1388635807.40}`, the body of a DELETE's answer."""
    return b'{"modified":%d.%02d}' % divmod(ticks, 100)


def item(bso: BSO) -> bytes:
    """One full item."""
    return _encoder.encode(_WireBso(bso.id, _raw_time(bso.modified), bso.payload, bso.sortindex))


def items(bsos: Sequence[BSO], media_type: str) -> bytes:
    """Full items, as a list or one per line."""
    raw: dict[int, msgspec.Raw] = {}  # the items of one upload share their time
    wire = []
    for bso in bsos:
        time = raw.get(bso.modified)
        if time is None:
            time = raw[bso.modified] = _raw_time(bso.modified)
        wire.append(_WireBso(bso.id, time, bso.payload, bso.sortindex))
    return _encoder.encode(wire) if media_type == JSON else _encoder.encode_lines(wire)


def ids(names: Sequence[str], media_type: str) -> bytes:
    """Item ids, as a list or one per line."""
    return _encoder.encode(names) if media_type == JSON else _encoder.encode_lines(names)


def posted(ticks: int, success: list[str], failed: dict[str, str]) -> bytes:
    """The answer to a POST or to the commit of a batch."""
    return _encoder.encode(_Posted(_raw_time(ticks), success, failed))


def staged(batch: str, success: list[str], failed: dict[str, str]) -> bytes:
    """The answer to a POST that only staged items in a batch."""
    return _encoder.encode(_Staged(batch, success, failed))
