"""The settings of small-object caches: which of them is reached below which path, and with which secrets."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+", re.ASCII)
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{16,200}", re.ASCII)
CACHE_NAME: Final = re.compile(r"[a-z0-9_-]{1,16}", re.ASCII)

# The first segments of paths that the sync API and the token server have, or had once.
RESERVED: Final = frozenset({"0.5", "1.0", "1.1", "1.5", "2.0", "storage", "token", "user", "misc"})


class Mounted(NamedTuple):
    """A path, without a slash at its end, and the name of the cache below it."""

    prefix: str
    cache: str


def mounts(value: str) -> tuple[Mounted, ...]:
    """`/PATH NAME`, once or more. Raises ValueError."""
    words = value.split()
    if len(words) % 2:
        raise ValueError("must have a path and a cache's name on each line, as in /map objects")
    found = [Mounted(*pair) for pair in zip(words[::2], words[1::2], strict=True)]
    for prefix, cache in found:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"{prefix!r} must begin with a slash, end without one, and have letters, digits, dots, dashes, "
                "underscores or tildes between slashes"
            )
        first = prefix.split("/")[1]
        if first in RESERVED or first.startswith("__"):
            raise ValueError(f"{prefix} would hide the paths of the sync API that begin with /{first}")
        if not CACHE_NAME.fullmatch(cache):
            raise ValueError(f"{cache!r} is no name of a cache")
        if sum(other.prefix == prefix for other in found) > 1:
            raise ValueError(f"{prefix} is there twice")
    return tuple(found)


def secrets(value: str) -> tuple[str, ...]:
    """Bearer tokens. Raises ValueError, which does not quote them."""
    words = tuple(value.split())
    if not all(map(_SECRET.fullmatch, words)):
        raise ValueError("must have secrets of 16 to 200 letters, digits and . _ ~ + / = - each")
    return words
