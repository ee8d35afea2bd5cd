"""`syncstore doctor` as a person runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncstore.testing.command import Folder
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.zookeeper_servers import ZooKeeperServer


def test_a_server_that_is_well(folder: Folder) -> None:
    with folder.serve("--workers", "2") as server:
        bind = f"{HOST}:{server.port}"
        result = folder.run("doctor", SYNCSTORE_SERVE__BIND=bind)
        said = server.log.read_text()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "settings of the environment: ok",
        f"secret {folder.path}/var/secret: ok",
        f"database sqlite:///{folder.path}/var/sync.db, schema 0003: ok",
        "locks in sql: ok",
        "cache none: ok",
        f"address http://{bind}: ok",
        "clock: ok",
        "query: ok",
        "escaped path: ok",
        "body of 2625536 bytes: ok",
        "token server off: ok",
    ]
    assert (folder.path / "var" / "secret").read_text().strip() not in result.stdout
    assert "Traceback" not in said


def test_a_folder_where_nothing_was_started_stays_empty(folder: Folder) -> None:
    result = folder.run("doctor")
    assert result.returncode == 1
    assert "there is none yet: start the server once" in result.stdout
    assert "there is no such file yet: run `syncstore migrate`" in result.stdout
    assert list(folder.path.iterdir()) == []


def test_settings_that_are_wrong_are_a_line_too(folder: Folder) -> None:
    result = folder.run("doctor", SYNCSTORE_LOCK__TIMEOUT="soon")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith("settings of the environment: lock.timeout = soon: must be a number")
    assert result.stdout.count("\n") == 1
    result = folder.run("doctor", "--config", "missing.ini")
    assert (result.returncode, result.stdout) == (1, "settings missing.ini: there is no file missing.ini\n")


def test_a_database_that_is_down(folder: Folder) -> None:
    pytest.importorskip("psycopg")
    url = f"postgresql://sync:hunter2@{HOST}:{free_port()}/sync"
    result = folder.run("doctor", SYNCSTORE_SQLALCHEMY__URL=url, SYNCSTORE_AUTH__SECRETS="secret")
    assert result.returncode == 1
    assert "no connection to the database" in result.stdout
    assert ": start the database, or correct sqlalchemy.url\n" in result.stdout
    assert "locks: they are in the database: mend that first\n" in result.stdout
    assert "nobody listens at 127.0.0.1:8000" in result.stdout, "the other checks go on"
    assert "hunter2" not in result.stdout + result.stderr


def test_a_memcached_that_is_well_away_and_out_of_use(
    folder: Folder, memcached_server: MemcachedServer
) -> None:
    address = memcached_server.address
    settings = {
        "SYNCSTORE_CACHE__PROVIDER": "memcached",
        "SYNCSTORE_CACHE__KEY_PREFIX": "doctor",
        "SYNCSTORE_MEMCACHED__SERVERS": address,
        "SYNCSTORE_LOCK__BACKEND": "memcached",
    }
    folder.run("migrate")
    said = folder.run("doctor", **settings).stdout.splitlines()
    assert "locks in memcached: ok" in said
    assert f"cache memcached at {address}: ok" in said
    code = (
        f"import sqlite3; c = sqlite3.connect('var/sync.db'); "
        f"c.execute('INSERT INTO cache_servers (name, epoch) VALUES (?, 9)', ('doctor@{address}',)); c.commit()"
    )
    assert folder.run("-c", code, command=["python3"]).returncode == 0
    said = folder.run("doctor", **settings).stdout.splitlines()
    (line,) = (line for line in said if line.startswith("cache "))
    assert "was declared failed and is out of use: servers that run try it again every 15 s" in line
    away = f"{HOST}:{free_port()}"
    said = folder.run("doctor", **(settings | {"SYNCSTORE_MEMCACHED__SERVERS": away})).stdout.splitlines()
    (locks,) = (line for line in said if line.startswith("locks "))
    (cache,) = (line for line in said if line.startswith("cache "))
    assert "look at memcached" in locks
    assert cache.startswith(f"cache memcached at {away}: it cannot be used")


def test_locks_in_zookeeper(folder: Folder, zookeeper_server: ZooKeeperServer) -> None:
    settings = {
        "SYNCSTORE_LOCK__BACKEND": "zookeeper",
        "SYNCSTORE_LOCK__ZOOKEEPER__CLUSTER": "main",
        "SYNCSTORE_ZK__CLUSTERS": "main",
        "SYNCSTORE_ZK__MAIN__HOSTS": zookeeper_server.hosts,
        "SYNCSTORE_ZK__MAIN__CHROOT": "/doctor",
    }
    folder.run("migrate")
    assert "locks in zookeeper: ok" in folder.run("doctor", **settings).stdout.splitlines()
    away = settings | {"SYNCSTORE_ZK__MAIN__HOSTS": f"{HOST}:{free_port()}", "SYNCSTORE_LOCK__TIMEOUT": "0.5"}
    (line,) = (one for one in folder.run("doctor", **away).stdout.splitlines() if one.startswith("locks "))
    assert "none can be taken (the ZooKeeper cluster main: not connected): look at ZooKeeper" in line
    unknown = settings | {"SYNCSTORE_LOCK__ZOOKEEPER__CLUSTER": "other"}
    said = folder.run("doctor", **unknown).stdout
    assert "lock.zookeeper.cluster: zk.clusters does not name 'other'" in said


def test_a_cache_that_needs_no_server(folder: Folder) -> None:
    assert "cache memory: ok\n" in folder.run("doctor", SYNCSTORE_CACHE__PROVIDER="memory").stdout


def test_an_older_database_is_looked_at_and_left_as_it_is(folder: Folder) -> None:
    folder.run("migrate")
    before = (folder.path / "var" / "sync.db").read_bytes()
    code = "UPDATE alembic_version SET version_num = '9999'"
    folder.run(
        "-c",
        f"import sqlite3; c = sqlite3.connect('var/sync.db'); c.execute({code!r}); c.commit()",
        command=["python3"],
    )
    assert "schema 9999, which is newer than this syncstore" in folder.run("doctor").stdout
    assert len(before) == (folder.path / "var" / "sync.db").stat().st_size


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_a_database_of_another_user_is_not_touched(folder: Folder) -> None:
    folder.run("migrate")
    os.chown(folder.path / "var" / "sync.db", 65_534, 65_534)
    assert ": it belongs to nobody: run the doctor as that user\n" in folder.run("doctor").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--url", "sync.example.com"], "--url sync.example.com is not scheme://host[:port][/prefix]"),
        (["--ca", "missing.pem"], "--ca missing.pem cannot be read as certificates: No such file"),
        (["--ca", "empty.pem"], "--ca empty.pem cannot be read as certificates"),
    ],
)
def test_options_that_make_no_sense(folder: Folder, words: list[str], message: str) -> None:
    Path(folder.path / "empty.pem").touch()
    result = folder.run("doctor", *words, SYNCSTORE_AUTH__SECRETS="secret")
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
