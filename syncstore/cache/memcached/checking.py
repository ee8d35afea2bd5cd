"""Whether a memcached answers and keeps what it is given, asked on a key of its own: no state depends on it."""

from __future__ import annotations

import secrets

from syncstore.cache.api import ABSENT, BackendError, NotFound, Provider

_LIFE = 60.0  # seconds of the value, should it not come to removing it


def check(cache: Provider, now: float) -> str:
    """Store a value, read it, remove it: what went wrong, or an empty string. `now` is in seconds since the epoch."""
    key, value = b"check:" + secrets.token_hex(8).encode(), secrets.token_bytes(32)
    try:
        token = cache.store(key, value, now + _LIFE, expect=ABSENT)
        try:
            if cache.retrieve(key).value != value:
                return "it gives back something else than it was given"
        finally:
            cache.remove(key, expect=token)
    except NotFound:
        return "it does not keep what it is given"
    except BackendError as error:
        return str(error)
    return ""
