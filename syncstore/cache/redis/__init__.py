"""The provider `redis`: values in a Redis, `redis:HOST:PORT` or `redis://HOST:PORT/DB`, or what speaks as it does.

`address` has what the settings say, `server` the connections, `envelope` and `scripts` what is in Redis and how it is
changed there, `provider` the contract. The library `redis` is an optional dependency.

Options: `timeout`, in seconds, for each wait; `max_value`, in bytes; `connections`, which each process has at most;
`password_file`.
"""

from __future__ import annotations

from typing import Final

from syncstore.cache.api import Provider
from syncstore.cache.making import Surroundings
from syncstore.cache.redis.address import parse_address
from syncstore.errors import ConfigError
from syncstore.settings import values

__all__ = ["create"]

DEFAULT_TIMEOUT: Final = 1.0
DEFAULT_MAX_VALUE: Final = 1024 * 1024
DEFAULT_CONNECTIONS: Final = 8

_MIN_VALUE = 10_000
_MAX_VALUE = 256 * 1024 * 1024


def create(argument: str, surroundings: Surroundings) -> Provider:
    """The cache of an argument (see `making.Factory`). Raises ConfigError."""
    try:
        from syncstore.cache.redis.provider import RedisProvider
        from syncstore.cache.redis.server import Server
    except ImportError as error:
        raise ConfigError(
            f"redis: the library is not installed ({error.name}): pip install syncstore[redis]"
        ) from error
    take = surroundings.options.take
    file = take("password_file", values.text, "")
    timeout = take("timeout", values.seconds(0.01, 60), DEFAULT_TIMEOUT)
    max_value = take("max_value", values.number(_MIN_VALUE, _MAX_VALUE), DEFAULT_MAX_VALUE)
    connections = take("connections", values.number(1, 1000), DEFAULT_CONNECTIONS)
    address = parse_address(argument, surroundings.here / file if file else None)
    return RedisProvider(
        Server(address, connections=connections, timeout=timeout),
        surroundings.clock,
        namespace=surroundings.namespace,
        max_value=max_value,
    )
