"""The API suite with memcached, for every database, kind of collection and lock backend: 27 times the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.cached_app import GREAT_ITEMS, LIVING, cached_settings, zookeeper_settings
from syncstore.testing.plugin import started
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.zookeeper_servers import ZooKeeperServer

pytestmark = pytest.mark.soak
globals().update(suite())


@pytest.fixture(scope="module")
def memcached() -> Iterator[MemcachedServer]:
    """A memcached for the module's apps."""
    made = started(lambda: MemcachedServer(options=GREAT_ITEMS))
    yield made
    made.close()


@pytest.fixture(scope="module", params=LIVING)
def living(request: pytest.FixtureRequest) -> str:
    """Where the suite's collections live."""
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=["sql", "memcached", "zookeeper"])
def app_settings(
    request: pytest.FixtureRequest,
    database_url: str,
    memcached: MemcachedServer,
    zookeeper_server: ZooKeeperServer,
    living: str,
) -> dict[str, str]:
    """The suite's app, over the database of this turn."""
    settings = cached_settings(database_url, memcached.address, living, request.param)
    return settings | (zookeeper_settings(zookeeper_server.hosts) if request.param == "zookeeper" else {})
