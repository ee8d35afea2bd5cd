"""The provider `memcached` of the settings: the memcacheds of `memcached.servers`, under a prefix for each cache.

The storage's keys have another prefix, and no key of one can be spelt as one of the other (`memcached.keys`).
"""

from __future__ import annotations

from syncstore.cache.api import Provider
from syncstore.cache.making import Surroundings
from syncstore.errors import ConfigError


def create(argument: str, surroundings: Surroundings) -> Provider:
    """`memcached`, without an argument and options (see Factory)."""
    if argument:
        raise ConfigError("memcached: has no argument: the servers are those of memcached.servers")
    return surroundings.memcached(f"socache-{surroundings.namespace}")
