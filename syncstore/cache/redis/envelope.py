"""What the provider `redis` stores under a key: a head of 24 bytes, and the value.

The head is a mark of the server's life, the number of the state, and when it expires, to the microsecond: Redis itself
counts milliseconds, which are rounded up.

A Redis that starts again has nothing, or what was there when it last wrote a snapshot, or all but the last second. Its
old values would be values that changed by themselves. So a server's life, which its run_id tells, marks what is stored
during it, and what is of another life is not there.
"""

from __future__ import annotations

import math
from hashlib import sha256
from struct import Struct
from typing import Final, NamedTuple

HEAD: Final = 24
_head = Struct(">8sQd")
_number = Struct(">Q")
_time = Struct(">d")
_LATEST: Final = 2**60  # in milliseconds: what lives for longer is kept


class Life(NamedTuple):
    """One life of a server. `incarnation` is in tokens, `mark`, of 8 bytes, in heads."""

    incarnation: str
    mark: bytes

    @classmethod
    def of(cls, run_id: bytes) -> Life:
        """That of a run_id."""
        digest = sha256(b"syncstore cache 1 " + run_id).digest()
        return cls(digest[:8].hex(), digest[:8])


class Content(NamedTuple):
    """What is in an envelope. `expires` is in seconds since the epoch, 0 for none."""

    value: bytes
    number: int
    expires: float


def seal(life: Life, value: bytes, number: int, expires: float) -> bytes:
    """The envelope of a value."""
    return _head.pack(life.mark, number, expires) + value


def unseal(life: Life, envelope: bytes, now: float) -> Content | None:
    """What is in it; None where it is of another life, or of somebody else, or has expired."""
    if len(envelope) < HEAD:
        return None
    mark, number, expires = _head.unpack_from(envelope)
    if mark != life.mark or 0 < expires <= now:
        return None
    return Content(envelope[HEAD:], number, expires)


def packed_number(number: int) -> bytes:
    """As it is in a head. `number` is below 2**64."""
    return _number.pack(number)


def packed_time(seconds: float) -> bytes:
    """As it is in a head."""
    return _time.pack(seconds)


def milliseconds(expires: float) -> int | None:
    """When Redis may drop it, in milliseconds since the epoch: not before it has expired. None for never."""
    if not expires or expires * 1000 >= _LATEST:
        return None
    return math.ceil(expires * 1000)
