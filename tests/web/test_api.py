"""The API suite, in process, over each database."""

from __future__ import annotations

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.api_suite.fixtures import SECRET

globals().update(suite())


@pytest.fixture(scope="module")
def app_settings(database_url: str) -> dict[str, str]:
    """The suite's app, over the database of this turn."""
    return {"sqlalchemy.url": database_url, "auth.secrets": SECRET, "migrate": "auto"}
