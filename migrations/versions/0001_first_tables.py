"""The first tables.

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

NEVER = 9_999_999_999_999
STANDARD = (
    (1, "clients"),
    (2, "crypto"),
    (3, "forms"),
    (4, "history"),
    (5, "keys"),
    (6, "meta"),
    (7, "bookmarks"),
    (8, "prefs"),
    (9, "tabs"),
    (10, "passwords"),
    (11, "addons"),
    (12, "addresses"),
    (13, "creditcards"),
)
OPTIONS = {"mysql_engine": "InnoDB", "mysql_default_charset": "utf8mb4", "mysql_row_format": "DYNAMIC"}


def item_id() -> sa.types.TypeEngine[str]:
    return (
        sa.String(64)
        .with_variant(mysql.VARBINARY(64), "mysql", "mariadb")
        .with_variant(sa.String(64, collation="C"), "postgresql")
    )


def payload() -> sa.types.TypeEngine[str]:
    return (
        sa.Text()
        .with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(sa.LargeBinary(), "postgresql")
    )


def key(name: str, kind: type[sa.types.TypeEngine[int]] = sa.BigInteger) -> sa.Column[int]:
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def upgrade() -> None:
    op.create_table(
        "storage_users",
        key("userid"),
        sa.Column("high_water", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **OPTIONS,
    )
    name = sa.String(32).with_variant(
        mysql.VARCHAR(32, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
    )
    collections = op.create_table(
        "collections",
        key("collectionid", sa.Integer),
        sa.Column("name", name, nullable=False, unique=True),
        if_not_exists=True,
        **OPTIONS,
    )
    if not op.get_bind().execute(sa.text("SELECT COUNT(*) FROM collections")).scalar():
        op.bulk_insert(collections, [{"collectionid": number, "name": text} for number, text in STANDARD])
    op.create_table(
        "user_collections",
        key("userid"),
        key("collection", sa.Integer),
        sa.Column("last_modified", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **OPTIONS,
    )
    op.create_table(
        "bso",
        key("userid"),
        key("collection", sa.Integer),
        sa.Column("id", item_id(), primary_key=True),
        sa.Column("sortindex", sa.Integer, nullable=True),
        sa.Column("modified", sa.BigInteger, nullable=False),
        sa.Column("payload", payload(), nullable=False),
        sa.Column("payload_size", sa.Integer, nullable=False),
        sa.Column("ttl", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **OPTIONS,
    )
    create_index("bso_modified", "bso", ["userid", "collection", "modified", "id"])
    expiring = sa.text(f"ttl < {NEVER}")
    create_index("bso_ttl", "bso", ["userid", "ttl"], sqlite_where=expiring, postgresql_where=expiring)
    op.create_table(
        "batch_uploads",
        key("userid"),
        key("batch"),
        sa.Column("collection", sa.Integer, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **OPTIONS,
    )
    create_index("batch_uploads_created", "batch_uploads", ["created"])
    op.create_table(
        "batch_upload_items",
        key("userid"),
        key("batch"),
        sa.Column("id", item_id(), primary_key=True),
        sa.Column("sortindex", sa.Integer, nullable=True),
        sa.Column("payload", payload(), nullable=True),
        sa.Column("payload_size", sa.Integer, nullable=True),
        sa.Column("ttl_offset", sa.Integer, nullable=True),
        if_not_exists=True,
        **OPTIONS,
    )


def create_index(name: str, table: str, columns: list[str], **options: Any) -> None:
    # MySQL, unlike MariaDB, knows no CREATE INDEX IF NOT EXISTS.
    if not any(index["name"] == name for index in sa.inspect(op.get_bind()).get_indexes(table)):
        op.create_index(name, table, columns, **options)


def downgrade() -> None:
    raise NotImplementedError("the first schema has nothing to go back to")
