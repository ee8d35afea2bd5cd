"""The servers under test: a database and one worker of syncstore, on loopback, in a directory thrown away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.client import Connection
from bench.signing import SECRET, Request, make_users
from syncstore.testing.processes import HOST, ChildProcess, free_port
from syncstore.testing.servers import MariaDBServer, MemcachedServer, PostgresServer

SERVERS = ("granian", "gunicorn", "waitress")
_BARE = ("sqlite", "mysql", "postgresql")
DATABASES = (
    *_BARE,
    "sqlite+memory",
    *(f"{kind}+{cache}" for cache in ("memcached", "3memcacheds") for kind in _BARE),
)
"""A database, and after a plus the cache before it."""

_CACHED = {"cache.cached_only": "tabs", "cache.write_through": "meta crypto clients"}
_START_SECONDS = 60.0

_INI = """\
[app:main]
use = egg:syncstore
sqlalchemy.url = {database}
auth.secrets = {secret}
migrate = auto
public_url = {url}
{cache}

[server:main]
use = egg:waitress
listen = {bind}
threads = {threads}

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(levelname)s %(name)s %(message)s
"""


@dataclass(frozen=True)
class Running:
    """A server that answers at `url`; its processes are the trees under `server_pids` and `database_pids`.

    SQLite has no processes of its own: its work is in the server's.
    """

    url: str
    server_pids: list[int]
    database_pids: list[int]


def server_command(server: str, python: str, config: Path, bind: str, threads: int | None) -> list[str]:
    """The command line that serves `config` with one worker: the one place that knows it."""
    beside = Path(python).parent
    if server == "granian":
        command = [str(beside / "syncstore"), "serve", "--config", str(config), "--bind", bind]
        command += ["--workers", "1"]
        return command + (["--threads", str(threads)] if threads else [])
    if server == "gunicorn":
        command = [str(beside / "gunicorn"), "--paste", str(config), "--bind", bind, "--workers", "1"]
        return [*command, "--worker-class", "gthread", "--threads", str(threads or 4)]
    return [str(beside / "pserve"), str(config)]


def ini_text(database: str, url: str, threads: int | None, cache: Mapping[str, str] | None = None) -> str:
    """The configuration of the server under test; `database` is an SQLAlchemy URL, `cache` more settings."""
    return _INI.format(
        cache="".join(f"{key} = {value}\n" for key, value in (cache or {}).items()),
        database=database.replace("%", "%%"),
        secret=SECRET,
        url=url,
        bind=url.removeprefix("http://"),
        threads=threads or 4,
    )


class SyncServer(ChildProcess):
    """One worker of syncstore; up when it answers a signed request."""

    def __init__(self, command: list[str], port: int, directory: Path) -> None:
        super().__init__("syncstore", command, port, directory=directory, deadline=_START_SECONDS)
        self.url = f"http://{HOST}:{port}"
        self._probe = Request(make_users(1, self.url)[0], "GET", "/info/collections")

    def answers(self) -> bool:
        with Connection(self.url, timeout=5.0) as connection:
            return connection.send(self._probe).status == 200


@contextlib.contextmanager
def database(kind: str, directory: Path) -> Iterator[tuple[str, list[int]]]:
    """A fresh database as (SQLAlchemy URL, ids of its root processes), gone at the end; a cache is not looked at.

    Raises StartFailed or ProgramMissing.
    """
    kind = kind.partition("+")[0]
    if kind == "sqlite":
        yield f"sqlite:///{directory / 'sync.db'}", []
        return
    server = (
        MariaDBServer(options=["--innodb-buffer-pool-size=256M"])
        if kind == "mysql"
        else PostgresServer(options=["shared_buffers=256MB"])
    )
    with server:
        yield server.create_database("bench"), [server.pid]


@contextlib.contextmanager
def cache(kind: str) -> Iterator[tuple[dict[str, str], list[int]]]:
    """The cache of `kind` as (settings, ids of its processes), gone at the end."""
    provider = kind.partition("+")[2]
    if not provider:
        yield {}, []
    elif provider == "memory":
        yield {"cache.provider": provider, **_CACHED}, []
    else:
        with contextlib.ExitStack() as started:
            number = 3 if provider == "3memcacheds" else 1
            servers = [started.enter_context(MemcachedServer(memory=256)) for _ in range(number)]
            addresses = " ".join(server.address for server in servers)
            settings = {"cache.provider": "memcached", "memcached.servers": addresses, **_CACHED}
            yield settings, [server.pid for server in servers]


@contextlib.contextmanager
def running(
    kind: str, directory: Path, *, server: str, python: str, threads: int | None
) -> Iterator[Running]:
    """Database `kind` and a server on top of it, up and answering. Raises StartFailed or ProgramMissing."""
    with database(kind, directory) as (database_url, database_pids), cache(kind) as (cached, cache_pids):
        port = free_port()
        bind = f"{HOST}:{port}"
        config = directory / "bench.ini"
        config.touch(mode=0o600)
        config.write_text(ini_text(database_url, f"http://{bind}", threads, cached))
        command = server_command(server, python, config, bind, threads)
        with SyncServer(command, port, directory) as process:
            yield Running(process.url, [process.pid], database_pids + cache_pids)
