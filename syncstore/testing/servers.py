"""The real servers that tests run against, each with a port and data of its own: memcached, databases, a proxy.

Nothing here needs a database driver until `create_database` is called. What was committed survives the end
of the server but not of the machine: each commit is handed to the kernel, and nobody waits for a disk.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from syncstore.testing.processes import HOST, ChildProcess, ProgramMissing, StartFailed, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

__all__ = [
    "HOST",
    "ChildProcess",
    "DatabaseServer",
    "MariaDBServer",
    "MemcachedServer",
    "NginxServer",
    "PostgresServer",
    "ProgramMissing",
    "StartFailed",
    "free_port",
]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SBIN = (Path("/usr/sbin"), Path("/usr/local/sbin"))  # seldom on the PATH of a person


def find_program(*names: str, package: str, places: Sequence[Path] = _SBIN) -> str:
    """The path of the first of `names` on the PATH or in `places`. Raises ProgramMissing."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, places)])
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    raise ProgramMissing(names[0], package)


def await_standstill(server: ChildProcess) -> None:
    """Wait until all threads of a frozen server stand still. Raises TimeoutError."""
    end = time.monotonic() + server.deadline
    while not all(_stopped(stat) for stat in Path(f"/proc/{server.pid}/task").glob("*/stat")):
        if time.monotonic() > end:
            raise TimeoutError(f"{server.name} did not stop within {server.deadline} s")
        time.sleep(0.001)


class MemcachedServer(ChildProcess):
    """A memcached, empty at each start. `memory` is in MiB, `options` are further command line words.

    With `unix` it listens on a socket in its directory, and not on its port.
    """

    stop_signal = signal.SIGKILL  # it has nothing to save, and thinks a second before it obeys a SIGTERM

    def __init__(
        self,
        *,
        memory: int = 64,
        options: Sequence[str] = (),
        port: int | None = None,
        unix: bool = False,
        deadline: float = 30.0,
    ) -> None:
        program = find_program("memcached", package="memcached")
        port = port or free_port()
        super().__init__("memcached", [program], port, deadline=deadline)
        self._socket = self.directory / "memcached.sock" if unix else None
        place = ["-s", str(self._socket)] if unix else ["-l", HOST, "-p", str(port), "-U", "0"]
        self.command = [program, *place, "-m", str(memory), "-t", "2", *options]
        if os.geteuid() == 0:
            self.command += ["-u", "root"]  # it refuses to be root unless told so

    @property
    def address(self) -> str:
        """`host:port` or `unix:/path`, as the setting `memcached.servers` wants it."""
        return f"unix:{self._socket}" if self._socket else f"{HOST}:{self.port}"

    def connect(self, timeout: float) -> socket.socket:
        if self._socket is None:
            return super().connect(timeout)
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout)
            connection.connect(str(self._socket))
        except BaseException:
            connection.close()
            raise
        return connection

    def answers(self) -> bool:
        return self._ask(b"version").startswith(b"VERSION")

    def freeze(self) -> None:
        """Stop it in its tracks (see ChildProcess); returns when all its threads stand still.

        On a busy machine one of them could still answer what was asked after the signal.
        """
        super().freeze()
        await_standstill(self)

    def flush(self) -> None:
        """Empty it. What it numbers goes on counting."""
        if self._ask(b"flush_all") != b"OK\r\n":
            raise RuntimeError("memcached does not flush")

    def _ask(self, command: bytes) -> bytes:
        with self.connect(timeout=1) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(64)


_NGINX = """daemon off;
master_process off;
error_log stderr warn;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
access_log off;
client_body_temp_path body;
proxy_temp_path proxy;
fastcgi_temp_path fastcgi;
uwsgi_temp_path uwsgi;
scgi_temp_path scgi;
{servers}
}}
"""


class NginxServer(ChildProcess):
    """An nginx of one process. `servers` are the blocks inside its `http`, one of which listens on `port`.

    All its files are in its own directory, and relative names in `servers` start from there.
    """

    def __init__(self, servers: str, port: int, *, deadline: float = 30.0) -> None:
        program = find_program("nginx", package="nginx-light")
        super().__init__("nginx", [program], port, deadline=deadline)
        (self.directory / "nginx.conf").write_text(_NGINX.format(servers=servers), encoding="utf-8")
        self.command = [program, "-p", f"{self.directory}/", "-c", "nginx.conf", "-e", "stderr"]


class DatabaseServer(ChildProcess, ABC):
    """An SQL server whose data live in `directory` / "data", laid out at the first start."""

    @property
    def data(self) -> Path:
        """The folder of the server's data."""
        return self.directory / "data"

    def start(self) -> Self:
        if not self.data.exists():
            self._lay_out()
        return super().start()

    @abstractmethod
    def url(self, database: str) -> str:
        """SQLAlchemy's URL of a database, whether it exists or not."""

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL. `name` is of small letters, digits and underscores."""
        _check_name(name)
        with self._administer() as connection:
            connection.exec_driver_sql(self._create_statement(name))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, if it exists, and whatever connections a test forgot there."""
        _check_name(name)
        with self._administer() as connection:
            self._drop(connection, name)

    @abstractmethod
    def _lay_out(self) -> None:
        """Write the files of an empty server."""

    @property
    @abstractmethod
    def _own_database(self) -> str:
        """The database that is always there."""

    @abstractmethod
    def _create_statement(self, name: str) -> str: ...

    @abstractmethod
    def _drop(self, connection: Connection, name: str) -> None: ...

    @contextmanager
    def _administer(self) -> Iterator[Connection]:
        from sqlalchemy import NullPool, create_engine  # costs 0.2 s, which tests without SQL need not pay

        engine = create_engine(self.url(self._own_database), isolation_level="AUTOCOMMIT", poolclass=NullPool)
        with engine.connect() as connection:
            yield connection


