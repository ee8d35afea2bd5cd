"""What a piece of the museum is: the real classes with one thing wrong, and the histories that bring it to light.

A piece is built by giving objects of the real layer a subclass for their class. So everything else is what is
shipped, wired as it is shipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from syncstore.cache.memcached.group import take_over
from syncstore.storage.api import Storage
from syncstore.testing.simulation.configurations import CONFIGURATIONS, Configuration, Join, Parts
from syncstore.testing.simulation.plan import NEIGHBOUR, USER, Mix, Plan, Request, draw
from syncstore.testing.simulation.run import run

Build = Callable[[Parts], Storage]
_LAYERED: Final = CONFIGURATIONS["layered"]


class Piece(NamedTuple):
    """One defect.

    `source`: where it went wrong first. `wrong`: what is done wrong. `seen`: what users have of it. `rule`: the
    checker's rule that is broken. `base`, `mix`, `adapt`, `bound`, `memcached_locks`, `zookeeper_locks` and `heals`:
    the histories that show it soonest. `join` is how processes of the broken installation begin to serve. `harmless`
    says why nothing is broken here, for a piece that another rule of the layer makes up for.
    """

    name: str
    source: str
    wrong: str
    seen: str
    rule: str
    build: Build
    mix: Mix
    adapt: Callable[[Plan], Plan] = lambda plan: plan
    bound: bool = True
    memcached_locks: bool = False
    zookeeper_locks: bool = False
    heals: bool = True
    harmless: str = ""
    base: Configuration = _LAYERED
    join: Join = take_over

    @property
    def broken(self) -> Configuration:
        """The installation that is wrong."""
        return self._configuration(self.build)._replace(
            bound=self.bound, heals=self.heals and self.base.heals, join=self.join
        )

    @property
    def right(self) -> Configuration:
        """The same with nothing wrong."""
        return self._configuration(_LAYERED.build)

    def _configuration(self, build: Build) -> Configuration:
        return self.base._replace(
            name=self.name,
            build=build,
            mix=self.mix,
            memcached_locks=self.memcached_locks,
            zookeeper_locks=self.zookeeper_locks,
        )

    def plan(self, seed: int) -> Plan:
        """The history of a seed."""
        return self.adapt(draw(seed, self.mix))

    def shows(self, seed: int) -> bool:
        """Whether the history of a seed breaks the rule."""
        return any(one.rule == self.rule for one in run(self.broken, self.plan(seed)).violations)

    def clean(self, seed: int) -> bool:
        """Whether nothing is broken when nothing is wrong."""
        return not run(self.right, self.plan(seed)).violations


def replaced(*classes: type) -> Build:
    """Builds the real layer, and gives each object that one of `classes` is a subclass of that class instead."""

    def build(parts: Parts) -> Storage:
        left = [one for one in classes if not any(_replace(part, one) for part in parts)]
        storage = _LAYERED.build(parts)
        cached_only = storage._cached_only  # type: ignore[attr-defined]  # a LayeredStorage
        sql_backed, metadata = storage._sql_backed, storage._metadata  # type: ignore[attr-defined]
        batches = getattr(cached_only, "_batches", None)  # a stand-in has none
        inside = (storage, cached_only, batches, sql_backed, metadata)
        for one in left:
            if not any(_replace(part, one) for part in inside):
                raise TypeError(f"{one.__name__} is no subclass of anything in the layer")
        return storage

    return build


def _replace(part: object, by: type) -> bool:
    if not issubclass(by, type(part)) or type(part) is object:
        return False
    part.__class__ = by
    return True


def spread(seconds: float) -> Callable[[Plan], Plan]:
    """The same history with a pause of so many seconds before each request."""

    def adapt(plan: Plan) -> Plan:
        return _paused(plan, seconds)

    return adapt


def calm(plan: Plan) -> Plan:
    """The same history without any fault."""
    return plan._replace(faults=())


def hurried(plan: Plan) -> Plan:
    """The same history without pauses between requests."""
    return _paused(plan, 0.0)._replace(pause=0.0)


def _paused(plan: Plan, seconds: float) -> Plan:
    clients = [
        client._replace(requests=tuple(one._replace(pause=seconds) for one in client.requests))
        for client in plan.clients
    ]
    return plan._replace(clients=tuple(clients))


def leased(seconds: float) -> Callable[[Plan], Plan]:
    """The same history with leases of so many seconds, and with processes that look often for what has come back."""

    def adapt(plan: Plan) -> Plan:
        return plan._replace(lease=seconds, probe_interval=0.2)

    return adapt


def shared(plan: Plan) -> Plan:
    """The same history with two users who take turns at its clients."""
    clients = [
        client._replace(uid=NEIGHBOUR if number % 2 else USER) for number, client in enumerate(plan.clients)
    ]
    return plan._replace(clients=tuple(clients))


def apart(plan: Plan) -> Plan:
    """The same history in two processes: in one of them clients only ask for times, again and again."""
    clients = [
        client._replace(process=0, requests=(Request("times", pause=0.2),) * 12)
        if number % 2 == 0
        else client._replace(process=1)
        for number, client in enumerate(plan.clients)
    ]
    return plan._replace(processes=2, clients=tuple(clients))


def unprepared(plan: Plan) -> Plan:
    """The same history of a user who has nothing yet."""
    return plan._replace(prelude=())


def roomless(plan: Plan) -> Plan:
    """The same history with payloads of which some do not fit into the cache."""
    clients = [
        client._replace(requests=tuple(_large(one, number) for number, one in enumerate(client.requests)))
        for client in plan.clients
    ]
    return plan._replace(most_value=400, clients=tuple(clients))


def _large(request: Request, number: int) -> Request:
    changes = [
        msgspec.structs.replace(one, payload=one.payload + "." * 200 * (number % 3))
        for one in request.changes
        if one.payload is not None
    ]
    return request._replace(changes=tuple(changes) or request.changes)
