"""Who the suite talks to: the server under test, a fresh user for each test, and users beside it.

The neighbours have rows in the collections that the tests use, so that a statement without its
WHERE, or a cache key without its uid, is noticed by whichever test comes across it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncstore.testing.client import SyncClient
from syncstore.testing.transports import InProcess, Live, Transport, WSGIApp

SECRET = "a-secret-of-the-conformance-suite"
COLLECTIONS = ("col", "bookmarks")


@dataclass(frozen=True)
class Server:
    """The server under test. `settings` is None when it runs elsewhere and cannot be configured."""

    transport: Transport
    secret: str
    settings: Mapping[str, str] | None

    def user(self, uid: int | None = None) -> SyncClient:
        """A client of a user nobody else has used (uids are drawn from 10**9 up to 2**31)."""
        return SyncClient(uid or random.randrange(10**9, 2**31), self.secret, self.transport)


@contextmanager
def serving(settings: Mapping[str, str]) -> Iterator[WSGIApp]:
    """The application with these settings, closed at the end."""
    from syncstore.app import make_app  # a live run needs no server code

    app: Any = make_app(dict(settings))
    try:
        yield app
    finally:
        close = getattr(app, "close", None)
        if close is not None:
            close()


@pytest.fixture(scope="module")
def app_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of the app in process. Override this to run the suite over other settings."""
    path: Path = tmp_path_factory.mktemp("api") / "sync.db"
    return {"sqlalchemy.url": f"sqlite:///{path}", "auth.secrets": SECRET, "migrate": "auto"}


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, app_settings: dict[str, str]) -> Iterator[Server]:
    """The server that `--url` and `--secret` name, else an app in this process."""
    url = request.config.getoption("--url", default=None)
    if url:
        live = Live(url)
        yield Server(live, request.config.getoption("--secret"), None)
        live.close()
        return
    with serving(app_settings) as app:
        yield Server(InProcess(app), app_settings["auth.secrets"].split()[-1], app_settings)


@pytest.fixture
def configured(server: Server) -> Iterator[Callable[..., SyncClient]]:
    """`configured(**settings)`: a fresh user of an app with these settings over the same database."""
    if server.settings is None:
        pytest.skip("a running server cannot be configured from here")
    with ExitStack() as apps:

        def client(**settings: str) -> SyncClient:
            assert server.settings is not None
            app = apps.enter_context(serving({**server.settings, **settings}))
            return Server(InProcess(app), server.secret, None).user()

        yield client


class Neighbours:
    """Users whose data must not change while others are tested."""

    def __init__(self, users: list[SyncClient]) -> None:
        self._users = users
        for user in users:
            for collection in COLLECTIONS:
                items: list[dict[str, object]] = [
                    {"id": name, "payload": f"{user.uid} {name}"} for name in ("a", "b", "c", "z")
                ]
                items += [{"id": f"item{n:02}", "payload": "neighbour", "sortindex": n} for n in range(8)]
                assert user.post(f"/storage/{collection}", items).json["failed"] == {}
            user.put("/storage/meta/global", {"payload": "neighbour's"})
            user.put("/storage/crypto/keys", {"payload": "neighbour's"})
        self._seen = self._look()

    def _look(self) -> list[Any]:
        return [
            user.get(path).json
            for user in self._users
            for path in ("/info/collections", *(f"/storage/{name}?full=1" for name in COLLECTIONS))
        ]

    def assert_unchanged(self) -> None:
        before, self._seen = self._seen, self._look()
        assert self._seen == before, "another user's data changed during this test"


@pytest.fixture(scope="module")
def neighbours(server: Server) -> Neighbours:
    return Neighbours([server.user(), server.user()])


@pytest.fixture
def watched_neighbours(neighbours: Neighbours) -> Iterator[Neighbours]:
    """The neighbours, looked after once more when the test is over."""
    yield neighbours
    neighbours.assert_unchanged()


@pytest.fixture
def sync(server: Server, watched_neighbours: Neighbours) -> SyncClient:
    """The user under test: new, with nothing stored."""
    return server.user()


@pytest.fixture
def other(server: Server, watched_neighbours: Neighbours) -> SyncClient:
    """A second new user on the same server."""
    return server.user()


@pytest.fixture
def limits(sync: SyncClient) -> dict[str, int]:
    """What info/configuration promises (section 12)."""
    found: dict[str, int] = sync.get("/info/configuration").json
    return found


@pytest.fixture
def three_writes(sync: SyncClient) -> list[dict[str, Any]]:
    """Twelve items of three POSTs, so that four each share a time; some have a sortindex, some share one."""
    names = [f"item{number:02}" for number in (7, 3, 11, 0, 5, 9, 1, 10, 2, 8, 6, 4)]
    for group in range(3):
        items: list[dict[str, Any]] = [
            {"id": name, "payload": name} for name in names[group * 4 : group * 4 + 4]
        ]
        items[0]["sortindex"] = 5
        items[1]["sortindex"] = -group
        items[2]["sortindex"] = 5
        assert sync.post("/storage/col", items).json["failed"] == {}
    found: list[dict[str, Any]] = sync.get("/storage/col?full=1").json
    assert len(found) == 12
    return found


@pytest.fixture
def groups(sync: SyncClient) -> list[str]:
    """Twelve items in three groups of four with one time each, posted in an order that is no order."""
    names = [f"item{number:02}" for number in (7, 3, 11, 0, 5, 9, 1, 10, 2, 8, 6, 4)]
    for group in (names[:4], names[4:8], names[8:]):
        items = [{"id": name, "payload": name, "sortindex": int(name[4:]) % 3} for name in group]
        items[0].pop("sortindex")
        sync.post("/storage/col", items)
    return names


@pytest.fixture
def stored(sync: SyncClient) -> SyncClient:
    """Item, collection and storage with a time of their own each: a < col < storage."""
    sync.put("/storage/col/a", {"payload": "x"})
    sync.put("/storage/col/b", {"payload": "y"})
    sync.put("/storage/elsewhere/c", {"payload": "z"})
    return sync


FIXTURES: Mapping[str, object] = {
    "app_settings": app_settings,
    "server": server,
    "configured": configured,
    "neighbours": neighbours,
    "watched_neighbours": watched_neighbours,
    "sync": sync,
    "other": other,
    "limits": limits,
    "three_writes": three_writes,
    "groups": groups,
    "stored": stored,
}
"""What a module that runs the suite needs to have in its namespace."""
