"""Keys as the paths of a mount: as they are, but for those that no path can be.

A mount takes no zero byte, and `.` and `..` are steps in a path. Such keys are sent behind a mark, with the zeros taken
out by Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999): one byte more for each 254. So are those that begin
with the mark. Any other key is the one that `curl` would name.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote_to_bytes

_MARK: Final = b"\x01"
_RUN: Final = 254  # bytes that one length byte speaks for


def path_of(key: bytes) -> str:
    """The last part of the path of a key, percent-encoded: it has no slash."""
    return quote(_stuffed(key) if _is_odd(key) else key, safe="")


def key_of(path: str, room: bytes) -> bytes | None:
    """The key of a percent-encoded path that begins with `room`; None for one that is no key of ours."""
    name = unquote_to_bytes(path)
    if not name.startswith(room):
        return None
    name = name[len(room) :]
    return _unstuffed(name) if name.startswith(_MARK) else name


def longest(room: int) -> int:
    """How long a key may be, in bytes, whatever is in it, when a path has so many bytes for it."""
    size = max(room - 2, 0)
    while size and size + 2 + size // _RUN > room:
        size -= 1
    return size


def _is_odd(key: bytes) -> bool:
    return b"\0" in key or key.startswith(_MARK) or key in (b".", b"..")


def _stuffed(key: bytes) -> bytes:
    made = bytearray(_MARK)
    for part in key.split(b"\0"):
        rest = part
        while len(rest) >= _RUN:
            made += b"\xff" + rest[:_RUN]
            rest = rest[_RUN:]
        made += bytes([len(rest) + 1]) + rest
    return bytes(made)


def _unstuffed(name: bytes) -> bytes | None:
    key = bytearray()
    at = len(_MARK)
    while at < len(name):
        length = name[at]
        run = name[at + 1 : at + length]
        if len(run) != length - 1:
            return None
        key += run
        at += length
        if length <= _RUN and at < len(name):
            key.append(0)
    return bytes(key)
