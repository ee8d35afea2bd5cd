"""The API suite over HTTP: `syncstore serve` with two workers, over each database.

What the in-process run cannot show: granian's view of the request (no raw target, its own parsing of bodies and
headers), two processes that share nothing but the database, and keep-alive connections.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.api_suite.fixtures import Server
from syncstore.testing.client import Live
from syncstore.testing.service import SECRET, SyncServer

globals().update(suite())


@pytest.fixture(scope="module")
def server(database_url: str) -> Iterator[Server]:
    """The suite's server: the product as its operators start it."""
    with SyncServer(database_url, workers=2) as service:
        live = Live(service.url)
        yield Server(live, SECRET, None)
        live.close()
