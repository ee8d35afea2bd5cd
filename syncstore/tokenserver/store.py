"""The store of users: which uid and node an account has, given or changed as its requests tell."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, literal, update

from syncstore.clock import Clock
from syncstore.tokenserver.access import Access
from syncstore.tokenserver.connections import Connections, Service
from syncstore.tokenserver.nodes import best_node, take_place
from syncstore.tokenserver.records import History, Plan, Record, history, plan
from syncstore.tokenserver.rules import Claim, Known
from syncstore.tokenserver.schema import users


@dataclass(frozen=True)
class Assignment:
    """Where an account's storage is: uid and node, what is stored of the account, and the endpoint's pattern.

    `first_seen_at` is in milliseconds.
    """

    uid: int
    node: str
    known: Known
    pattern: str
    first_seen_at: int


class UserStore:
    """All users of one database."""

    def __init__(self, connections: Connections, access: Access, clock: Clock) -> None:
        self._connections = connections
        self._access = access
        self._clock = clock

    @property
    def kind(self) -> str:
        """The kind of database: `sqlite`, `mysql` or `postgresql`."""
        return self._connections.kind

    def assign(self, account: str, email: str, claim: Claim) -> Assignment:
        """The user of an account, made or changed if the claim says so; everything is checked before that.

        Raises NewUsersDisabled, the error of the rule that the claim breaks, or NoNode.
        """

        def look(connection: Connection, service: Service) -> Assignment | None:
            found, planned = self._plan(connection, service, account, email, claim)
            if planned.changes or planned.current is None:
                return None
            return _assignment(planned.current, service, found)

        def change(connection: Connection, service: Service) -> Assignment:
            # Looked at again, since another process may have been quicker.
            found, planned = self._plan(connection, service, account, email, claim)
            return self._apply(connection, service, email, found, planned)

        return self._connections.read(look) or self._connections.write(change)

    def _plan(
        self, connection: Connection, service: Service, account: str, email: str, claim: Claim
    ) -> tuple[History, Plan]:
        found = history(connection, service, account, email)
        self._access.check(account, known=bool(found.records), listed=found.listed)
        return found, plan(found, claim)

    def _apply(
        self, connection: Connection, service: Service, email: str, found: History, planned: Plan
    ) -> Assignment:
        current = planned.current
        if current is not None and planned.leftovers:
            # What two servers left behind that gave one account a record each at the same time.
            connection.execute(
                update(users).where(users.c.uid.in_(planned.leftovers)).values(replaced_at=current.created_at)
            )
        if current is None or planned.new_record:
            current = self._add(connection, service, email, found, planned)
        elif planned.values != current.known:
            _advance(connection, service, email, planned.values)
            current = Record(
                current.uid, planned.values, current.created_at, None, current.node_id, current.node
            )
        return _assignment(current, service, found)

    def _add(
        self, connection: Connection, service: Service, email: str, found: History, planned: Plan
    ) -> Record:
        current, values = planned.current, planned.values
        if planned.same_node and current is not None:
            node_id, node = current.node_id, current.node
        else:
            best = best_node(connection, service)
            node_id, node = best.id, best.name
        # Newer than all before, whatever the clock did: of records of one generation the newest counts.
        newest = max((record.created_at for record in found.records), default=-1)
        now = max(self._clock.now_ms(), newest + 1)
        added = connection.execute(
            insert(users).values(
                service=service.id,
                email=email,
                generation=values.generation,
                client_state=values.client_state,
                created_at=now,
                replaced_at=None,
                nodeid=node_id,
                keys_changed_at=values.keys_changed_at,
            )
        )
        key = added.inserted_primary_key
        assert key is not None and node_id is not None  # noqa: S101, PT018 - what an insert of one row gives
        if current is not None:
            connection.execute(
                update(users)
                .where(
                    users.c.service == service.id,
                    users.c.email == email,
                    users.c.replaced_at.is_(None),
                    users.c.created_at < now,
                )
                .values(replaced_at=now)
            )
        take_place(connection, node_id)
        return Record(key.uid, values, now, None, node_id, node)


def _advance(connection: Connection, service: Service, email: str, values: Known) -> None:
    """Let the values of the present record grow, never shrink."""
    keys = literal(values.keys_changed_at, users.c.keys_changed_at.type)
    connection.execute(
        update(users)
        .where(
            users.c.service == service.id,
            users.c.email == email,
            users.c.replaced_at.is_(None),
            users.c.generation <= values.generation,
            func.coalesce(users.c.keys_changed_at, 0) <= func.coalesce(keys, users.c.keys_changed_at, 0),
        )
        .values(generation=values.generation, keys_changed_at=values.keys_changed_at)
    )


def _assignment(record: Record, service: Service, found: History) -> Assignment:
    first_seen_at = found.first_seen_at or record.created_at
    return Assignment(record.uid, record.node or "", record.known, service.pattern, first_seen_at)
