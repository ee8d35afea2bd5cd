"""What happens to users without a request of theirs: by an operator, or because the account server reports it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.tokenserver.connections import Connections, Service
from syncstore.tokenserver.rules import MAX_GENERATION
from syncstore.tokenserver.schema import admissions, nodes, users

_MAX_NAME = 255


@dataclass(frozen=True)
class User:
    """A present user. `node` is None when it will be given one; `created_at` is in milliseconds."""

    uid: int
    email: str
    node: str | None
    created_at: int
    retired: bool


@dataclass(frozen=True)
class Listed:
    """An entry of the list: an account id or e-mail address that is allowed, or denied."""

    who: str
    allowed: bool
    added_at: int


class Register:
    """All users of one database, and the list of who may be one. `email_domain` is that of their addresses."""

    def __init__(self, connections: Connections, clock: Clock, email_domain: str) -> None:
        self._connections = connections
        self._clock = clock
        self._email_domain = email_domain

    # -- an operator's

    def users(self) -> list[User]:
        """Every present user, by uid; replaced records are left out."""

        def work(connection: Connection, service: Service) -> list[User]:
            statement = (
                select(users, nodes.c.node)
                .select_from(users.outerjoin(nodes, nodes.c.id == users.c.nodeid))
                .where(users.c.service == service.id, users.c.replaced_at.is_(None))
                .order_by(users.c.uid)
            )
            return [
                User(row.uid, row.email, row.node, row.created_at, row.generation >= MAX_GENERATION)
                for row in connection.execute(statement)
            ]

        return self._connections.read(work)

    def listed(self) -> list[Listed]:
        """The whole list."""

        def work(connection: Connection, _service: Service) -> list[Listed]:
            rows = connection.execute(select(admissions).order_by(admissions.c.who))
            return [Listed(row.who, bool(row.allowed), row.added_at) for row in rows]

        return self._connections.read(work)

    def put_on_list(self, who: str, *, allowed: bool) -> None:
        """Allow or deny an account, by its id or e-mail address; the last word counts."""
        name = _checked(who)

        def work(connection: Connection, _service: Service) -> None:
            connection.execute(delete(admissions).where(admissions.c.who == name))
            connection.execute(
                insert(admissions).values(who=name, allowed=int(allowed), added_at=self._clock.now_ms())
            )

        self._connections.write(work)

    def delete(self, who: str) -> list[int]:
        """Take away the users of an account, and that it was allowed; their uids. A denial outlives its user.

        Their data are deleted by the purge, `purge.grace` seconds later. An account that may come in and comes
        again is a new user. Without a user the account is taken off the list. Raises ConfigError when there is
        neither.
        """
        name = _checked(who)
        emails = {name, who.strip(), self._email(name), self._email(who.strip())}

        def work(connection: Connection, service: Service) -> list[int]:
            mine = (users.c.service == service.id, users.c.email.in_(sorted(emails)))
            rows = connection.execute(select(users.c.uid, users.c.email).where(*mine)).all()
            connection.execute(
                update(users)
                .where(*mine, users.c.replaced_at.is_(None))
                .values(replaced_at=self._clock.now_ms())
            )
            for email in {row.email for row in rows}:
                # Until they are purged the rows must not speak for the account: whoever has one is no new user.
                forgotten = email.partition("@")[0] + "@"
                connection.execute(
                    update(users)
                    .where(users.c.service == service.id, users.c.email == email)
                    .values(email=forgotten)
                )
            entry = delete(admissions).where(admissions.c.who == name)
            if rows:
                entry = entry.where(admissions.c.allowed != 0)
            if not connection.execute(entry).rowcount and not rows:
                raise ConfigError(f"there is no user {who}: `syncstore user list` shows those that are")
            return sorted(row.uid for row in rows)

        return self._connections.write(work)

    def _email(self, account: str) -> str:
        return account if "@" in account else f"{account}@{self._email_domain}"

    # -- the account server's

    def retire(self, account: str) -> int:
        """The account was deleted: no token that it had before opens anything; the number of records changed."""

        def work(connection: Connection, service: Service) -> int:
            statement = update(users).where(*self._present(service, account))
            changed = connection.execute(
                statement.values(generation=MAX_GENERATION, replaced_at=self._clock.now_ms())
            )
            return changed.rowcount

        return self._connections.write(work)

    def credentials_changed(self, account: str, generation: int) -> int:
        """No token from before `generation` counts any more; the number of records changed. It never shrinks."""

        def work(connection: Connection, service: Service) -> int:
            statement = update(users).where(
                *self._present(service, account), users.c.generation < generation - 1
            )
            return connection.execute(statement.values(generation=generation - 1)).rowcount

        return self._connections.write(work)

    def _present(self, service: Service, account: str) -> tuple[ColumnElement[bool], ...]:
        return (
            users.c.service == service.id,
            users.c.email == self._email(account),
            users.c.replaced_at.is_(None),
        )


def _checked(who: str) -> str:
    name = who.strip().lower()
    if not name or len(name) > _MAX_NAME or any(character.isspace() for character in name):
        raise ConfigError(f"{who!r} is neither an account id nor an e-mail address")
    return name
