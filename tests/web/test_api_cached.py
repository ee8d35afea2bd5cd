"""The API suite, in process, with memcached: what a client sees is the same wherever collections and locks live."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.cached_app import GREAT_ITEMS, cached_settings
from syncstore.testing.plugin import started
from syncstore.testing.servers import MemcachedServer

globals().update(suite())

# One pair for each database here; test_api_cached_soak.py has every one of them.
CHOSEN = {
    "sqlite": ("cached only", "memcached"),
    "mysql": ("written through", "memcached"),
    "postgresql": ("cached only", "sql"),
}


@pytest.fixture(scope="module")
def memcached() -> Iterator[MemcachedServer]:
    """A memcached for the module's apps."""
    made = started(lambda: MemcachedServer(options=GREAT_ITEMS))
    yield made
    made.close()


@pytest.fixture(scope="module")
def app_settings(database_url: str, memcached: MemcachedServer) -> dict[str, str]:
    """The suite's app, over the database of this turn."""
    kind, locks = CHOSEN[database_url.partition(":")[0].partition("+")[0]]
    return cached_settings(database_url, memcached.address, kind, locks)
