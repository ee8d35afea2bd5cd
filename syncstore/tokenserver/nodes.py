"""The nodes that users live on: choosing one, counting their places, and what an operator does to them.

`available` is how many users a node takes at present, a tenth of its capacity at a time, so that a new node is
not flooded; `current_load` counts its rows of users, replaced ones included until they are purged, since their
data lie there. The functions run inside a unit of work of `connections`, so that counters are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, case, delete, insert, select, update

from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.tokenserver.connections import Connections, Service
from syncstore.tokenserver.errors import NoNode
from syncstore.tokenserver.schema import THIS_NODE, nodes, users

T = TypeVar("T")

_RELEASE_RATE = 0.1
_MAX_NAME = 64


@dataclass(frozen=True)
class Node:
    """One row of `nodes`; `name` is its address, or `*` for this server."""

    id: int
    name: str
    available: int
    current_load: int
    capacity: int
    downed: bool
    backoff: bool

    @property
    def fullness(self) -> float:
        """How full it is, on the scale on which nodes are compared; an empty one comes before all others."""
        if self.current_load <= 0:
            return -1.0
        return math.log(self.current_load) / math.log(self.capacity)

    @property
    def takes_users(self) -> bool:
        """Whether a user may be put there now."""
        return (
            self.available > 0 and self.capacity > self.current_load and not self.downed and not self.backoff
        )

    def released(self) -> int:
        """The places to open when all are taken; 0 for none."""
        if self.available > 0 or self.capacity <= self.current_load or self.downed:
            return 0
        return min(first_places(self.capacity), self.capacity - self.current_load)


def first_places(capacity: int) -> int:
    """The places that are opened at a time, at least one."""
    return math.ceil(capacity * _RELEASE_RATE)


def all_nodes(connection: Connection, service: Service) -> list[Node]:
    """Every node of the service, by id."""
    rows = connection.execute(select(nodes).where(nodes.c.service == service.id).order_by(nodes.c.id))
    return [
        Node(
            row.id,
            row.node,
            row.available,
            row.current_load,
            row.capacity,
            bool(row.downed),
            bool(row.backoff),
        )
        for row in rows
    ]


def best_node(connection: Connection, service: Service) -> Node:
    """The emptiest node that takes users, of equal ones the first; opens places where none is left.

    Raises NoNode (token-api section 5).
    """
    known = all_nodes(connection, service)
    if not any(node.takes_users for node in known):
        for node in known:
            places = node.released()
            if places:
                connection.execute(update(nodes).where(nodes.c.id == node.id).values(available=places))
        known = all_nodes(connection, service)
    able = [node for node in known if node.takes_users]
    if not able:
        raise NoNode(f"none of {len(known)} nodes can take a user")
    return min(able, key=lambda node: (node.fullness, node.id))


def take_place(connection: Connection, node_id: int) -> None:
    """Count one more user of a node."""
    left = case((nodes.c.available > 0, nodes.c.available - 1), else_=0)
    # MySQL evaluates from left to right, so neither value may depend on the other.
    connection.execute(
        update(nodes)
        .where(nodes.c.id == node_id)
        .values(available=left, current_load=nodes.c.current_load + 1)
    )


def free_place(connection: Connection, node_id: int) -> None:
    """Count one user less of a node."""
    load = case((nodes.c.current_load > 0, nodes.c.current_load - 1), else_=0)
    connection.execute(
        update(nodes).where(nodes.c.id == node_id).values(available=nodes.c.available + 1, current_load=load)
    )


class Nodes:
    """What an operator does with nodes. Each raises ConfigError, with a sentence, for what cannot be."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    def list(self) -> list[Node]:
        """Every node."""
        return self._connections.read(all_nodes)

    def ensure_this(self, capacity: int) -> None:
        """Put this server among the nodes, where there are none: what a person with one server needs."""
        if not self.list():
            self._connections.write(lambda connection, service: _add_first(connection, service, capacity))

    def add(self, name: str, capacity: int, *, downed: bool = False, backoff: bool = False) -> None:
        """Take a node into use."""
        _check_name(name)

        def work(connection: Connection, service: Service) -> None:
            if any(node.name == name for node in all_nodes(connection, service)):
                raise ConfigError(f"the node {name} is there already: change it with `syncstore node update`")
            _insert(connection, service, name, capacity, downed=downed, backoff=backoff)

        self._connections.write(work)

    def update(self, name: str, **changes: Any) -> None:
        """Change some of capacity, available, current_load, downed, backoff and node (its name)."""
        if "node" in changes:
            _check_name(changes["node"])

        def work(connection: Connection, service: Service) -> None:
            known = {node.name: node for node in all_nodes(connection, service)}
            new = changes.get("node", name)
            if new != name and new in known:
                raise ConfigError(f"the node {new} is there already: a node cannot take its name")
            connection.execute(update(nodes).where(nodes.c.id == _named(known, name).id).values(changes))

        self._connections.write(work)

    def remove(self, name: str) -> int:
        """Forget a node; its users are given another one when they come next. Returns their number."""

        def work(connection: Connection, node: Node) -> int:
            moved = self._unassign(connection, node)
            # SQLite may give the number to the next node, which would count and be asked about users not its own.
            connection.execute(update(users).where(users.c.nodeid == node.id).values(nodeid=None))
            connection.execute(delete(nodes).where(nodes.c.id == node.id))
            return moved

        return self._with(name, work)

    def unassign(self, name: str) -> int:
        """Give the node's users another one when they come next. Returns their number."""
        return self._with(name, self._unassign)

    def _unassign(self, connection: Connection, node: Node) -> int:
        statement = update(users).where(users.c.nodeid == node.id, users.c.replaced_at.is_(None))
        return connection.execute(statement.values(replaced_at=self._clock.now_ms())).rowcount

    def _with(self, name: str, work: Callable[[Connection, Node], T]) -> T:
        def find(connection: Connection, service: Service) -> T:
            known = {node.name: node for node in all_nodes(connection, service)}
            return work(connection, _named(known, name))

        return self._connections.write(find)


def _named(known: Mapping[str, Node], name: str) -> Node:
    if name not in known:
        raise ConfigError(f"there is no node {name}: `syncstore node list` shows those that are")
    return known[name]


def _add_first(connection: Connection, service: Service, capacity: int) -> None:
    if not all_nodes(connection, service):
        _insert(connection, service, THIS_NODE, capacity, downed=False, backoff=False)


def _insert(
    connection: Connection, service: Service, name: str, capacity: int, *, downed: bool, backoff: bool
) -> None:
    connection.execute(
        insert(nodes).values(
            service=service.id,
            node=name,
            available=first_places(capacity),
            current_load=0,
            capacity=capacity,
            downed=int(downed),
            backoff=int(backoff),
        )
    )


def _check_name(name: str) -> None:
    if name != THIS_NODE and not name.startswith(("http://", "https://")):
        raise ConfigError(f"{name} is no node: it must be its address, such as https://sync.example.com")
    if len(name) > _MAX_NAME or name.endswith("/"):
        raise ConfigError(f"{name} is no node: at most {_MAX_NAME} characters, without a slash at its end")
