"""The provider `dbm`: values in one file of this host that outlive restarts, `dbm:/path`.

It has the name of the hash files that did this once. Inside is one table of SQLite: a hash file of Python is not whole
after a crash, and others may not be there. `database` has the file and the connection, `provider` the contract.

Options: `max_value`, in bytes; `max_bytes`, of the file, beyond which nothing is stored; `lock_timeout`, for how many
seconds a call waits for others.
"""

from __future__ import annotations

import os

from syncstore.cache.api import Provider
from syncstore.cache.dbm.database import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT
from syncstore.cache.dbm.provider import DEFAULT_MAX_VALUE, DbmProvider
from syncstore.cache.making import Surroundings
from syncstore.errors import ConfigError
from syncstore.settings import values

__all__ = ["DbmProvider", "create"]

_MIN_VALUE = 10_000
_MAX_VALUE = 256 * 1024 * 1024
_ROOM_BESIDE = 1024 * 1024  # so that a file has room for the largest value and for what it needs itself


def create(argument: str, surroundings: Surroundings) -> Provider:
    """The cache of an argument (see `making.Factory`). Raises ConfigError."""
    if not argument or "\0" in argument:
        raise ConfigError(
            "dbm: must name a file, in a folder that exists: write it as dbm:/var/lib/sync/objects"
        )
    take = surroundings.options.take
    max_value = take("max_value", values.number(_MIN_VALUE, _MAX_VALUE), DEFAULT_MAX_VALUE)
    max_bytes = take("max_bytes", values.number(_ROOM_BESIDE), DEFAULT_MAX_BYTES)
    if max_bytes < max_value + _ROOM_BESIDE:
        raise ConfigError(
            f"max_bytes={max_bytes}: must be at least {max_value + _ROOM_BESIDE}, with room for the largest value"
        )
    return DbmProvider(
        os.path.abspath(surroundings.here / argument),
        surroundings.clock,
        namespace=surroundings.namespace,
        max_value=max_value,
        max_bytes=max_bytes,
        timeout=take("lock_timeout", values.seconds(0.01, 60), DEFAULT_TIMEOUT),
    )
