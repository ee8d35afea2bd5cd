"""Forgetting replaced records: the storage under the old uid first, then the record, in bounded steps.

A record of this server's own node is deleted through the storage itself, one of another node by a signed DELETE of
its endpoint. What fails is tried again a grace period later, so that one node that is away stops nobody.
"""

from __future__ import annotations

import http.client
import logging
import ssl
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from syncstore.auth.hawk import sign
from syncstore.auth.secrets import Secrets
from syncstore.auth.tokens import derive_key, make_token
from syncstore.clock import Clock
from syncstore.errors import SyncError
from syncstore.tokenserver.claims import fxa_kid
from syncstore.tokenserver.connections import Connections, Service
from syncstore.tokenserver.exchange import Deadline, DeadlineConnection
from syncstore.tokenserver.issuing import endpoint
from syncstore.tokenserver.nodes import free_place
from syncstore.tokenserver.schema import THIS_NODE, nodes, users

log = logging.getLogger(__name__)

_ROWS = 10
_TOKEN_SECONDS = 300


class NotDeleted(SyncError):
    """A node did not delete a user's data. The text says why."""


class Forgotten(msgspec.Struct, frozen=True):
    """What one step did: records deleted, and those left for later."""

    deleted: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Replaced:
    """A record that is no longer anybody's. `node` is None when the node's row is gone."""

    uid: int
    email: str
    generation: int
    client_state: str
    keys_changed_at: int | None
    replaced_at: int
    node_id: int | None
    node: str | None
    downed: bool
    endpoint: str


class RemoteNode:
    """Deletes users of other nodes. `timeout` is in seconds, for one whole exchange."""

    def __init__(self, secrets: Secrets, clock: Clock, timeout: float) -> None:
        self._secrets = secrets
        self._clock = clock
        self._timeout = timeout

    def delete(self, record: Replaced) -> None:
        """Send the signed DELETE. Raises NotDeleted."""
        node = record.node or ""
        known = self._secrets.for_node(node)
        if not known:
            raise NotDeleted(f"there is no secret for the node {node}")
        secret = known[-1]
        now = int(self._clock.seconds())
        try:
            claims = {
                "uid": record.uid,
                "node": node,
                "expires": now + _TOKEN_SECONDS,
                "fxa_uid": record.email.partition("@")[0],
                # ValueError where another server wrote a client state that is not hex
                "fxa_kid": fxa_kid(record.keys_changed_at, record.generation, record.client_state),
            }
            token = make_token(claims, secret)
            header = sign("DELETE", record.endpoint, token, derive_key(token, secret), ts=now)
            status = self._send(record.endpoint, header)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise NotDeleted(f"{node}: {type(error).__name__}: {error}") from error
        # A redirect above all has deleted nothing, and to follow it would hand the token to somebody else.
        if not 200 <= status < 300 and status != 404:
            raise NotDeleted(f"{node} answers {status}")

    def _send(self, url: str, header: str) -> int:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        connection = DeadlineConnection(
            parts.hostname or "",
            parts.port or (443 if secure else 80),
            ssl.create_default_context() if secure else None,
            Deadline(self._clock, self._clock.monotonic() + self._timeout),
        )
        try:
            connection.request("DELETE", parts.path, headers={"Authorization": header})
            with connection.getresponse() as response:
                return response.status
        finally:
            connection.close()


class ReplacedUsers:
    """The purge of one database of users.

    `delete_here` deletes the storage of a uid of this server, whose node has one of `own_names`; `grace` is in
    seconds. With `force` records of nodes that are down are forgotten without a word to the node.
    """

    def __init__(
        self,
        connections: Connections,
        clock: Clock,
        delete_here: Callable[[int], None],
        delete_there: Callable[[Replaced], None],
        *,
        own_names: Collection[str],
        grace: int,
        force: bool = False,
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._delete_here = delete_here
        self._delete_there = delete_there
        self._own = {THIS_NODE, *own_names}
        self._grace_ms = grace * 1000
        self._force = force

    def steps(self) -> Iterator[Forgotten]:
        """One pass over all replaced records, a few at a time."""
        before = self._clock.now_ms() - self._grace_ms
        after = -1
        while True:
            found = self._connections.read(partial(_replaced, before=before, after=after))
            deleted = sum([self._forget(record) for record in found])
            yield Forgotten(deleted, len(found) - deleted)
            if len(found) < _ROWS:
                return
            after = found[-1].uid

    def _forget(self, record: Replaced) -> bool:
        if record.node is not None:
            if record.downed and not self._force:
                return False
            # The records before it may have taken minutes: whose user was made present again keeps the data.
            if not self._connections.read(lambda connection, _: _is_still(connection, record)):
                return False
            try:
                if not record.downed:
                    self._delete_data(record)
            except SyncError as error:
                log.warning("uid %d is purged later: %s", record.uid, error)
                self._connections.write(lambda connection, _: _postpone(connection, record, self._clock))
                return False
        self._connections.write(lambda connection, _: _drop(connection, record))
        return True

    def _delete_data(self, record: Replaced) -> None:
        if record.node in self._own:
            self._delete_here(record.uid)
        else:
            self._delete_there(record)


def _replaced(connection: Connection, service: Service, *, before: int, after: int) -> list[Replaced]:
    statement = (
        select(users, nodes.c.node, nodes.c.downed)
        .select_from(users.outerjoin(nodes, nodes.c.id == users.c.nodeid))
        .where(users.c.service == service.id, users.c.replaced_at < before, users.c.uid > after)
        .order_by(users.c.uid)
        .limit(_ROWS)
    )
    return [
        Replaced(
            uid=row.uid,
            email=row.email,
            generation=row.generation,
            client_state=row.client_state,
            keys_changed_at=row.keys_changed_at,
            replaced_at=row.replaced_at,
            node_id=row.nodeid,
            node=row.node,
            downed=bool(row.downed),
            endpoint=endpoint(service.pattern, row.node or "", row.uid),
        )
        for row in connection.execute(statement)
    ]


def _same(record: Replaced) -> ColumnElement[bool]:
    """Its row, if it is still replaced as it was found."""
    return and_(users.c.uid == record.uid, users.c.replaced_at == record.replaced_at)


def _is_still(connection: Connection, record: Replaced) -> bool:
    return connection.execute(select(users.c.uid).where(_same(record))).one_or_none() is not None


def _drop(connection: Connection, record: Replaced) -> None:
    gone = connection.execute(delete(users).where(_same(record))).rowcount
    if gone and record.node_id is not None:
        free_place(connection, record.node_id)


def _postpone(connection: Connection, record: Replaced, clock: Clock) -> None:
    connection.execute(update(users).where(_same(record)).values(replaced_at=clock.now_ms()))
