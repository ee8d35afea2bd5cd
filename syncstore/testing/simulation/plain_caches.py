"""Histories of caches that are nothing but caches: pools of memcacheds under writers, readers, partitions and returns.

A few keys, each a register: what a read gives must not have been replaced by a change that was confirmed before the
read began, unless it was stored again since. A miss is always right. Values are unique, so each is one change's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from typing import Final, NamedTuple

from syncstore.cache.api import BackendError, NotFound, Provider
from syncstore.cache.memcached.group import Group, Member
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import Rules
from syncstore.testing.simulation.clock import ProcessClock
from syncstore.testing.simulation.database import Database
from syncstore.testing.simulation.determinism import seeded, task_locks
from syncstore.testing.simulation.faults import CLASS_OF, Fault, Faults
from syncstore.testing.simulation.memcached import Server, SimulatedCache
from syncstore.testing.simulation.scheduler import SECOND, Process, World
from syncstore.testing.simulation.sql_records import SimulatedRecords
from syncstore.testing.simulation.sql_work import Place, no_lock

NAMES: Final = ("one", "two", "three")
KEYS: Final = (b"1:a", b"2:b", b"5:c")
LEASE: Final = 1.0

_CHANGES: Final = tuple(
    kind
    for kind in CLASS_OF
    if (kind.startswith(("fetch", "change")) and "later" not in kind) or kind.startswith("epoch")
)

Make = Callable[[Group, ProcessClock], Provider]
"""Makes the cache under test for one process."""


class Event(NamedTuple):
    """One call: `value` is what was stored, or read; None for a removal or a miss. `end` is None when it is not known
    whether it took place. Steps."""

    kind: str
    key: bytes
    value: bytes | None
    begin: int
    end: int | None


class PlainHistory:
    """One history of a seed. `rules` are the group's; `make` gives each process its cache."""

    def __init__(self, seed: int, make: Make, rules: Rules) -> None:
        self._random = Random(seed)
        self._make = make
        self._rules = rules
        self._world = World(
            self._random, mode=self._random.choice(("random", "sticky", "priorities")), tick=100
        )
        kinds = [self._random.choice(_CHANGES) for _ in range(int(self._random.random() * 5))]
        faults = Faults(Fault(kind, 1 + int(self._random.random() * 20)) for kind in kinds)
        self._faults = faults
        self._servers = [Server(self._world, name) for name in NAMES]
        self._database = Database(self._world, faults, chance=self._random.random)
        self._database.epochs = dict.fromkeys(NAMES, 8)
        self._caches: list[Mapping[str, SimulatedCache]] = []
        # One that is in trouble again and again, and has stand-ins each time.
        self._weak = self._random.choice(self._servers)
        self._keys = KEYS[: 1 + int(self._random.random() * len(KEYS))]
        self.events: list[Event] = []

    def run(self) -> list[str]:
        """What was wrong with it."""
        with seeded(self._random):
            processes = [self._process(number) for number in range(2 + int(self._random.random() * 2))]
            for number in range(3 + int(self._random.random() * 3)):
                cache, process = self._random.choice(processes)
                self._world.spawn(f"client {number}", partial(self._client, number, cache, process))
            self._world.spawn("accidents", self._accidents, daemon=True)
            try:
                self._world.run()
            finally:
                self._world.end()
        return list(stale(self.events))

    def _process(self, number: int) -> tuple[Provider, Process]:
        world = self._world
        process = Process(f"process {number}")
        clock = ProcessClock(world, process)
        caches = {
            server.name: SimulatedCache(server, process, clock, self._faults, most=1000)
            for server in self._servers
        }
        self._caches.append(caches)
        place = Place(self._database, process, clock, no_lock, 2.0, None, 7200)
        with task_locks(world):
            states = Servers(SimulatedRecords(place), NAMES, clock, self._rules, in_sql=False)
            group = Group(states, "consistent")
            for name in NAMES:
                cache: object = caches[name]
                group.add(Member(name, cache, cache, states[name], 0.5), 1)  # type: ignore[arg-type]  # a provider
            made = self._make(group, clock)
        prober = world.spawn(f"prober {number}", partial(self._probe, group), daemon=True)
        prober.process = process
        return made, process

    def _probe(self, group: Group) -> None:
        while True:
            self._world.sleep(self._random.choice((0.2, 1.0)))
            for member in group.members.values():
                if member.state.failed:
                    member.state.probe(member.cache)

    def _client(self, number: int, cache: Provider, process: Process) -> None:
        world, random = self._world, self._random
        task = world.current
        assert task is not None
        task.process = process
        for turn in range(4 + int(random.random() * 16)):
            world.sleep(random.choice((0.0, 0.05, 0.2, 0.4, 0.8, 1.5)))
            kind = random.choice(("store", "store", "read", "read", "read", "remove"))
            self._call(kind, random.choice(self._keys), b"%d.%d" % (number, turn), cache)

    def _call(self, kind: str, key: bytes, value: bytes, cache: Provider) -> None:
        world = self._world
        world.step("client " + kind, (key, value))
        begin, end = world.steps, None
        got: bytes | None = None
        try:
            if kind == "read":
                got = cache.retrieve(key).value
            elif kind == "store":
                got = value
                cache.store(key, value)
            else:
                cache.remove(key)
            end = world.steps
        except NotFound:
            end = world.steps
        except BackendError:
            if kind == "read":
                return
        self.events.append(Event(kind, key, got, begin, end))

    def _accidents(self) -> None:
        world, random = self._world, self._random
        for _ in range(int(random.random() * 16)):
            world.sleep(random.random() * 1.5)
            server = self._weak if random.random() < 0.5 else random.choice(self._servers)
            until = world.now + int(random.random() * 3 * SECOND)
            match random.choice(("away", "away", "away for all", "away for all", "restart", "evict")):
                case "away":
                    random.choice(self._caches)[server.name].away_until = until
                case "away for all":
                    for caches in self._caches:
                        caches[server.name].away_until = until
                case "restart":
                    server.restart()
                case "evict":
                    server.forget_everything()


def stale(events: list[Event]) -> list[str]:
    """The reads that gave what had been replaced before they began."""
    found = []
    for read in events:
        if read.kind != "read" or read.value is None:
            continue
        (stored,) = (one for one in events if one.kind == "store" and one.value == read.value)
        if stored.begin > (read.end or read.begin):
            found.append(f"{read} gives what was not stored yet")
        if stored.end is None:
            continue  # it may take place at any time
        found += [
            f"{read} gives what {other} has replaced"
            for other in events
            if other.kind != "read"
            and other.key == read.key
            and other.end is not None
            and stored.end < other.begin
            and other.end < read.begin
        ]
    return found
