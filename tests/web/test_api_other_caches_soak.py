"""The API suite with the storage cached by each provider that processes share, for every database and kind."""

from __future__ import annotations

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.api_suite.fixtures import SECRET
from syncstore.testing.cached_app import LIVING, cluster_settings
from syncstore.testing.zookeeper_servers import ZooKeeperServer

pytestmark = pytest.mark.soak
globals().update(suite())

PROVIDERS = {
    "shmcb": "shmcb:{folder}/cache(60000000) item_size=1000000",
    "dbm": "dbm:{folder}/cache.db max_value=16777216",
    "zookeeper": "zookeeper:main/cache",
}
TOO_SMALL = {("shmcb", "cached only"), ("zookeeper", "cached only")}
"""The suite's greatest uploads do not fit into one value there, and are refused, as they must be."""


@pytest.fixture(scope="module", params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    """The name of the suite's cache."""
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=LIVING)
def living(request: pytest.FixtureRequest, provider: str) -> str:
    """Where the suite's collections live."""
    if (provider, request.param) in TOO_SMALL:
        pytest.skip("the suite has greater uploads than fit into one value")
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def app_settings(
    database_url: str,
    zookeeper_server: ZooKeeperServer,
    provider: str,
    living: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """The suite's app, over the database of this turn."""
    folder = tmp_path_factory.mktemp("cache")
    return {
        "sqlalchemy.url": database_url,
        "auth.secrets": SECRET,
        "migrate": "auto",
        "cache.provider": PROVIDERS[provider].format(folder=folder),
        **cluster_settings(zookeeper_server.hosts),
        **LIVING[living],
    }
