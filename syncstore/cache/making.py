"""Making a small-object cache from what the settings say: `PROVIDER:ARGUMENT OPTION=VALUE …`.

Providers are found by their entry points, in the group `syncstore.caches`: each gives a Factory. A new one is one
file and one entry point, and `syncstore.testing.cache_conformance` proves it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from syncstore.cache.api import Provider
from syncstore.clock import Clock
from syncstore.errors import ConfigError

if TYPE_CHECKING:
    from syncstore.zookeeper.cluster import Cluster

GROUP: Final = "syncstore.caches"

_NAMESPACE = re.compile(r"[a-z0-9_-]{1,16}", re.ASCII)
_PROVIDER = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)
_GONE: Final = {"dc": "distcache is gone; use http: or memcached:"}

T = TypeVar("T")


class Description(NamedTuple):
    """What the settings say of one cache: the provider's name, its argument as it stands, and options by name."""

    provider: str
    argument: str
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Description:
        """`PROVIDER`, or `PROVIDER:ARGUMENT`, and then `OPTION=VALUE` once or more. An argument has no spaces.

        Raises ValueError.
        """
        first, *rest = text.split() or [""]
        provider, _, argument = first.partition(":")
        if not _PROVIDER.fullmatch(provider):
            raise ValueError("must begin with a provider's name, as in shmcb:/run/sync/cache(1048576)")
        options: dict[str, str] = {}
        for word in rest:
            name, equals, value = word.partition("=")
            if not equals or not name or name in options:
                known = f", and {name} is there twice" if name in options else ""  # a value may be a secret
                raise ValueError(f"must have OPTION=VALUE, each once, after the argument{known}")
            options[name] = value
        return cls(provider, argument, options)


class Options:
    """The options of one cache, each taken once with its type. Whoever made the cache asks for what was not taken."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = dict(given)
        self._known: list[str] = []

    def take(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """The value of an option. Raises ConfigError with the words of the ValueError that `parse` raises."""
        self._known.append(name)
        text = self._given.pop(name, None)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as error:
            raise ConfigError(f"{name}={text}: {error}") from error

    def refuse_others(self) -> None:
        """Raise ConfigError for an option that nobody took."""
        if self._given:
            known = ", ".join(self._known) or "none"
            raise ConfigError(f"{min(self._given)} is not an option of this provider: it has {known}")


class Surroundings(NamedTuple):
    """What a provider is made with, besides its argument.

    `namespace` tells the keys of this cache from those of any other over the same service. Relative paths start
    from `here`. `cluster` gives a ZooKeeper cluster of the settings by its name, and `memcached` a cache over the
    memcacheds of the settings with a prefix for its keys; either raises ConfigError. Both belong to whoever gave them,
    and are not closed by the provider. `database` is the URL of the service's database, which holds its password. With
    `strict` an answer that is a moment old would be wrong: the storage is cached there.
    """

    namespace: str
    clock: Clock
    here: Path
    options: Options
    cluster: Callable[[str], Cluster]
    memcached: Callable[[str], Provider]
    database: str
    strict: bool = False


Factory = Callable[[str, Surroundings], Provider]
"""Makes a provider of an argument. Parses and no more: no connection, no file. Raises ConfigError."""


def make(description: Description, surroundings: Surroundings) -> Provider:
    """The cache of a description. Makes no connection and no file. Raises ConfigError."""
    if not _NAMESPACE.fullmatch(surroundings.namespace):
        raise ConfigError("a cache's name must be 1 to 16 small letters, digits, dashes or underscores")
    made = _factory(description.provider)(description.argument, surroundings)
    surroundings.options.refuse_others()
    return made


def providers() -> list[str]:
    """The names of all that are installed."""
    return sorted(entry_points(group=GROUP).names)


def _factory(name: str) -> Factory:
    if name in _GONE:
        raise ConfigError(_GONE[name])
    found: EntryPoint
    for found in entry_points(group=GROUP, name=name):
        try:
            factory: Factory = found.load()
        except ImportError as error:
            raise ConfigError(f"the provider {name} cannot be used: {error}") from error
        return factory
    raise ConfigError(f"there is no provider {name!r}: there are {', '.join(providers())}")
