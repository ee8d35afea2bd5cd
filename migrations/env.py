"""Alembic's entry point, for the `alembic` command. The service runs migrations through
`syncstore.storage.sql.migrate`, which configures the environment itself."""

from __future__ import annotations
