"""The composition: what a start does to the disk and the database, and what it refuses."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

import syncstore
from syncstore.app import check, database_url, make_app, secret_path, shown_database
from syncstore.errors import ConfigError
from syncstore.settings import read_settings
from syncstore.storage.sql import migrate
from syncstore.testing.client import InProcess, SyncClient
from syncstore.testing.processes import HOST, ChildProcess, free_port
from syncstore.testing.servers import MemcachedServer

REPOSITORY = Path(__file__).parents[1]
SECRET = "a-secret-of-the-tests-of-the-app"


@contextmanager
def running(ini: dict[str, str], here: Path) -> Iterator[Any]:
    app = make_app(ini, here)
    try:
        yield app
    finally:
        app.close()


def execute(url: str, *statements: str) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def tables(url: str) -> set[str]:
    from sqlalchemy import inspect

    with create_engine(url, poolclass=NullPool).connect() as connection:
        return set(inspect(connection).get_table_names())


# -- the first start


def test_without_any_setting_it_serves_from_a_folder_of_its_own(tmp_path: Path) -> None:
    with running({}, tmp_path) as app:
        secret = (tmp_path / "var" / "secret").read_text().strip()
        user = SyncClient(7, secret, InProcess(app))
        assert user.put("/storage/meta/global", {"payload": "x"}).status == 200
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "var" / "secret").stat().st_mode) == 0o600


def test_the_secret_and_the_data_are_kept_over_a_restart(tmp_path: Path) -> None:
    with running({}, tmp_path) as app:
        secret = (tmp_path / "var" / "secret").read_text().strip()
        SyncClient(7, secret, InProcess(app)).put("/storage/meta/global", {"payload": "kept"})
    with running({}, tmp_path) as app:
        assert (tmp_path / "var" / "secret").read_text().strip() == secret
        user = SyncClient(7, secret, InProcess(app))
        assert user.get("/storage/meta/global").json["payload"] == "kept"


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with running({}, tmp_path):
        pass
    (tmp_path / "var" / "secret").chmod(0o644)
    with pytest.raises(ConfigError, match="make its mode 0600"):
        make_app({}, tmp_path)


def test_the_secret_lies_beside_the_ini_where_the_database_is_elsewhere() -> None:
    settings = read_settings({"sqlalchemy.url": "mysql://db/sync"}, {}, Path("/srv/sync"))
    assert secret_path(settings) == Path("/srv/sync/var/secret")


def test_paste_deploy_s_factory_takes_the_folder_of_the_ini(tmp_path: Path) -> None:
    app = syncstore.main({"here": str(tmp_path), "__file__": "x.ini"}, **{"auth.secrets": SECRET})
    app.close()
    assert (tmp_path / "var" / "sync.db").exists()


@pytest.mark.parametrize("migrate", ["check", "auto"])
def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, migrate: str) -> None:
    (tmp_path / "file").write_text("")
    ini = {"sqlalchemy.url": f"sqlite:///{tmp_path}/file/sync.db", "migrate": migrate}
    with pytest.raises(ConfigError, match=r"sqlalchemy\.url: .*/file cannot be made"):
        make_app(ini, tmp_path)


# -- the schema


@pytest.fixture
def prepared(database_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of an app that ran once over the database of this turn; the database is empty afterwards."""
    ini = {"sqlalchemy.url": database_url, "auth.secrets": SECRET}
    with running(ini, tmp_path):
        pass
    yield ini
    found = tables(database_url)
    execute(database_url, *(f"DROP TABLE {name}" for name in found))


def test_an_empty_database_is_set_up_without_being_asked(prepared: dict[str, str]) -> None:
    assert {"storage_users", "bso", "alembic_version"} <= tables(prepared["sqlalchemy.url"])


