"""The composition of operators' tools: what looks into memcacheds, compares them with SQL, and clears them."""

from __future__ import annotations

from typing import NamedTuple

from syncstore.app_cache import kinds, layered
from syncstore.app_cache_group import describe, open_group
from syncstore.cache.memcached.group import Group, Member
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.settings import Settings
from syncstore.storage.durable import DurableStorage
from syncstore.storage.layered.clearing import Clearing
from syncstore.storage.layered.inspecting import Inspector
from syncstore.storage.layered.verifying import Verifier


class Tools(NamedTuple):
    """What operators' commands use, over one server: to look at it, to compare it with SQL, and to clear it."""

    member: Member
    inspector: Inspector
    verifier: Verifier
    clearing: Clearing


class AllTools:
    """The tools over each server of a group."""

    def __init__(self, settings: Settings, below: DurableStorage, clock: Clock) -> None:
        self.group: Group = open_group(settings, below.records, clock)
        in_use = below.records.group()
        if in_use.description not in ("", str(describe(settings, self.group))):
            self.group.close()
            raise ConfigError(
                "the servers of this database have other memcacheds, or other settings of them: use their settings"
            )
        living = kinds(settings)
        self._tools: dict[str, Tools] = {}
        for name, member in self.group.members.items():
            inspector = Inspector(below, member.cache, member.state, living, clock)
            layer = layered(settings, below, member.cache, member.state, clock)
            self._tools[name] = Tools(
                member,
                inspector,
                Verifier(inspector, below, member.cache, living, clock),
                Clearing(layer, below, member.cache, member.state, living, clock),
            )

    def of(self, uid: int) -> Tools:
        """The tools over a user's home."""
        return self._tools[self.group.home(b"%d" % uid).name]

    def close(self) -> None:
        """Close the connections."""
        self.group.close()


def check_tools(settings: Settings) -> None:
    """Raise ConfigError when there is no cache that another process could look into."""
    if settings.cache_provider == "none":
        raise ConfigError("cache.provider is none: nothing is cached")
    if settings.cache_provider == "memory":
        raise ConfigError(
            "cache.provider = memory: what is cached is inside of the process that serves, and ends with it"
        )
    if settings.memcached_state.kind == "memory":
        raise ConfigError(
            "memcached.state = memory: the states of memcacheds are inside of the process that serves, and nobody else "
            "can see or change them"
        )


def open_tools(settings: Settings, below: DurableStorage, clock: Clock) -> AllTools:
    """The tools for the memcacheds of the settings, over a database that is prepared. Raises ConfigError."""
    check_tools(settings)
    return AllTools(settings, below, clock)
