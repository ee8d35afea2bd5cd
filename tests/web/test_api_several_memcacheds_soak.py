"""The API suite over three memcacheds, with and without stand-ins: what a client sees is the same as over one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.cached_app import GREAT_ITEMS, LIVING, cached_settings
from syncstore.testing.plugin import started
from syncstore.testing.servers import MemcachedServer

pytestmark = pytest.mark.soak
globals().update(suite())


@pytest.fixture(scope="module")
def memcacheds() -> Iterator[str]:
    """Three for the module's apps: their addresses, as settings name them."""
    with ExitStack() as ends:
        made = [ends.enter_context(started(lambda: MemcachedServer(options=GREAT_ITEMS))) for _ in range(3)]
        yield " ".join(server.address for server in made)


@pytest.fixture(scope="module", params=LIVING)
def living(request: pytest.FixtureRequest) -> str:
    """Where the suite's collections live."""
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=["false", "true"], ids=["alone", "with stand-ins"])
def app_settings(
    request: pytest.FixtureRequest, database_url: str, memcacheds: str, living: str
) -> dict[str, str]:
    """The suite's app, over the database of this turn."""
    settings = cached_settings(database_url, memcacheds, living, "memcached")
    return settings | {"memcached.allow_failover": request.param}
