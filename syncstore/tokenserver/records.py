"""The rows of one account, and what a request means for them: which row counts, which are old, what changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from syncstore.tokenserver.connections import Service
from syncstore.tokenserver.errors import InternalError
from syncstore.tokenserver.rules import Claim, Known, decide, first
from syncstore.tokenserver.schema import admissions, nodes, users

_NEWEST = 20


@dataclass(frozen=True)
class Record:
    """One row of `users`. `node` is None when the node's row is gone; times are milliseconds."""

    uid: int
    known: Known
    created_at: int
    replaced_at: int | None
    node_id: int | None
    node: str | None


@dataclass(frozen=True)
class History:
    """All that is stored of an account: its records, the present one first, and what the list says of it."""

    records: Sequence[Record]
    listed: bool | None

    @property
    def first_seen_at(self) -> int:
        """When the oldest record was made, in milliseconds; 0 without any."""
        return min((record.created_at for record in self.records), default=0)


@dataclass(frozen=True)
class Plan:
    """What a request leads to. Without `current` there is no record yet.

    `values` is what will be stored. With `new_record` they get a record of their own: on the node of `current`
    if `same_node`, else on the best one. `leftovers` are the uids of older records that were never replaced.
    """

    values: Known
    current: Record | None = None
    new_record: bool = False
    same_node: bool = False
    leftovers: Sequence[int] = ()

    @property
    def changes(self) -> bool:
        """Whether anything is to be written."""
        current = self.current
        return current is None or self.new_record or self.values != current.known or bool(self.leftovers)


def history(connection: Connection, service: Service, account: str, email: str) -> History:
    """What is stored of the account with this id and e-mail address."""
    statement = (
        select(users, nodes.c.node)
        .select_from(users.outerjoin(nodes, nodes.c.id == users.c.nodeid))
        .where(users.c.email == email, users.c.service == service.id)
        .order_by(users.c.created_at.desc(), users.c.uid.desc())
        .limit(_NEWEST)
    )
    records = [
        Record(
            row.uid,
            Known(row.generation, row.keys_changed_at, row.client_state),
            row.created_at,
            row.replaced_at,
            row.nodeid,
            row.node,
        )
        for row in connection.execute(statement)
    ]
    # A stable sort: of equal ones the newest stays first.
    records.sort(key=lambda record: (record.known.generation, record.created_at), reverse=True)
    return History(records, listed(connection, account, email))


def listed(connection: Connection, account: str, email: str) -> bool | None:
    """What the list says of an account; a denial by one of its names outweighs the other."""
    names = {account.lower(), email.lower()}
    found = connection.execute(select(admissions.c.allowed).where(admissions.c.who.in_(sorted(names))))
    verdicts = [bool(row.allowed) for row in found]
    return all(verdicts) if verdicts else None


def plan(found: History, claim: Claim) -> Plan:
    """What a request leads to. Raises the TokenError of the rule that it breaks (token-api sections 4 and 5)."""
    if not found.records:
        return Plan(first(claim))
    current, *old = found.records
    states = {record.known.client_state for record in old} - {current.known.client_state}
    values = decide(current.known, states, claim)
    leftovers = [record.uid for record in old if record.replaced_at is None]
    if current.known.retired:
        if current.node is None:
            raise InternalError("a retired user whose node is gone")
        return Plan(current.known, current, leftovers=leftovers)
    if current.replaced_at is not None or current.node is None:
        return Plan(values, current, new_record=True, leftovers=leftovers)
    moved_on = values.client_state != current.known.client_state
    return Plan(values, current, new_record=moved_on, same_node=moved_on, leftovers=leftovers)
