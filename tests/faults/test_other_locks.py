"""The setting lock.backend is changed on one server after the other, under load: the data stay exact throughout."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from syncstore.testing.cache_load import CacheLoad
from syncstore.testing.cache_stand import CacheStand, cache_settings
from syncstore.testing.cached_app import zookeeper_settings
from syncstore.testing.history import problems
from syncstore.testing.load import Load
from syncstore.testing.service import SECRET, SyncServer, write_ini
from syncstore.testing.zookeeper_servers import ZooKeeperServer

SHORT = 1.5
LONG = float(os.environ.get("SOAK_SECONDS", "30"))
SECONDS = [SHORT, pytest.param(LONG, marks=[pytest.mark.soak, pytest.mark.timeout(LONG + 180)])]
DATABASE = "postgresql"


@pytest.fixture(scope="module")
def in_zookeeper(zookeeper_server: ZooKeeperServer) -> dict[str, str]:
    return zookeeper_settings(zookeeper_server.hosts)


def change(server: SyncServer, settings: Mapping[str, str]) -> None:
    """Give a server these settings beside those that it needs, and start it anew on its port."""
    write_ini(server.directory / "syncstore.ini", {"auth.secrets": SECRET, "migrate": "auto", **settings})
    server.restart()


@pytest.mark.parametrize("seconds", SECONDS)
def test_from_sql_to_zookeeper(
    one_database_url: str, in_zookeeper: dict[str, str], tmp_path: Path, seconds: float
) -> None:
    """Three stages: all in SQL, one of each kind, all in ZooKeeper."""
    with ExitStack() as stack:
        servers = [stack.enter_context(SyncServer(one_database_url, workers=1)) for _ in range(2)]
        uids = random.sample(range(1, 2**31), 2)
        load = stack.enter_context(
            closing(Load([one.url for one in servers], SECRET, uids, tmp_path, writers=4))
        )
        load.run(seconds / 3)
        for server in servers:
            change(server, {"sqlalchemy.url": one_database_url, **in_zookeeper})
            load.run(seconds)
        history = load.history()

        assert problems(history) == []
        assert {one.sent.op for one in history if one.status == 200} >= {"put", "post", "commit", "read"}
        for server in servers:
            assert "Traceback" not in server.log.read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def stand(one_database_url: str) -> Iterator[CacheStand]:
    with CacheStand(one_database_url, servers=2, workers=1, more={"lock.backend": "memcached"}) as running:
        yield running


@pytest.mark.parametrize("seconds", SECONDS)
def test_from_memcached_to_zookeeper(
    stand: CacheStand, in_zookeeper: dict[str, str], tmp_path: Path, seconds: float
) -> None:
    """With collections of every kind, also such as are in the cache alone."""
    with CacheLoad(stand, tmp_path) as load:
        load.run(seconds / 3)
        for server in stand.servers:
            change(server, {"sqlalchemy.url": stand.database_url, **cache_settings(**in_zookeeper)})
            load.run(seconds)

        assert load.problems() == []
