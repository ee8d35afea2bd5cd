"""A token server's database of each kind, empty but for the one service, and its parts on a clock of the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.storage.sql import migrate
from syncstore.storage.sql.migrate import TOKENSERVER
from syncstore.testing.token_database import TokenDatabase, open_token_database


@pytest.fixture(scope="module")
def migrated_url(database_url: str) -> str:
    migrate.upgrade(database_url, TOKENSERVER)
    return database_url


@pytest.fixture
def ini() -> dict[str, str]:
    """Settings that a test adds."""
    return {}


@pytest.fixture
def tokens(migrated_url: str, ini: dict[str, str]) -> Iterator[TokenDatabase]:
    """An empty token server's database, with the rows of other users as noise."""
    opened = open_token_database(migrated_url, ini)
    for table in ("users", "nodes", "admissions"):
        opened.execute(f"DELETE FROM {table}")
    opened.add_user("noise", nodeid=987, client_state="bbbb", generation=99, keys_changed_at=99)
    yield opened
    opened.connections.close()