class MariaDBServer(DatabaseServer):
    """A MariaDB; `root` has no password. `options` are further words of its command line."""

    def __init__(
        self, *, options: Sequence[str] = (), port: int | None = None, deadline: float = 60.0
    ) -> None:
        program = find_program("mariadbd", "mysqld", package="mariadb-server")
        self._installer = find_program("mariadb-install-db", "mysql_install_db", package="mariadb-server")
        port = port or free_port()
        super().__init__("mariadb", [program], port, deadline=deadline)
        self._as_root = ["--user=root"] if os.geteuid() == 0 else []
        self.command = [
            program,
            "--no-defaults",  # first, or it is not understood
            *self._as_root,
            f"--datadir={self.data}",
            f"--socket={self.directory / 'mariadb.sock'}",
            f"--pid-file={self.directory / 'mariadb.pid'}",
            f"--bind-address={HOST}",
            f"--port={port}",
            "--skip-networking=0",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=2",
            *options,
        ]

    def url(self, database: str) -> str:
        return f"mysql+mysqldb://root@{HOST}:{self.port}/{database}?charset=utf8mb4"

    def answers(self) -> bool:
        with self.connect(timeout=1) as connection:
            greeting = connection.recv(5)  # length and number of the packet, then the protocol's version
            return len(greeting) == 5 and greeting[4] == 10

    def _lay_out(self) -> None:
        self._run(
            [
                self._installer,
                "--no-defaults",
                *self._as_root,
                f"--datadir={self.data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
                "--innodb-buffer-pool-size=16M",
                "--innodb-log-file-size=16M",
            ]
        )

    @property
    def _own_database(self) -> str:
        return "mysql"

    def _create_statement(self, name: str) -> str:
        return f"CREATE DATABASE {name} CHARACTER SET utf8mb4"

    def _drop(self, connection: Connection, name: str) -> None:
        # DROP waits for every open transaction that has touched a table there
        forgotten = connection.exec_driver_sql(
            "SELECT id FROM information_schema.processlist WHERE db = %s", (name,)
        )
        for (thread,) in forgotten.all():
            connection.exec_driver_sql(f"KILL {int(thread)}")
        connection.exec_driver_sql("SET SESSION lock_wait_timeout = 20")
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")


class PostgresServer(DatabaseServer):
    """A PostgreSQL; anybody may log in as `postgres`. `options` are settings, such as "max_connections=20".

    It refuses to run as root, so root runs it as the user postgres or nobody. Commits are synchronous all the
    same: they reach the kernel, not the disk, and so survive `kill9` at the price of one write each.
    """

    stop_signal = signal.SIGINT  # SIGTERM would wait for the clients to leave

    def __init__(
        self, *, options: Sequence[str] = (), port: int | None = None, deadline: float = 60.0
    ) -> None:
        newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
        program = find_program("postgres", package="postgresql", places=newest_first)
        self._initdb = find_program("initdb", package="postgresql", places=newest_first)
        port = port or free_port()
        super().__init__("postgres", [program], port, user=_unprivileged_user(), deadline=deadline)
        settings = [
            f"listen_addresses={HOST}",
            f"port={port}",
            "unix_socket_directories=",
            "shared_buffers=32MB",
            "max_wal_size=256MB",
            "fsync=off",
            "full_page_writes=off",
            *options,
        ]
        self.command = [program, "-D", str(self.data)]
        for setting in settings:
            self.command += ["-c", setting]

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@{HOST}:{self.port}/{database}"

    def answers(self) -> bool:
        # It takes connections before it has recovered, so only a log-in that it grants will do.
        words = b"user\0postgres\0database\0postgres\0\0"
        with self.connect(timeout=1) as connection:
            connection.sendall(struct.pack("!ii", 8 + len(words), 3 << 16) + words)
            return connection.recv(1) == b"R"

    def _lay_out(self) -> None:
        # fmt: off
        self._run([
            self._initdb, "--pgdata", str(self.data), "--username=postgres", "--auth=trust", "--no-sync",
            "--encoding=UTF8", "--no-locale",
        ])
        # fmt: on

    @property
    def _own_database(self) -> str:
        return "postgres"

    def _create_statement(self, name: str) -> str:
        return f"CREATE DATABASE {name} TEMPLATE template0"

    def _drop(self, connection: Connection, name: str) -> None:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _stopped(stat: Path) -> bool:
    """Whether a thread, by its file in /proc, stands still or is gone."""
    try:
        return stat.read_text(errors="replace").rpartition(")")[2].split()[0] in "TtZX"
    except OSError:
        return True


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.parent.name.split(".") if part.isdecimal())


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name for a test database: {name!r}")
