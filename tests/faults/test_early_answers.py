"""Answers that are decided before the body was read, through a proxy that is still sending it.

A server that answers and closes at once resets a connection on which the proxy goes on writing, and the proxy
then tells the client 502 in place of the answer: a client whose token has just expired would not fetch a new one.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import NginxServer
from syncstore.testing.service import SECRET, SyncServer
from syncstore.testing.transports import Live

NGINX = """
server {{
    listen {host}:{port};
    client_max_body_size 4m;
    location / {{
        proxy_pass http://{host}:{behind};
        proxy_set_header Host $http_host;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }}
}}
"""
LARGE = "x" * 2_500_000
ROUNDS = 25


@pytest.fixture(scope="module")
def behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    url = f"sqlite:///{tmp_path_factory.mktemp('early') / 'sync.db'}"
    port = free_port()
    with SyncServer(url, workers=1) as service:
        servers = NGINX.format(host=HOST, port=port, behind=service.port)
        proxy = started(lambda: NginxServer(servers, port))
        live = Live(f"http://{HOST}:{port}")
        yield live
        live.close()
        proxy.close()


@pytest.fixture
def sync(behind_nginx: Live) -> SyncClient:
    return SyncClient(random.randrange(1, 2**31), SECRET, behind_nginx)


def test_an_expired_token_is_401_however_large_the_body(sync: SyncClient) -> None:
    expired = sync.mint(expires=int(time.time()) - 60)
    statuses = {
        sync.post("/storage/col", [{"id": "a", "payload": LARGE}], credentials=expired).status
        for _ in range(ROUNDS)
    }
    assert statuses == {401}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-If-Unmodified-Since": "yesterday"}, 400),
        ({"X-Weave-Records": "101"}, 400),
        ({"Content-Type": "application/octet-stream"}, 415),
    ],
)
def test_a_refusal_arrives_however_large_the_body(
    sync: SyncClient, headers: dict[str, str], status: int
) -> None:
    statuses = {
        sync.post("/storage/col", [{"id": "a", "payload": LARGE}], headers).status for _ in range(ROUNDS)
    }
    assert statuses == {status}
