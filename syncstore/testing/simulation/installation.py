"""One installation in a world: processes with the real classes in them, over the simulated servers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from syncstore.cache.memcached.group import Description
from syncstore.cache.memcached.ring import Placed, Ring
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import Rules
from syncstore.cache.memcached.stand_ins import Chain, ChainState, StandIns
from syncstore.errors import Unavailable
from syncstore.locks.api import LockBackend, Locks
from syncstore.locks.memcached import MemcachedLocks
from syncstore.locks.placed import PlacedLocks
from syncstore.storage.api import Storage
from syncstore.storage.layered.placed import Chained, PlacedStorage
from syncstore.testing.simulation.clock import ProcessClock
from syncstore.testing.simulation.configurations import Configuration, Parts
from syncstore.testing.simulation.database import Database
from syncstore.testing.simulation.determinism import task_locks
from syncstore.testing.simulation.exchanges import Exchange
from syncstore.testing.simulation.faults import Faults
from syncstore.testing.simulation.memcached import Server, SimulatedCache
from syncstore.testing.simulation.plan import Plan, Request
from syncstore.testing.simulation.scheduler import Process, World
from syncstore.testing.simulation.sql_records import SimulatedRecords
from syncstore.testing.simulation.sql_store import SimulatedStorage
from syncstore.testing.simulation.sql_work import Place, WriteLock, no_lock
from syncstore.testing.simulation.zookeeper import SimulatedQueues, ZooKeeper

_LOCK_TTL = 6.0


class Host:
    """One server process with its objects."""

    def __init__(
        self,
        process: Process,
        clock: ProcessClock,
        caches: Mapping[str, SimulatedCache],
        states: Servers,
        storage: Storage,
    ) -> None:
        self.process = process
        self.clock = clock
        self.caches = caches
        self.states = states
        self.storage = storage
        self.serves = True


class Installation:
    """All processes, the two servers, and the book of all exchanges."""

    def __init__(self, world: World, configuration: Configuration, plan: Plan) -> None:
        self.world = world
        self.configuration = configuration
        self.plan = plan
        self.faults = Faults(plan.faults)
        self.faults.off = True
        self.servers = [Server(world, name) for name in configuration.servers]
        self._placement = Ring([Placed(name) for name in configuration.servers])
        self.zookeeper = ZooKeeper(world)
        self.database = Database(
            world,
            self.faults,
            request=self._serving,
            count=lambda: world.steps,
            chance=world.random.random,
        )
        if not plan.fresh_epoch:
            self.database.epochs = dict.fromkeys(configuration.servers, 8)
        self.hosts: list[Host] = []
        self.exchanges: list[Exchange] = []
        self.started = 0
        self.ended = False
        self.probe_interval = plan.probe_interval
        for _ in range(plan.processes):
            self.hosts.append(self.start())

    def _serving(self) -> object:
        task = self.world.current
        return None if task is None else task.serving

    def home_of(self, uid: int) -> Server:
        """The cache server that is a user's home."""
        home = self._placement.find(b"%d" % uid)
        return next(server for server in self.servers if server.name == home)

    # -- processes

    def start(self) -> Host:
        """A new process."""
        self.started += 1
        process = Process(f"process {self.started}")
        clock = ProcessClock(self.world, process)
        caches = {
            server.name: SimulatedCache(
                server,
                process,
                clock,
                self.faults,
                most=self.plan.most_value,
                bound=self.configuration.bound,
            )
            for server in self.servers
        }
        lock: WriteLock = no_lock
        if self.configuration.memcached_locks:
            locks = {
                name: MemcachedLocks(cache, clock, ttl=_LOCK_TTL, shared_reads=True, random=self.world.random)
                for name, cache in caches.items()
            }
            backend: LockBackend = locks[self.servers[0].name]
            if len(locks) > 1:
                backend = PlacedLocks(
                    list(locks.values()), lambda uid: locks[self._placement.find(b"%d" % uid)]
                )
            lock = _LocksOfTasks(self.world, backend, clock, self.plan.lock_timeout)
        elif self.configuration.zookeeper_locks:
            queues = SimulatedQueues(self.zookeeper, process)
            lock = _LocksOfTasks(self.world, queues, clock, self.plan.lock_timeout)
        place = Place(
            self.database, process, clock, lock, self.plan.lock_timeout, self.plan.quota, batch_lifetime=7200
        )
        with task_locks(self.world):
            below = SimulatedStorage(place)
            rules = Rules(self.plan.lease, stand_ins=self.configuration.stand_ins)
            group = (self.started - 1) % self.configuration.groups
            states = Servers(
                SimulatedRecords(place, group),
                self.configuration.servers,
                clock,
                rules,
                in_sql=self.configuration.groups == 1,
            )
            storage = self._storage(below, caches, states, clock)
        host = Host(process, clock, caches, states, storage)
        host.serves = self.configuration.groups == 1
        if not host.serves:
            joining = self.world.spawn(
                f"start {self.started}", partial(self._join, host, below, group), daemon=True
            )
            joining.process = process
        if self.configuration.heals:
            prober = self.world.spawn(f"prober {self.started}", partial(self._probe, host), daemon=True)
            prober.process = process
        return host

    def _storage(
        self,
        below: SimulatedStorage,
        caches: Mapping[str, SimulatedCache],
        states: Servers,
        clock: ProcessClock,
    ) -> Storage:
        """The storage of one process, wired as the application does it."""
        build = self.configuration.build
        if len(caches) == 1:
            ((name, cache),) = caches.items()
            return build(Parts(below, cache, states[name], clock))
        if self.configuration.stand_ins:
            stand_ins = StandIns(states, lambda: self._placement, attempts=20)

            def over(chain: Chain) -> Storage:
                stands_in = len(chain.names) > 1
                return build(
                    Parts(below, caches[chain.names[-1]], ChainState(states, chain), clock, stands_in)
                )

            return PlacedStorage(below, Chained(stand_ins.chain, over))
        layers = {name: build(Parts(below, cache, states[name], clock)) for name, cache in caches.items()}
        return PlacedStorage(below, lambda uid: layers[self._placement.find(b"%d" % uid)])

    def _probe(self, host: Host) -> None:
        while True:
            self.world.sleep(self.probe_interval)
            for state in host.states:
                if state.failed:
                    state.probe(host.caches[state.name])

    def _join(self, host: Host, below: SimulatedStorage, group: int) -> None:
        """A process begins to serve, as one of its group."""
        configuration = self.configuration
        description = Description(f"store{group}", self.plan.lease, "rules", configuration.servers)
        while not host.serves:
            try:
                configuration.join(below.records, description, host.states)
                host.serves = True
            except Unavailable:
                self.world.sleep(0.1)

    def host(self, home: int) -> Host:
        """The process that a client talks to: its own, or the one that was started in its place; once it serves."""
        while not self.hosts[home % len(self.hosts)].serves:
            self.world.sleep(0.1)
        return self.hosts[home % len(self.hosts)]

    def kill(self, number: int) -> None:
        """A process dies; another one takes its place."""
        host = self.hosts[number]
        self.world.died(host.process)
        self.database.process_died(host.process)
        if self.configuration.zookeeper_locks:
            self.zookeeper.silent(host.process)
        self.hosts[number] = self.start()

    # -- the book

    def begin(self, client: str, uid: int, request: Request, host: Host) -> Exchange:
        """A request arrives."""
        exchange = Exchange(len(self.exchanges), client, uid, request)
        exchange.process = host.process.name
        exchange.first_step = self.world.steps
        exchange.first_version = len(self.database.row(uid).versions) - 1
        exchange.now_at_start = host.clock.now_ms()
        self.exchanges.append(exchange)
        return exchange

    def finish(self, exchange: Exchange, host: Host) -> None:
        """It was answered, or never will be."""
        exchange.last_step = self.world.steps
        exchange.last_version = len(self.database.row(exchange.uid).versions) - 1
        exchange.now_at_end = host.clock.now_ms()
        exchange.walls_are_sure = host.process.clock_jumped_at < exchange.first_step


class _LocksOfTasks:
    """The locks of one process: their table is per thread, and here each task is one."""

    def __init__(self, world: World, backend: LockBackend, clock: ProcessClock, timeout: float) -> None:
        self._world = world
        self._new = partial(Locks, backend, clock, timeout)
        self._of: dict[int, Locks] = {}

    def __call__(self, uid: int, collection: str) -> AbstractContextManager[Any]:
        task = self._world.current
        assert task is not None
        locks = self._of.get(task.number)
        if locks is None:
            locks = self._of[task.number] = self._new()
        return locks.write(uid, collection)