def test_another_schema_is_refused_with_what_to_do(prepared: dict[str, str], tmp_path: Path) -> None:
    execute(prepared["sqlalchemy.url"], "UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(ConfigError, match=r"has schema 0000 and .* is needed: run `syncstore migrate`"):
        make_app(prepared, tmp_path)


def test_a_newer_schema_is_not_touched(prepared: dict[str, str], tmp_path: Path) -> None:
    execute(prepared["sqlalchemy.url"], "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="newer than this syncstore"):
        make_app(prepared | {"migrate": "auto"}, tmp_path)


@pytest.mark.parametrize("migrate", ["check", "auto"])
def test_the_tables_of_another_server_are_not_taken_for_its_own(
    prepared: dict[str, str], tmp_path: Path, migrate: str
) -> None:
    execute(prepared["sqlalchemy.url"], "DROP TABLE alembic_version")
    with pytest.raises(ConfigError, match=r"tables that syncstore did not make \(.*bso"):
        make_app(prepared | {"migrate": migrate}, tmp_path)


def test_a_set_up_that_was_killed_half_way_is_finished(prepared: dict[str, str], tmp_path: Path) -> None:
    # what MariaDB leaves behind, where each statement of DDL is committed by itself
    execute(
        prepared["sqlalchemy.url"],
        "DELETE FROM alembic_version",
        "DROP TABLE batch_uploads",
        "DROP TABLE batch_upload_items",
    )
    with running(prepared, tmp_path):
        assert "batch_uploads" in tables(prepared["sqlalchemy.url"])


_START = """
import sys
import threading
from syncstore.app import make_app
sys.stdin.readline()
app = make_app({"sqlalchemy.url": sys.argv[1], "migrate": sys.argv[2]})
print(open("var/secret").read() if len(sys.argv[1]) > 0 and not sys.argv[1].startswith("sqlite") else "")
app.close()
"""


def test_a_schema_that_another_process_is_just_setting_up_is_waited_for(
    prepared: dict[str, str], tmp_path: Path
) -> None:
    """A new database goes through every version, and one who looks in between must not take that for its own."""
    ini, database_url, newest = prepared, prepared["sqlalchemy.url"], migrate.newest()
    execute(database_url, "UPDATE alembic_version SET version_num = '0001'")
    with ThreadPoolExecutor(1) as pool:
        with migrate._alone(database_url):
            starting = pool.submit(make_app, ini, tmp_path)
            # It has looked, and waits for us, who finish what we are at.
            assert not wait([starting], timeout=0.5).done
            execute(database_url, f"UPDATE alembic_version SET version_num = '{newest}'")
        starting.result(timeout=60).close()


@pytest.mark.parametrize("migrate", ["auto", "check"])
def test_eight_processes_may_start_at_once_on_an_empty_database(
    database_url: str, tmp_path: Path, migrate: str
) -> None:
    assert tables(database_url) == set(), "the tests before clear up after themselves"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _START, database_url, migrate],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        for _ in range(8)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=90) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * 8, ends
    assert len({output for output, _ in ends}) == 1, "all read the same secret"
    assert "bso" in tables(database_url)
    execute(database_url, *(f"DROP TABLE {name}" for name in tables(database_url)))


def _environment() -> dict[str, str]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("SYNCSTORE_")}
    return ours | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


# -- the URL of the database


def shown(url: str) -> tuple[str, str]:
    settings = read_settings({"sqlalchemy.url": url}, {}, Path())
    return database_url(settings), shown_database(settings)


