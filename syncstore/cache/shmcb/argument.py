"""What the settings say of a cyclic buffer: `PATH(SIZE)`, or `PATH` for one of the default size, and its options.

`item_size` is what an item takes on average, key and value, in bytes: it says how many a file has places for.
`lock_timeout` is for how many seconds a call waits for others, of which one may be frozen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from syncstore.cache.api import Provider
from syncstore.cache.making import Surroundings
from syncstore.cache.shmcb.geometry import DEFAULT_ITEM_SIZE, DEFAULT_SIZE, MAX_SIZE, MIN_SIZE, Geometry
from syncstore.cache.shmcb.provider import ShmcbProvider
from syncstore.cache.shmcb.turns import DEFAULT_TIMEOUT
from syncstore.errors import ConfigError
from syncstore.settings import values

_EXAMPLE: Final = f"write it as shmcb:/run/sync/cache({DEFAULT_SIZE})"


def create(argument: str, surroundings: Surroundings) -> Provider:
    """The cache of an argument (see `making.Factory`). Raises ConfigError."""
    path, size = parse_argument(argument, surroundings.here)
    take = surroundings.options.take
    return ShmcbProvider(
        path,
        surroundings.clock,
        namespace=surroundings.namespace,
        geometry=Geometry.of(size, take("item_size", values.number(16, 1024 * 1024), DEFAULT_ITEM_SIZE)),
        timeout=take("lock_timeout", values.seconds(0.01, 60), DEFAULT_TIMEOUT),
    )


def parse_argument(argument: str, here: Path) -> tuple[str, int]:
    """The absolute path and the size in bytes. Raises ConfigError."""
    path, opening, rest = argument.partition("(")
    if argument.endswith(")") and not opening:
        raise ConfigError(f"shmcb:{argument} has no opening parenthesis before its size: {_EXAMPLE}")
    if opening and not rest.endswith(")"):
        raise ConfigError(f"shmcb:{argument} has no closing parenthesis at its end: {_EXAMPLE}")
    if not path or set(path + rest[:-1]) & set("()\0"):
        raise ConfigError(f"shmcb:{argument} must name one file, without parentheses in its name: {_EXAMPLE}")
    return os.path.abspath(here / path), _size(argument, rest[:-1]) if opening else DEFAULT_SIZE


def _size(argument: str, text: str) -> int:
    if not values.is_digits(text):
        raise ConfigError(f"shmcb:{argument}: the size {text!r} must be a whole number of bytes: {_EXAMPLE}")
    if not MIN_SIZE <= int(text) < MAX_SIZE:
        raise ConfigError(
            f"shmcb:{argument}: the size must be at least {MIN_SIZE} bytes and less than {MAX_SIZE}: {_EXAMPLE}"
        )
    return int(text)
