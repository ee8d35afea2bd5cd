"""What can be simulated: the storage under test, over which locks, and the faults that its histories know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from syncstore.cache.states import SharedState
from syncstore.storage.api import Storage
from syncstore.storage.durable import DurableStorage
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.store import LayeredStorage
from syncstore.testing.simulation.clock import ProcessClock
from syncstore.testing.simulation.faults import OPERATIONS, SURROUNDINGS
from syncstore.testing.simulation.memcached import SimulatedCache
from syncstore.testing.simulation.plan import CACHED_ONLY, UNCACHED, WRITE_THROUGH, Mix

SERVER: Final = "cache"
LEASE: Final = 1.0

_SQL_FAULTS: Final = tuple(
    kind for name in ("sql read", "sql lock", "commit") for kind in OPERATIONS[name]
) + ("sql away", "freeze", "freeze long", "kill", "clock jump", "time passes", "time passes long")
_ALL_FAULTS: Final = (*SURROUNDINGS, *(kind for kinds in OPERATIONS.values() for kind in kinds))


class Parts(NamedTuple):
    """What a storage of one process is made of."""

    below: DurableStorage
    cache: SimulatedCache
    state: SharedState
    clock: ProcessClock


class Configuration(NamedTuple):
    """One kind of installation. `build` makes the storage of one process; `cached_only` and `heals` tell the
    checker what to expect; with `bound` false tokens do not know their incarnation."""

    name: str
    build: Callable[[Parts], Storage]
    mix: Mix
    memcached_locks: bool = False
    cached_only: frozenset[str] = frozenset()
    heals: bool = True
    bound: bool = True


def _layered(parts: Parts) -> Storage:
    kinds = Kinds(cached_only=[CACHED_ONLY], write_through=[WRITE_THROUGH])
    return LayeredStorage(parts.below, parts.cache, parts.state, kinds, parts.clock)


def _plain(parts: Parts) -> Storage:
    return parts.below


_TABS: Final = frozenset({CACHED_ONLY})

CONFIGURATIONS: Final = {
    one.name: one
    for one in (
        Configuration("layered", _layered, Mix(), cached_only=_TABS),
        Configuration("memcached-locks", _layered, Mix(), cached_only=_TABS, memcached_locks=True),
        Configuration(
            "sql-backed", _layered, Mix(collections=(UNCACHED, WRITE_THROUGH)), cached_only=_TABS
        ),
        Configuration("cached-only", _layered, Mix(collections=(CACHED_ONLY, UNCACHED)), cached_only=_TABS),
        Configuration(
            "storm",
            _layered,
            Mix(faults=_ALL_FAULTS, most_faults=12, most_clients=6, most_requests=8),
            cached_only=_TABS,
        ),
        Configuration("plain-sql", _plain, Mix(faults=_SQL_FAULTS), heals=False),
    )
}
