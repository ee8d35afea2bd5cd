"""The first tables, and the one service.

`if_not_exists`: MariaDB and MySQL commit each statement of DDL by itself, so a migration that was killed half way
is run again from its start.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_default_charset": "utf8mb4",
    "mysql_row_format": "DYNAMIC",
    "if_not_exists": True,
}


def text(length: int) -> sa.types.TypeEngine[str]:
    exact = mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin")
    return sa.String(length).with_variant(exact, "mysql", "mariadb")


def number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default="0")


def upgrade() -> None:
    services = op.create_table(
        "services",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("service", text(30), nullable=False),
        sa.Column("pattern", text(128), nullable=True),
        sa.UniqueConstraint("service", name="services_service"),
        **OPTIONS,
    )
    if not op.get_bind().execute(sa.text("SELECT COUNT(*) FROM services")).scalar():
        op.bulk_insert(services, [{"service": "sync-1.5", "pattern": "{node}/1.5/{uid}"}])
    op.create_table(
        "nodes",
        sa.Column("id", number(), primary_key=True, autoincrement=True),
        sa.Column("service", sa.Integer, nullable=False),
        sa.Column("node", text(64), nullable=False),
        *map(count, ("available", "current_load", "capacity", "downed", "backoff")),
        sa.UniqueConstraint("service", "node", name="nodes_service_node"),
        **OPTIONS,
    )
    op.create_table(
        "users",
        sa.Column("uid", number(), primary_key=True, autoincrement=True),
        sa.Column("service", sa.Integer, nullable=False),
        sa.Column("email", text(255), nullable=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("client_state", text(32), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("replaced_at", sa.BigInteger, nullable=True),
        sa.Column("nodeid", sa.BigInteger, nullable=True),
        sa.Column("keys_changed_at", sa.BigInteger, nullable=True),
        sqlite_autoincrement=True,
        **OPTIONS,
    )
    create_index("users_email", "users", ["email", "service", "created_at"])
    create_index("users_replaced_at", "users", ["service", "replaced_at"])
    create_index("users_nodeid", "users", ["nodeid"])
    op.create_table(
        "admissions",
        sa.Column("who", text(255), primary_key=True),
        sa.Column("allowed", sa.Integer, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        **OPTIONS,
    )


def create_index(name: str, table: str, columns: list[str]) -> None:
    # MySQL, unlike MariaDB, knows no CREATE INDEX IF NOT EXISTS.
    if not any(index["name"] == name for index in sa.inspect(op.get_bind()).get_indexes(table)):
        op.create_index(name, table, columns)


def downgrade() -> None:
    raise NotImplementedError("the first schema has nothing to go back to")
