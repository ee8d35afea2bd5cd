"""The tables of the token server. `migrations/tokenserver` builds exactly these; a test compares them.

Names and order of the columns of the first three are what tools of the field read and write (token-api section
5.1), and no foreign key ties them, since such tools insert users of nodes that are not there. Times are
milliseconds since the epoch. `admissions` is ours: who may come in, and who may not.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, UniqueConstraint
from sqlalchemy.dialects.mysql import VARCHAR

SERVICE = "sync-1.5"
PATTERN = "{node}/1.5/{uid}"

THIS_NODE = "*"
"""The name of the node that is this server, at whatever address it is asked: `public_url`, if that is set.

A name that is no address lets `public_url` change, or be left out, without a row to change by hand.
"""

metadata = MetaData()

# SQLite numbers rows by itself only in a column of exactly this type.
Number = BigInteger().with_variant(Integer(), "sqlite")


def text(length: int) -> String:
    """Text that is compared as it is: MySQL's default collations would take "A" and "a" for one name."""
    exact = VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return String(length).with_variant(exact, "mysql", "mariadb")


services = Table(
    "services",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("service", text(30), nullable=False),
    Column("pattern", text(128), nullable=True),
    UniqueConstraint("service", name="services_service"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", Number, primary_key=True, autoincrement=True),
    Column("service", Integer, nullable=False),
    Column("node", text(64), nullable=False),
    Column("available", Integer, nullable=False, server_default="0"),
    Column("current_load", Integer, nullable=False, server_default="0"),
    Column("capacity", Integer, nullable=False, server_default="0"),
    Column("downed", Integer, nullable=False, server_default="0"),
    Column("backoff", Integer, nullable=False, server_default="0"),
    UniqueConstraint("service", "node", name="nodes_service_node"),
)

users = Table(
    "users",
    metadata,
    Column("uid", Number, primary_key=True, autoincrement=True),
    Column("service", Integer, nullable=False),
    Column("email", text(255), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("client_state", text(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("replaced_at", BigInteger, nullable=True),
    Column("nodeid", BigInteger, nullable=True),
    Column("keys_changed_at", BigInteger, nullable=True),
    # Never give a uid twice: a token for the deleted user would open the new one's storage.
    sqlite_autoincrement=True,
)
Index("users_email", users.c.email, users.c.service, users.c.created_at)
Index("users_replaced_at", users.c.service, users.c.replaced_at)
Index("users_nodeid", users.c.nodeid)

admissions = Table(
    "admissions",
    metadata,
    Column("who", text(255), primary_key=True),
    Column("allowed", Integer, nullable=False),
    Column("added_at", BigInteger, nullable=False),
)
