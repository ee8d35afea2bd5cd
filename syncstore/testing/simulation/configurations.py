"""What can be simulated: the storage under test, over which locks, and the faults that its histories know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from syncstore.cache.memcached.group import Description, take_over
from syncstore.cache.memcached.records import HomeRecords
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.states import ServerState
from syncstore.storage.api import Storage
from syncstore.storage.durable import DurableStorage
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.store import LayeredStorage
from syncstore.testing.simulation.clock import ProcessClock
from syncstore.testing.simulation.faults import CLASS_OF, OF_ZOOKEEPER, OPERATIONS, SURROUNDINGS
from syncstore.testing.simulation.memcached import SimulatedCache
from syncstore.testing.simulation.plan import ALSO_CACHED_ONLY, CACHED_ONLY, UNCACHED, WRITE_THROUGH, Mix

SERVER: Final = "cache"

_SQL_FAULTS: Final = (
    *(kind for name in ("sql read", "sql epoch", "sql lock", "commit") for kind in OPERATIONS[name]),
    *("sql away", "freeze", "freeze long", "kill", "clock jump", "time passes", "time passes long"),
)


# A server for some and for all, and what makes a partition matter.
_OF_SERVERS: Final = (
    *("cache away", "cache away", "cache away long", "cache away for all", "home away for all"),
    *("restart", "evict", "flush"),
    *("sql away", "freeze", "freeze long", "kill", "time passes", "time passes long"),
    *("change lost", "change late", "change later late", "epoch slow", "fetch slow", "commit late"),
)
SEVERAL: Final = ("one", "two", "three")

CACHED_ONLY_NAMES: Final = frozenset({CACHED_ONLY, ALSO_CACHED_ONLY})


class Parts(NamedTuple):
    """What a storage of one process is made of, over one cache server.

    One that stands in for another has no collections of its own."""

    below: DurableStorage
    cache: SimulatedCache
    state: ServerState
    clock: ProcessClock
    stands_in: bool = False


Join = Callable[[HomeRecords, Description, Servers], None]


class Configuration(NamedTuple):
    """One kind of installation. `build` makes the storage of one process over one of the cache `servers`, which
    stand in for each other where `stand_ins` says so. With two `groups` every other process has its states elsewhere,
    and begins with `join`. `cached_only` and `heals` tell the checker what to expect; with
    `bound` false tokens do not know their incarnation."""

    name: str
    build: Callable[[Parts], Storage]
    mix: Mix
    memcached_locks: bool = False
    zookeeper_locks: bool = False
    cached_only: frozenset[str] = frozenset()
    heals: bool = True
    bound: bool = True
    servers: tuple[str, ...] = (SERVER,)
    stand_ins: bool = False
    groups: int = 1
    join: Join = take_over


def _layered(parts: Parts) -> Storage:
    kinds = Kinds(cached_only=CACHED_ONLY_NAMES, write_through=[WRITE_THROUGH])
    return LayeredStorage(
        parts.below, parts.cache, parts.state, kinds, parts.clock, stands_in=parts.stands_in
    )


def _plain(parts: Parts) -> Storage:
    return parts.below


CONFIGURATIONS: Final = {
    one.name: one
    for one in (
        Configuration("layered", _layered, Mix(), cached_only=CACHED_ONLY_NAMES),
        Configuration(
            "memcached-locks", _layered, Mix(), cached_only=CACHED_ONLY_NAMES, memcached_locks=True
        ),
        Configuration(
            "zookeeper-locks",
            _layered,
            Mix(faults=(*SURROUNDINGS, *CLASS_OF, *OF_ZOOKEEPER * 6), most_faults=6, least_processes=2),
            cached_only=CACHED_ONLY_NAMES,
            zookeeper_locks=True,
        ),
        Configuration(
            "sql-backed", _layered, Mix(collections=(UNCACHED, WRITE_THROUGH)), cached_only=CACHED_ONLY_NAMES
        ),
        Configuration(
            "cached-only", _layered, Mix(collections=(CACHED_ONLY, UNCACHED)), cached_only=CACHED_ONLY_NAMES
        ),
        Configuration(
            "storm",
            _layered,
            Mix(most_faults=12, most_clients=6, most_requests=8),
            cached_only=CACHED_ONLY_NAMES,
        ),
        Configuration(
            "partitions",
            _layered,
            Mix(
                faults=(
                    "cache away",
                    "cache away long",
                    "sql away",
                    "freeze",
                    "time passes",
                    "kill",
                    "change lost",
                ),
                most_requests=8,
                least_processes=2,
            ),
            cached_only=CACHED_ONLY_NAMES,
        ),
        Configuration(
            "leases",
            _layered,
            Mix(
                collections=(UNCACHED,),
                faults=(
                    *("cache away", "cache away", "cache away long", "freeze", "freeze long"),
                    *("epoch slow", "fetch slow", "change slow"),
                ),
                most_faults=6,
                most_requests=8,
                least_processes=2,
                eager=True,
            ),
            cached_only=CACHED_ONLY_NAMES,
        ),
        Configuration(
            "restarts",
            _layered,
            Mix(
                faults=(
                    "restart",
                    "restart",
                    "evict",
                    "change late",
                    "change later late",
                    "commit late",
                    "freeze",
                ),
                most_faults=6,
            ),
            cached_only=CACHED_ONLY_NAMES,
        ),
        Configuration(
            "stopped-clock",
            _layered,
            Mix(
                collections=(CACHED_ONLY,),
                faults=(
                    *("commit rolled back", "commit refused", "sql connection lost", "kill", "change late"),
                    *("evict", "evict", "evict all of a user"),
                ),
                most_faults=8,
                most_clients=5,
                most_requests=4,
                kinds=(*("put",) * 6, "delete item", "put item", "read", "item", "news", "modified"),
                clock_stands=True,
            ),
            cached_only=CACHED_ONLY_NAMES,
        ),
        Configuration(
            "several-servers",
            _layered,
            Mix(faults=_OF_SERVERS, most_faults=8, most_requests=6, least_processes=2, neighbours=0.4),
            cached_only=CACHED_ONLY_NAMES,
            servers=SEVERAL,
        ),
        Configuration(
            "stand-ins",
            _layered,
            Mix(
                faults=_OF_SERVERS,
                most_faults=10,
                most_clients=6,
                most_requests=8,
                least_processes=2,
                neighbours=0.2,
            ),
            cached_only=CACHED_ONLY_NAMES,
            servers=SEVERAL,
            stand_ins=True,
        ),
        Configuration(
            "stand-ins-sql-backed",
            _layered,
            Mix(
                collections=(UNCACHED, WRITE_THROUGH),
                faults=(*_OF_SERVERS, "cache away for all", "epoch slow", "time passes", "time passes"),
                most_faults=12,
                most_clients=5,
                most_requests=10,
                least_processes=2,
                eager=True,
            ),
            cached_only=CACHED_ONLY_NAMES,
            servers=SEVERAL,
            stand_ins=True,
        ),
        Configuration(
            "two-groups",
            _layered,
            Mix(
                collections=(UNCACHED, WRITE_THROUGH),
                faults=(
                    *(
                        "kill",
                        "kill",
                        "freeze",
                        "freeze long",
                        "epoch slow",
                        "epoch fails",
                        "sql away",
                        "restart",
                    ),
                    *("cache away", "time passes", "commit late", "fetch slow", "change slow"),
                ),
                most_faults=8,
                most_requests=8,
                least_processes=2,
                eager=True,
            ),
            cached_only=CACHED_ONLY_NAMES,
            heals=False,
            groups=2,
        ),
        Configuration("plain-sql", _plain, Mix(faults=_SQL_FAULTS), heals=False),
    )
}
