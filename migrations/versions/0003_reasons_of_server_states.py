"""Since when a cache server is in its state, why, and who said so.

Processes of the version before may run beside it: they leave the new columns as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = (("since", sa.BigInteger), ("reason", sa.String(2000)), ("changed_by", sa.String(100)))


def upgrade() -> None:
    # MySQL, unlike MariaDB, knows no ADD COLUMN IF NOT EXISTS.
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("cache_servers")}
    for name, kind in COLUMNS:
        if name not in there:
            op.add_column("cache_servers", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name, _ in COLUMNS:
        op.drop_column("cache_servers", name)
