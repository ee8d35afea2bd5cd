"""The servers that tests run on are real, can be broken in every way, and leave nothing behind."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import NullPool, create_engine

from syncstore.testing import servers
from syncstore.testing.plugin import need_driver, started, unavailable
from syncstore.testing.processes import HOST, ChildProcess, ProgramMissing, StartFailed, free_port
from syncstore.testing.servers import DatabaseServer, MariaDBServer, MemcachedServer, PostgresServer
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer

ALL = [MemcachedServer, MariaDBServer, PostgresServer, ZooKeeperServer]
DATABASES = [(MariaDBServer, "mysql"), (PostgresServer, "postgresql")]


@pytest.fixture(scope="module", params=ALL, ids=lambda kind: kind.__name__)
def any_server(request: pytest.FixtureRequest) -> Iterator[ChildProcess]:
    with started(request.param) as running:
        yield running


@pytest.fixture
def server(any_server: ChildProcess) -> ChildProcess:
    return any_server if any_server.alive else any_server.start()


@pytest.fixture(scope="module", params=DATABASES, ids=lambda pair: pair[0].__name__)
def database(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    kind, driver = request.param
    need_driver(driver)
    with started(kind) as running:
        yield running


def test_it_answers_once_started(server: ChildProcess) -> None:
    assert server.alive
    assert server.answers()


def test_it_refuses_connections_when_stopped_and_comes_back_on_its_port(server: ChildProcess) -> None:
    port, before = server.port, server.pid

    server.stop()

    assert not server.alive
    with pytest.raises(ConnectionRefusedError):
        server.connect(timeout=5)
    server.start()
    assert server.answers()
    assert (server.port, server.pid != before) == (port, True)


def test_it_leaves_no_process_behind_when_killed(server: ChildProcess) -> None:
    session = server.pid
    assert processes_of(session)

    server.kill9()

    assert not processes_of(session)
    assert server.restart().answers()


def test_it_keeps_connections_open_but_silent_while_frozen(server: ChildProcess) -> None:
    server.freeze()

    with pytest.raises(TimeoutError):
        server.answers()

    server.thaw()
    assert server.answers()


def test_it_can_be_stopped_while_frozen(server: ChildProcess) -> None:
    server.freeze()
    server.stop()
    assert not server.alive


@pytest.mark.parametrize("kind", ALL)
def test_it_removes_its_directory_when_closed(kind: Callable[[], ChildProcess]) -> None:
    with started(kind) as server:
        directory = server.directory
        assert server.log.parent == directory
        assert directory.exists()
    assert not directory.exists()


def test_memcached_forgets_everything_when_killed() -> None:
    with started(MemcachedServer) as memcached:
        assert tell(memcached, b"set k 0 0 1\r\nv\r\n") == b"STORED\r\n"
        assert tell(memcached, b"get k\r\n") == b"VALUE k 0 1\r\nv\r\nEND\r\n"
        memcached.kill9()
        memcached.start()
        assert tell(memcached, b"get k\r\n") == b"END\r\n"


def test_a_database_has_what_was_committed_before_it_was_killed(database: DatabaseServer) -> None:
    url = database.create_database("kept")
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id INTEGER PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO item VALUES (1)")
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO item VALUES (2)")

    database.kill9()
    database.start()

    with engine.connect() as connection:
        ids = connection.exec_driver_sql("SELECT id FROM item ORDER BY id").scalars().all()
    assert ids == [1, 2]


def test_a_created_database_is_empty_and_apart(database: DatabaseServer) -> None:
    for name in ("first", "second"):
        engine = create_engine(database.create_database(name), poolclass=NullPool)
        with engine.begin() as connection:
            assert sqlalchemy.inspect(connection).get_table_names() == []
            connection.exec_driver_sql("CREATE TABLE item (id INTEGER)")


def test_a_database_is_dropped_in_spite_of_a_forgotten_transaction(database: DatabaseServer) -> None:
    url = database.create_database("busy")
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE item (id INTEGER)")
    forgotten = engine.connect()
    forgotten.exec_driver_sql("SELECT * FROM item")

    database.drop_database("busy")

    forgotten.invalidate()  # the server has closed it; a rollback would say so
    forgotten.close()
    with pytest.raises(sqlalchemy.exc.OperationalError):
        engine.connect()
    database.create_database("busy")


@pytest.mark.parametrize("name", ["", "Kept", "a b", "a;b", "1st", "a`b", 'a"b', "é"])
def test_a_database_has_a_plain_name(name: str) -> None:
    try:
        server = PostgresServer()
    except ProgramMissing as missing:
        unavailable(str(missing))
    with closing(server), pytest.raises(ValueError, match="not a name"):
        server.create_database(name)


@pytest.mark.parametrize("kind", ALL)
def test_it_dies_with_its_parent(kind: Callable[[], ChildProcess], tmp_path: Path) -> None:
    try:
        kind().close()
    except ProgramMissing as missing:
        unavailable(str(missing))
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys, time
            from {kind.__module__} import {kind.__name__}

            server = {kind.__name__}().start()
            print(server.pid, server.port, server.directory, flush=True)
            time.sleep(600)
        """)
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, port, directory = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    try:
        await_that(lambda: not processes_of(int(pid)))
        await_that(lambda: refuses_connections(int(port)))
    finally:
        shutil.rmtree(directory)


def test_it_outlives_the_thread_that_started_it() -> None:
    with started(MemcachedServer) as server:
        thread = threading.Thread(target=server.restart)
        thread.start()
        thread.join()
        assert server.answers()


def test_any_program_can_be_a_server(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", HOST, str(port)]
    with (
        ChildProcess("http", command, port, directory=tmp_path) as server,
        server.connect(timeout=5) as connection,
    ):
        connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        assert connection.recv(8) == b"HTTP/1.0"
    assert tmp_path.exists()


def test_a_program_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such colour')"]
    server = ChildProcess("painter", command, free_port(), directory=tmp_path)
    with pytest.raises(StartFailed, match=r"painter ended with code 1.*\n.*no such colour"):
        server.start()
    assert not server.alive


def test_a_program_that_never_answers_is_ended_at_the_deadline(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    server = ChildProcess("sleeper", command, free_port(), directory=tmp_path, deadline=0.3)
    with pytest.raises(StartFailed, match="did not answer within"):
        server.start()
    assert not server.alive


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(ProgramMissing, match=r"no-such-program .*apt install nowhere"):
        servers.find_program("no-such-program", package="nowhere")


def test_a_missing_program_skips_on_a_laptop_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> MemcachedServer:
        raise ProgramMissing("memcached", "memcached")

    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="memcached is not installed"):
        started(missing)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="memcached is not installed"):
        started(missing)


def test_free_ports_are_not_those_of_outgoing_connections() -> None:
    assert all(15_000 <= free_port() < 30_000 for _ in range(20))


def tell(memcached: MemcachedServer, words: bytes) -> bytes:
    with memcached.connect(timeout=5) as connection:
        connection.sendall(words)
        return connection.recv(1000)


def processes_of(session: int) -> list[int]:
    """The living processes that descend from `session`: of its process group, or children of one that is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if state != "Z" and session in (int(stat.parent.name), int(parent), int(group)):
            found.append(int(stat.parent.name))
    return found


def refuses_connections(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=5):
            return False
    except ConnectionError:
        return True
