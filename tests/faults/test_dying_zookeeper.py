"""The ZooKeeper that keeps the locks is killed or frozen: reads go on, writes are refused in time, nothing is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncstore.testing.api_suite.fixtures import SECRET, serving
from syncstore.testing.cache_stand import in_time
from syncstore.testing.cached_app import zookeeper_settings
from syncstore.testing.client import SyncClient
from syncstore.testing.plugin import started
from syncstore.testing.transports import InProcess
from syncstore.testing.zookeeper_servers import ZooKeeperServer

DATABASE = "mysql"
TIMEOUT = 1.0
OUTAGE = 60
SLACK = 1.5  # for a machine that does other things, too


@pytest.fixture(scope="module")
def server() -> Iterator[ZooKeeperServer]:
    with started(ZooKeeperServer) as running:
        yield running


@pytest.fixture
def sync(one_database_url: str, server: ZooKeeperServer) -> Iterator[SyncClient]:
    settings = {
        "sqlalchemy.url": one_database_url,
        "auth.secrets": SECRET,
        "migrate": "auto",
        "lock.timeout": str(TIMEOUT),
        "retry_after.outage": str(OUTAGE),
        **zookeeper_settings(server.hosts),
    }
    with serving(settings) as app:
        yield SyncClient(random.randrange(1, 2**31), SECRET, InProcess(app))


@pytest.mark.parametrize("trouble", ["kill9", "freeze"])
def test_reads_go_on_and_writes_are_refused_in_time(
    sync: SyncClient, server: ZooKeeperServer, trouble: str
) -> None:
    before = in_time(sync.put, "/storage/col/a", {"payload": "before"}).modified
    getattr(server, trouble)()

    def write(number: int) -> float:
        began = time.monotonic()
        reply = sync.put(f"/storage/col/b{number}", {"payload": "refused"})
        assert reply.status == 503
        assert OUTAGE <= int(reply["Retry-After"]) <= OUTAGE + 5
        return time.monotonic() - began

    with ThreadPoolExecutor(4) as threads:
        waited = list(threads.map(write, range(8)))
    assert max(waited) < TIMEOUT + 0.2 + SLACK
    assert sync.get("/storage/col/a").json["payload"] == "before"
    assert sync.get("/info/collections").json == {"col": before}
    assert sync.get("/__heartbeat__", at="", signed=False).status == 200

    if trouble == "kill9":
        server.start()
    else:
        server.thaw()
    after = in_time(sync.put, "/storage/col/c", {"payload": "after"}).modified
    assert after > before
    assert {item["id"] for item in sync.get("/storage/col?full=1").json} == {"a", "c"}


def test_a_zookeeper_may_come_after_the_servers(sync: SyncClient, server: ZooKeeperServer) -> None:
    server.kill9()
    assert sync.put("/storage/col/a", {"payload": "too early"}).status == 503
    assert sync.get("/info/collections").status == 200
    server.start()
    in_time(sync.put, "/storage/col/a", {"payload": "in time"})
