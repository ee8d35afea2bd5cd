"""The pytest plugin: options, the servers that a run shares, and a fresh database of each kind for a module.

A server or driver that is missing skips the tests that need it on a laptop and fails them where CI=true: a
skip would hide there that nothing was proved. What costs time to import is imported where it is used.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import pytest

from syncstore.testing.servers import (
    DatabaseServer,
    MariaDBServer,
    MemcachedServer,
    PostgresServer,
    ProgramMissing,
)

# Plain asserts tell what they compared only in modules that pytest rewrites, and it can do so only before their
# first import: here, as early as there is anything of ours.
pytest.register_assert_rewrite(
    *(
        f"syncstore.testing.{name}"
        for name in (
            "api_suite",
            "client",
            "lock_conformance",
            "record_conformance",
            "replay",
            "replies",
            "transports",
        )
    )
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from syncstore.testing.redis_server import RedisServer
    from syncstore.testing.zookeeper_servers import ZooKeeperEnsemble, ZooKeeperServer

    Server = TypeVar("Server", bound="Startable")

DATABASES = ("sqlite", "mysql", "postgresql")
_DRIVERS = {
    "mysql": ("MySQLdb", "mysqlclient, which is compiled against libmariadb-dev"),
    "postgresql": ("psycopg", "psycopg"),
}
_numbers = itertools.count(1)


class Startable(Protocol):
    """A server, or several that are started as one."""

    def start(self) -> object:
        """Run it, and return when it answers."""

    def close(self) -> None:
        """End it, and remove its data."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("syncstore")
    group.addoption("--url", metavar="URL", help="run the API suite against the live server at this URL")
    group.addoption("--secret", metavar="SECRET", help="the signing secret of that server")
    group.addoption(
        "--databases",
        metavar="NAMES",
        type=_databases,
        default=DATABASES,
        help="what `database_url` runs on: of sqlite,mysql,postgresql (default: all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "soak: runs for minutes; only `make soak` (pytest -m soak) runs it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the soak tests out, unless -m speaks of them."""
    if "soak" in config.option.markexpr:
        return
    soak = [item for item in items if item.get_closest_marker("soak")]
    if soak:
        config.hook.pytest_deselected(items=soak)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever asks for `database_url` on each kind of database."""
    if "database_url" in metafunc.fixturenames:
        databases = metafunc.config.getoption("--databases")
        metafunc.parametrize("database_url", databases, indirect=True, scope="module")


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI skips nothing", pytrace=False)
    pytest.skip(reason)


def started(server: Callable[[], Server]) -> Server:
    """A server, made and started; without its program the test is skipped, or failed where CI=true."""
    try:
        made = server()
    except ProgramMissing as error:
        unavailable(str(error))
    try:
        made.start()
    except BaseException:
        made.close()
        raise
    return made


def need_driver(database: str) -> None:
    """Skip the test, or fail it where CI=true, without the Python driver of "mysql" or "postgresql"."""
    for module in ("sqlalchemy", _DRIVERS[database][0]):
        if find_spec(module) is None:
            package = _DRIVERS[database][1] if module != "sqlalchemy" else module
            unavailable(f"the driver for {database} is not installed: {package}")


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[MemcachedServer]:
    """A memcached for the whole run. Tests that empty, freeze or kill one start their own."""
    with started(MemcachedServer) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for the whole run. Tests that fill, freeze or kill one start their own."""
    if find_spec("redis") is None:
        unavailable("the library for Redis is not installed: redis")
    from syncstore.testing.redis_server import RedisServer

    with started(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    """A MariaDB for the whole run. Tests that freeze or kill one start their own."""
    need_driver("mysql")
    with started(MariaDBServer) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL for the whole run. Tests that freeze or kill one start their own."""
    need_driver("postgresql")
    with started(PostgresServer) as server:
        yield server


@pytest.fixture(scope="session")
def zookeeper_server() -> Iterator[ZooKeeperServer]:
    """A ZooKeeper for the whole run. Tests that freeze or kill one start their own."""
    from syncstore.testing.zookeeper_servers import ZooKeeperServer

    with started(ZooKeeperServer) as server:
        yield server


@pytest.fixture(scope="module")
def zookeeper_ensemble() -> Iterator[ZooKeeperEnsemble]:
    """Three ZooKeepers for a module. A test that kills some starts them again with `start`."""
    from syncstore.testing.zookeeper_servers import ZooKeeperEnsemble

    with started(ZooKeeperEnsemble) as ensemble:
        yield ensemble


@pytest.fixture(scope="module")
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """SQLAlchemy's URL of a database that is empty when the module's tests begin, of each kind in turn."""
    yield from _fresh_database(request.param, request, tmp_path_factory)


@pytest.fixture(scope="module")
def other_database_url(
    database_url: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Another one of the same kind."""
    kind = database_url.partition(":")[0].partition("+")[0]
    yield from _fresh_database(kind, request, tmp_path_factory)


@pytest.fixture(scope="module")
def one_database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The same, of the one kind that the module names as its DATABASE; of another if that is not to be tested."""
    allowed = request.config.getoption("--databases")
    wanted = request.module.DATABASE
    yield from _fresh_database(wanted if wanted in allowed else allowed[0], request, tmp_path_factory)


def _fresh_database(
    kind: str, request: pytest.FixtureRequest, folders: pytest.TempPathFactory
) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{folders.mktemp('sqlite') / 'sync.db'}"
        return
    fixture = "mariadb_server" if kind == "mysql" else "postgres_server"
    server: DatabaseServer = request.getfixturevalue(fixture)
    name = f"sync_{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)


def _databases(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, (name.strip() for name in text.split(","))))
    for name in names:
        if name not in DATABASES:
            raise ValueError(f"{name!r} is none of {', '.join(DATABASES)}")
    return names
