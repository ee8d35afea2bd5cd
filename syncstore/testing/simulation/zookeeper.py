"""The simulated ZooKeeper: queues, as `syncstore.locks.zookeeper` has them, and sessions that end at any step.

What is simulated is what such a lock promises to those who hold it, and no more. Nodes end with the session of their
process, whose end it does not notice; what is left of a call that was not answered is in the way of others for a while.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from syncstore.errors import LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import Key, Mode
from syncstore.testing.simulation.scheduler import SECOND, Process, Task, World

_SESSION = 1 * SECOND
"""Microseconds of silence after which a session is over."""

_SOON = 30  # steps until servers notice that a process has gone, or a reaper has done its work


class Node(NamedTuple):
    """One in a queue. `number` grows with every node that is made."""

    number: int
    process: Process
    mode: Mode


class ZooKeeper:
    """The service. Sessions are counted for each process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._queues: defaultdict[Key, list[Node]] = defaultdict(list)
        self._waiting: list[Task] = []
        self._numbers = 0

    @property
    def waiting(self) -> list[Task]:
        """Who waits for the end of some node."""
        return self._waiting

    def make(self, key: Key, process: Process, mode: Mode) -> Node:
        """A node at the end of a queue."""
        self._numbers += 1
        node = Node(self._numbers, process, mode)
        self._queues[key].append(node)
        return node

    def has(self, key: Key, node: Node) -> bool:
        """Whether the node is still there."""
        return node in self._queues[key]

    def is_next(self, key: Key, node: Node) -> bool:
        """Whether it waits for nobody."""
        return not any(
            one.number < node.number and "write" in (one.mode, node.mode) for one in self._queues[key]
        )

    def remove(self, key: Key, node: Node) -> None:
        """Take a node away, if it is there, and let those who wait look again."""
        if node in self._queues[key]:
            self._queues[key].remove(node)
            self.world.wake(self._waiting)

    def lose(self, process: Process) -> None:
        """End a process's session: its nodes are gone, and it is not told."""
        self.world.note("    session ends of " + process.name)
        for queue in self._queues.values():
            queue[:] = [node for node in queue if node.process is not process]
        self.world.wake(self._waiting)

    def silent(self, process: Process) -> None:
        """The process is frozen or dead: its session ends at a later step, unless it is back soon."""
        if process.dead or process.frozen_until - self.world.now > _SESSION:
            self.world.later("session of " + process.name, lambda: self.lose(process), most_steps=_SOON)


class SimulatedQueues:
    """One process's locks in it: a locks.api.LockBackend."""

    name = "zookeeper"

    def __init__(self, service: ZooKeeper, process: Process) -> None:
        self.service = service
        self.process = process

    def acquire(self, key: Key, mode: Mode, timeout: float) -> SimulatedGrant:
        """Queue and wait (see LockBackend)."""
        service, world = self.service, self.service.world
        world.step("zookeeper create", key)
        node = service.make(key, self.process, mode)
        if self.is_away:
            self.reap(key, node)
            raise LockUnavailable("the simulated ZooKeeper does not answer")

        def enter() -> bool:
            nonlocal node
            if not service.has(key, node):
                node = service.make(key, self.process, mode)
            return service.is_next(key, node)

        if not world.take(enter, service.waiting, timeout, "zookeeper lock"):
            self.reap(key, node)
            raise LockTimeout(f"others hold the simulated lock on {key}")
        return SimulatedGrant(self, key, node)

    @property
    def is_away(self) -> bool:
        """Whether this process does not reach the service."""
        return self.process.zookeeper_away_until > self.service.world.now

    def reap(self, key: Key, node: Node) -> None:
        """Remove a node at some later step."""
        self.service.world.later("reap", lambda: self.service.remove(key, node), most_steps=_SOON)

    def sweep(self) -> Iterator[int]:
        """Nothing is left."""
        return iter(())

    def close(self) -> None:
        """Nothing is open."""


class SimulatedGrant:
    """A node that was the next. `token` is its number."""

    def __init__(self, locks: SimulatedQueues, key: Key, node: Node) -> None:
        self._locks = locks
        self._key = key
        self._node = node
        self.token = node.number

    def valid(self) -> bool:
        """As far as the process knows, which was told nothing."""
        return True

    def release(self) -> None:
        """Remove the node. Raises LockLost, LockUnavailable."""
        locks, service = self._locks, self._locks.service
        service.world.step("zookeeper delete", self._key)
        if locks.is_away:
            locks.reap(self._key, self._node)
            raise LockUnavailable("the simulated ZooKeeper does not answer")
        if not service.has(self._key, self._node):
            raise LockLost(f"the session that held the simulated lock on {self._key} has ended")
        service.remove(self._key, self._node)
