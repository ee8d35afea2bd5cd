"""The faults that befall no single operation: what happens to the cache server, to processes, clocks and networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from syncstore.testing.simulation.faults import CLASS_OF
from syncstore.testing.simulation.installation import Host, Installation
from syncstore.testing.simulation.plan import USER
from syncstore.testing.simulation.scheduler import SECOND, Process


class Surroundings:
    """Makes the planned faults happen. `injected` counts them by kind."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._world = installation.world
        self._random = installation.world.random
        self.injected: Counter[str] = Counter()

    def plan(self) -> None:
        """Put the faults of the plan into the world, counted from its present step."""
        world = self._world
        planned: list[tuple[int, Callable[[], None]]] = [
            (world.steps + at, partial(self.happen, kind))
            for kind, at in self._installation.plan.faults
            if kind not in CLASS_OF
        ]
        planned.sort(key=lambda one: -one[0])
        world.environment = planned

    def happen(self, kind: str) -> None:
        """One fault, now."""
        self.injected[kind] += 1
        current, self._world.current = self._world.current, None
        self._world.note("*** " + kind.upper())
        self._do(kind)
        self._world.current = current

    def _do(self, kind: str) -> None:
        random = self._random
        servers = self._installation.servers
        server = servers[0] if len(servers) == 1 else servers[int(random.random() * len(servers))]
        match kind:
            case "evict" | "expire":
                keys = [key for key, entry in server.data.items() if kind == "evict" or not entry.value]
                if keys:
                    server.drop(keys[int(random.random() * len(keys))])
            case "evict all of a user" | "flush":
                server.forget_everything()
            case "restart":
                server.restart()
            case "cache away" | "cache away long":
                host = self._some_host()
                until = self._until(3, long=kind.endswith("long"))
                host.caches[server.name].away_until = until
            case "cache away for all" | "home away for all" | "home away for all long":
                if kind.startswith("home"):
                    server = self._installation.home_of(USER)
                until = self._until(1, long=kind.endswith("long"))
                for host in self._installation.hosts:
                    host.caches[server.name].away_until = until
            case "sql away":
                self._some().sql_away_until = self._until(1)
            case "freeze" | "freeze long":
                process = self._some()
                process.frozen_until = self._until(2, long=kind.endswith("long"))
                if self._installation.configuration.zookeeper_locks:
                    self._installation.zookeeper.silent(process)
            case "session lost":
                self._installation.zookeeper.lose(self._some())
            case "zookeeper away":
                self._some().zookeeper_away_until = self._until(1)
            case "kill":
                self._installation.kill(int(random.random() * len(self._installation.hosts)))
            case "clock jump":
                process = self._some()
                process.clock_offset += int(random.choice((-30, -2, -0.2, -0.02, 0.02, 0.2, 2, 30)) * SECOND)
                process.clock_jumped_at = self._world.steps
            case "time passes" | "time passes long":
                self._world.now = self._until(2, long=kind.endswith("long"))

    def _some(self) -> Process:
        return self._some_host().process

    def _some_host(self) -> Host:
        hosts = self._installation.hosts
        host = hosts[int(self._random.random() * len(hosts))]
        self._world.note("    of " + host.process.name)
        return host

    def _until(self, seconds: float, *, long: bool = False) -> int:
        return self._world.now + int(self._random.random() * seconds * (4 if long else 1) * SECOND)

    def calm(self) -> None:
        """No more faults; what is away or frozen comes back."""
        self._world.environment = []
        self._installation.faults.off = True
        self._installation.probe_interval = 2.0
        for host in self._installation.hosts:
            process = host.process
            process.sql_away_until = process.frozen_until = 0
            process.zookeeper_away_until = 0
            for cache in host.caches.values():
                cache.away_until = 0
                cache.reconnect()
