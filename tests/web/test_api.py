"""The API suite, in process, over each database."""

from __future__ import annotations

import pytest

from syncstore.testing.api_suite import test_classes
from syncstore.testing.api_suite.fixtures import (  # noqa: F401  # pytest finds fixtures by their names here
    SECRET,
    configured,
    groups,
    limits,
    neighbours,
    other,
    server,
    stored,
    sync,
    three_writes,
    watched_neighbours,
)

globals().update(test_classes())


@pytest.fixture(scope="module")
def app_settings(database_url: str) -> dict[str, str]:
    """The suite's app, over the database of this turn."""
    return {"sqlalchemy.url": database_url, "auth.secrets": SECRET, "migrate": "auto"}
