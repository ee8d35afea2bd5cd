"""The API suite, in process, with the cache of one process, as in development."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from syncstore.testing.api_suite import suite
from syncstore.testing.api_suite.fixtures import SECRET, Server, serving
from syncstore.testing.cached_app import LIVING
from syncstore.testing.client import SyncClient
from syncstore.testing.transports import InProcess

globals().update(suite())


@pytest.fixture(scope="module")
def app_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The suite's app, as `make serve` runs it, with copies of all collections."""
    return {
        "sqlalchemy.url": f"sqlite:///{tmp_path_factory.mktemp('memory') / 'sync.db'}",
        "auth.secrets": SECRET,
        "migrate": "auto",
        "cache.provider": "memory",
        **LIVING["written through"],
    }


@pytest.fixture
def configured(app_settings: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., SyncClient]]:
    """As in the suite, but each app over a database of its own: only one process may have a memory of one."""
    with ExitStack() as apps:
        numbers = iter(range(100))

        def client(**settings: str) -> SyncClient:
            url = f"sqlite:///{tmp_path / str(next(numbers))}.db"
            app = apps.enter_context(serving({**app_settings, "sqlalchemy.url": url, **settings}))
            return Server(InProcess(app), SECRET, None).user()

        yield client
