"""Times of collections whose items live in a cache alone, and the states of cache servers.

Processes of the version before may run beside it: they leave the new column NULL.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPTIONS = {"mysql_engine": "InnoDB", "mysql_default_charset": "utf8mb4", "mysql_row_format": "DYNAMIC"}


def upgrade() -> None:
    # MySQL, unlike MariaDB, knows no ADD COLUMN IF NOT EXISTS.
    columns = sa.inspect(op.get_bind()).get_columns("storage_users")
    if not any(column["name"] == "cached" for column in columns):
        op.add_column("storage_users", sa.Column("cached", sa.LargeBinary, nullable=True))
    name = sa.String(255).with_variant(
        mysql.VARCHAR(255, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
    )
    op.create_table(
        "cache_servers",
        sa.Column("name", name, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        if_not_exists=True,
        **OPTIONS,
    )


def downgrade() -> None:
    op.drop_table("cache_servers")
    op.drop_column("storage_users", "cached")
