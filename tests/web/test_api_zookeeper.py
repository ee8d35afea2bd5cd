"""The API suite, in process, with locks in ZooKeeper and no cache. The soak has it with one, and on every database."""

from __future__ import annotations

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.api_suite.fixtures import SECRET
from syncstore.testing.cached_app import zookeeper_settings
from syncstore.testing.zookeeper_servers import ZooKeeperServer

pytestmark = pytest.mark.soak  # in every run the recorded session has such locks, on each database
globals().update(suite())

# The other databases are in test_api_zookeeper_soak.py, and caches in test_api_cached_soak.py.
DATABASE = "postgresql"


@pytest.fixture(scope="module")
def app_settings(one_database_url: str, zookeeper_server: ZooKeeperServer) -> dict[str, str]:
    """The suite's app, without a cache."""
    return {
        "sqlalchemy.url": one_database_url,
        "auth.secrets": SECRET,
        "migrate": "auto",
        **zookeeper_settings(zookeeper_server.hosts),
    }
