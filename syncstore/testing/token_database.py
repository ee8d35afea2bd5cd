"""A token server's database with its rows within reach, as tools of the field read and write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text

from syncstore.app_tokenserver import open_connections, open_nodes, open_users
from syncstore.settings import Settings, read_settings
from syncstore.testing.clocks import SteppableClock
from syncstore.tokenserver.connections import Connections
from syncstore.tokenserver.nodes import Nodes
from syncstore.tokenserver.rules import Claim
from syncstore.tokenserver.store import Assignment, UserStore

DOMAIN = "accounts.test"
NODE = "https://one.example.com"
Row = dict[str, Any]


@dataclass
class TokenDatabase:
    """The parts of a token server over one database, and the rows themselves, as tools of the field write them."""

    url: str
    settings: Settings
    connections: Connections
    clock: SteppableClock
    users: UserStore
    nodes: Nodes

    def assign(
        self, generation: int | None, keys: int | None, state: str = "aaaa", account: str = "ann"
    ) -> Assignment:
        """One request."""
        return self.users.assign(account, f"{account}@{DOMAIN}", Claim(generation, keys, state))

    def execute(self, statement: str, **values: object) -> None:
        with create_engine(self.url, poolclass=NullPool).begin() as connection:
            connection.execute(text(statement), values)

    def rows(self, table: str, order: str) -> list[Row]:
        with create_engine(self.url, poolclass=NullPool).connect() as connection:
            found = connection.execute(text(f"SELECT * FROM {table} ORDER BY {order}"))  # noqa: S608 - names of tests
            return [dict(row) for row in found.mappings()]

    def user_rows(self, account: str = "ann") -> list[Row]:
        return [row for row in self.rows("users", "uid") if row["email"] == f"{account}@{DOMAIN}"]

    def node_row(self, name: str) -> Row:
        return {row["node"]: row for row in self.rows("nodes", "id")}[name]

    @property
    def service(self) -> int:
        return int(self.rows("services", "id")[0]["id"])

    def add_node(self, name: str = NODE, **values: Any) -> int:
        """A row of `nodes` as tools write it; its id."""
        self._insert(
            "nodes",
            {
                "service": self.service,
                "node": name,
                "available": 100,
                "current_load": 0,
                "capacity": 100,
                "downed": 0,
                "backoff": 0,
                **values,
            },
        )
        return int(self.node_row(name)["id"])

    def add_user(self, account: str = "ann", **values: Any) -> int:
        """A row of `users` as tools write it; its uid."""
        self._insert(
            "users",
            {
                "service": self.service,
                "email": f"{account}@{DOMAIN}",
                "generation": 1234,
                "client_state": "aaaa",
                "created_at": 1_000,
                "nodeid": None,
                "keys_changed_at": 1234,
                "replaced_at": None,
                **values,
            },
        )
        return int(self.user_rows(account)[-1]["uid"])

    def _insert(self, table: str, values: Mapping[str, object]) -> None:
        names, marks = ", ".join(values), ", ".join(f":{name}" for name in values)
        self.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", **values)  # noqa: S608 - names of tests


def open_token_database(url: str, ini: Mapping[str, str] | None = None) -> TokenDatabase:
    """The parts over the migrated database at `url`. The caller closes its `connections`."""
    settings = read_settings({"sqlalchemy.url": url, **(ini or {})}, {}, Path())
    clock = SteppableClock()
    connections = open_connections(settings)
    users, nodes = open_users(settings, connections, clock), open_nodes(connections, clock)
    return TokenDatabase(url, settings, connections, clock, users, nodes)
