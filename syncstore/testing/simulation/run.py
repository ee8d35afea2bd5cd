"""One history, from a plan to what was wrong with it."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import NamedTuple

from syncstore.testing.simulation.checker import Violation, check
from syncstore.testing.simulation.client import Client
from syncstore.testing.simulation.configurations import Configuration
from syncstore.testing.simulation.determinism import seeded
from syncstore.testing.simulation.installation import Installation
from syncstore.testing.simulation.plan import USER, Plan, Request
from syncstore.testing.simulation.scheduler import SECOND, Line, Stuck, World
from syncstore.testing.simulation.surroundings import Surroundings

_QUIET = 12.0
"""Seconds that everything is left alone before it must have healed: leases, pauses and probes are shorter."""


class Result(NamedTuple):
    """What became of a history. `trace` is empty unless it was asked for."""

    plan: Plan
    violations: list[Violation]
    steps: int
    faults: Counter[str]
    outcomes: Counter[str]
    trace: list[Line]


def run(configuration: Configuration, plan: Plan, *, trace: bool = False) -> Result:
    """Run one history and check it."""
    random = Random(f"{plan.seed}/{plan.schedule}")
    world = World(random, mode=plan.mode, tick=plan.tick)
    if trace:
        world.trace = []
    with seeded(random):
        return _History(world, configuration, plan).result()


class _History:
    def __init__(self, world: World, configuration: Configuration, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._installation = Installation(world, configuration, plan)
        self._surroundings = Surroundings(self._installation)
        self._clients = [Client(one.name, one.uid, one.process, self._installation) for one in plan.clients]
        self._reads_at_last = 0

    def result(self) -> Result:
        world, installation = self._world, self._installation
        stuck: Stuck | None = None
        try:
            self._prelude()
            self._storm()
            self._quiet()
        except Stuck as error:
            stuck = error
        finally:
            installation.ended = True
            world.end()
        violations = check(installation, self._clients, stuck, self._reads_at_last)
        faults = installation.faults.injected + self._surroundings.injected
        outcomes = Counter(f"{one.request.kind}: {one.outcome}" for one in installation.exchanges)
        return Result(self._plan, violations, world.steps, faults, outcomes, world.trace or [])

    def _prelude(self) -> None:
        if self._plan.prelude:
            first = Client("prelude", USER, 0, self._installation)
            self._world.spawn("prelude", partial(first.run, self._plan.prelude))
            self._world.run()
        self._world.now += int(self._plan.pause * SECOND)

    def _storm(self) -> None:
        self._installation.faults.off = False
        self._surroundings.plan()
        for client, plan in zip(self._clients, self._plan.clients, strict=True):
            self._world.spawn(client.name, partial(client.run, plan.requests))
        self._world.run()

    def _quiet(self) -> None:
        """Faults off: what was left undone is done, clients catch up, and then everything must be as in SQL."""
        self._surroundings.calm()
        world = self._world
        world.mode = "sticky"
        users = sorted({client.uid for client in self._clients})
        readers = [Client("last reader", uid, uid, self._installation) for uid in users]
        names = self._plan.names
        everything = [Request("times"), *(Request("read", name) for name in names), Request("counts")]

        def last() -> None:
            world.sleep(_QUIET)
            for reader in readers:
                for request in everything:
                    reader.send(request)
            world.sleep(_QUIET)
            for client in self._clients:
                for name in names:
                    if name in client.known:
                        client.send(Request("news", name), quiet=True)
            for reader in readers:
                for request in everything:
                    reader.send(request, quiet=True)
            world.sleep(1)  # what was not waited for arrives
            before = self._installation.database.reads
            for reader in readers:
                reader.send(Request("times"), quiet=True)
            self._reads_at_last = self._installation.database.reads - before

        world.spawn("last", last)
        world.run()
