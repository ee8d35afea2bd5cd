"""The words of `X-Shmap`, which every answer of a mount carries, and with which status each comes.

Without it, or with another status, an answer is not a mount's but a proxy's, or that of a wrong URL: it says nothing of
a key.
"""

from __future__ import annotations

from typing import Final

HEADER: Final = "X-Shmap"

OK: Final = "ok"
NOT_FOUND: Final = "not-found"
CONFLICT: Final = "conflict"
TOO_LARGE: Final = "too-large"
BAD_KEY: Final = "bad-key"
FULL: Final = "full"
NOT_SUPPORTED: Final = "not-supported"
EXPIRED: Final = "expired"
UNAVAILABLE: Final = "unavailable"

STATUSES: Final = {
    OK: (200, 201, 204, 304),
    NOT_FOUND: (404,),
    CONFLICT: (412,),
    TOO_LARGE: (413,),
    BAD_KEY: (414,),
    FULL: (507,),
    NOT_SUPPORTED: (501,),
    EXPIRED: (400,),
    UNAVAILABLE: (503,),
}
