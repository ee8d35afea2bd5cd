"""The API suite, in process, with locks in ZooKeeper and no cache, on every database."""

from __future__ import annotations

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.api_suite.fixtures import SECRET
from syncstore.testing.cached_app import zookeeper_settings
from syncstore.testing.zookeeper_servers import ZooKeeperServer

pytestmark = pytest.mark.soak
globals().update(suite())


@pytest.fixture(scope="module")
def app_settings(database_url: str, zookeeper_server: ZooKeeperServer) -> dict[str, str]:
    """The suite's app, without a cache."""
    return {
        "sqlalchemy.url": database_url,
        "auth.secrets": SECRET,
        "migrate": "auto",
        **zookeeper_settings(zookeeper_server.hosts),
    }