def test_the_driver_need_not_be_named() -> None:
    assert shown("postgresql://u:pw@db/sync?sslmode=require") == (
        "postgresql+psycopg://u:pw@db/sync?sslmode=require",
        "postgresql://u:***@db/sync",
    )
    assert shown("mariadb://u@db/sync")[0] == "mariadb+mysqldb://u@db/sync"
    assert shown("sqlite:////var/x.db") == ("sqlite+pysqlite:////var/x.db", "sqlite:////var/x.db")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql+pymysql://u:hunter2@db/sync", "names the driver pymysql; for mysql it is mysqldb"),
        ("oracle://u:hunter2@db/sync", "sqlite, mysql, mariadb and postgresql are supported"),
        ("u:hunter2@db/sync", "is not a database URL"),
        ("mysql://u:hunter2@db:port/sync", "is not a database URL"),
        ("sqlite://", "SQLite needs a file"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        check(read_settings({"sqlalchemy.url": url}, {}, Path()))
    assert "hunter2" not in str(caught.value)


def test_a_check_makes_nothing(tmp_path: Path) -> None:
    check(read_settings({}, {}, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_check_reads_the_secrets_of_nodes(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("https://a,nonsense\n")
    ini = {"auth.node_secrets": "nodes", "public_url": "https://a"}
    with pytest.raises(ConfigError, match="row 1"):
        check(read_settings(ini, {}, tmp_path))


# -- pserve


def test_pserve_serves_development_ini(tmp_path: Path) -> None:
    """In a copy, on a port of its own; what `make serve` does."""
    ini = (REPOSITORY / "development.ini").read_text()
    port = free_port()
    assert ini.count("listen = 127.0.0.1:5000") == 1
    (tmp_path / "development.ini").write_text(
        ini.replace("listen = 127.0.0.1:5000", f"listen = {HOST}:{port}")
    )
    pserve = shutil.which("pserve", path=str(Path(sys.executable).parent))
    assert pserve is not None
    with ChildProcess(
        "pserve", [pserve, "development.ini"], port, directory=tmp_path, environment=_environment()
    ):
        import http.client

        connection = http.client.HTTPConnection(HOST, port, timeout=30)
        connection.request("GET", "/__heartbeat__")
        answer = connection.getresponse()
        assert (answer.status, b'"database":"Ok"' in answer.read()) == (200, True)
        connection.close()
    assert (tmp_path / "var" / "sync.db").exists()


# -- below a prefix


@pytest.mark.parametrize("prefix", ["/ff", "/a/b", "/my%20sync"])
def test_it_answers_below_the_prefix_of_its_public_url(tmp_path: Path, prefix: str) -> None:
    class BelowPrefix(InProcess):
        pass

    BelowPrefix.prefix = prefix
    with running({"public_url": f"http://localhost{prefix}", "auth.secrets": SECRET}, tmp_path) as app:
        user = SyncClient(7, SECRET, BelowPrefix(app))
        assert user.get("/info/collections").status == 200


# -- the end


def sockets() -> set[str]:
    """The sockets that this process has open, where the system tells."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return {name for name in found if name.startswith("socket:")}


def test_it_gives_back_the_connections_of_the_locks(
    tmp_path: Path, memcached_server: MemcachedServer
) -> None:
    ini = {"auth.secrets": SECRET, "lock.backend": "memcached", "memcached.servers": memcached_server.address}
    before = sockets()
    with running(ini, tmp_path) as app:
        user = SyncClient(7, SECRET, InProcess(app))
        assert user.put("/storage/meta/global", {"payload": "x"}).status == 200
        assert sockets() - before
    assert not sockets() - before


WITHOUT_ITS_SECRETS = {"auth.node_secrets": "missing", "public_url": "http://sync.example"}


def test_a_start_that_fails_leaves_the_database_to_the_next_one(tmp_path: Path) -> None:
    ini = {"cache.provider": "memory"}
    with pytest.raises(ConfigError, match="missing"):
        make_app({**ini, **WITHOUT_ITS_SECRETS}, tmp_path)
    make_app({**ini, "auth.secrets": SECRET}, tmp_path).close()


def test_a_start_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    ini = {"cache.provider": "memcached", "memcached.servers": f"{HOST}:{free_port()}"}
    before = set(threading.enumerate())
    with pytest.raises(ConfigError, match="missing"):
        make_app({**ini, **WITHOUT_ITS_SECRETS}, tmp_path)
    assert set(threading.enumerate()) <= before
