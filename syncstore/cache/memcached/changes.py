"""Changes as meta commands, and what the server's answers to them mean.

memcached counts whole seconds, and drops a value up to two seconds after its `expires`. A value that expires therefore
carries its `expires` in front, eight bytes, and its client flags say so.

A store that the server refuses for want of room, which it does only with its option -M, takes away what was there,
even if it expected something else: that is how memcached 1.6 does it. The same for one that is too large, so that is
refused before it is sent.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from syncstore.cache.api import (
    Absent,
    Change,
    Conflict,
    NotFound,
    Outcome,
    Remove,
    StorageFull,
    Store,
    Token,
    TooLarge,
)
from syncstore.cache.memcached.connection import Connection
from syncstore.cache.memcached.replies import FULL, TOO_LARGE

# Client flags say what a value begins with.
PLAIN: Final = 0
WITH_EXPIRES: Final = 1
EXPIRES: Final = struct.Struct(">d")

OVERHEAD: Final = 512
"""Bytes of the server's header, the key, `expires` and a line end, with some to spare."""

RELATIVE_SECONDS: Final = 30 * 86_400
"""memcached takes a greater TTL for a date."""

_LAST_DATE = 2**31 - 1  # and a date after this one for one before 1970


def command(change: Change, name: bytes, connection: Connection, now: float) -> tuple[bytes, ...]:
    """A change of the key called `name`, in pieces. `now` is in seconds since the epoch.

    Raises TooLarge; and Conflict for the token of another life of the server: its numbers begin anew with each, and
    an old one could fit by chance.
    """
    expect = change.expect
    if isinstance(expect, Token):
        if expect.incarnation != connection.incarnation:
            raise Conflict(f"the token for {change.key!r} is of another life of the server")
        only_if = b" C%d\r\n" % expect.number
    elif isinstance(expect, Absent):
        only_if = b" ME\r\n"
    else:
        only_if = b"\r\n"
    if isinstance(change, Remove):
        return (b"md " + name + only_if,)
    value, expires = change.value, change.expires
    size, limit = len(value), connection.item_size_max - OVERHEAD
    if size > limit:
        raise TooLarge(size, limit)
    if not expires:
        return (b"ms %b %d c%b" % (name, size, only_if), value, b"\r\n")
    head = b"ms %b %d c F%d T%d%b" % (name, size + EXPIRES.size, WITH_EXPIRES, _ttl(expires, now), only_if)
    return (head, EXPIRES.pack(expires), value, b"\r\n")


def outcome(change: Change, connection: Connection, code: bytes, number: int) -> Outcome:
    """What the server's answer says about a change."""
    if code == b"HD":
        return Token(connection.incarnation, number) if isinstance(change, Store) else None
    if code == b"NF" and isinstance(change, Remove):
        return NotFound(change.key)
    if code == FULL:
        return StorageFull("memcached has no room, and was told not to evict")
    if code == TOO_LARGE and isinstance(change, Store):
        return TooLarge(len(change.value), connection.item_size_max - OVERHEAD)
    return Conflict(f"the key {change.key!r} is in another state")


def _ttl(expires: float, now: float) -> int:
    """What memcached is told: at least the time that is left, whatever the phase of its clock; 0 for never.

    A date is by the server's own clock, so beyond 30 days a value may be dropped early or late by as much as that
    differs from ours. It is still never handed out late.
    """
    left = expires - now
    if left < RELATIVE_SECONDS - 2:
        return math.ceil(left) + 1
    return math.ceil(expires) + 1 if expires < _LAST_DATE - 2 else 0
