"""Names of keys in memcached, which takes 250 bytes without spaces and control characters, and values' lives there.

A key of printable ASCII stands as it is, any other as `~` and its base64; so does one that begins with `~`, and so
no two keys have one name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

from syncstore.cache.api import BadKey

_MAX_NAME = 250
_PREFIX = re.compile(rb"[!-~]*")


class Keys:
    """Turns keys into names that all begin with `prefix`. `longest` is in bytes, and holds whatever the bytes are."""

    def __init__(self, prefix: bytes) -> None:
        if not _PREFIX.fullmatch(prefix) or len(prefix) > 100:
            raise ValueError(f"not a key prefix of printable ASCII and at most 100 bytes: {prefix!r}")
        self.longest = (_MAX_NAME - len(prefix) - 1) * 3 // 4
        self._prefix = prefix
        self._plain: Callable[[bytes], object] = re.compile(
            rb"[!-}][!-~]{0,%d}" % (self.longest - 1)
        ).fullmatch

    def name(self, key: bytes) -> bytes:
        """The key's name. Raises BadKey."""
        return self._prefix + (key if self._plain(key) else self._escape(key))

    def _escape(self, key: bytes) -> bytes:
        if not 1 <= len(key) <= self.longest:
            raise BadKey(len(key), self.longest)
        return b"~" + base64.urlsafe_b64encode(key).rstrip(b"=")
