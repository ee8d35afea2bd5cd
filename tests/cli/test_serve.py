"""`syncstore serve`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from syncstore.testing.client import Live, SyncClient
from syncstore.testing.command import Folder
from syncstore.testing.processes import HOST, free_port


def test_it_serves_an_empty_folder_and_says_what_is_where(folder: Folder) -> None:
    with folder.serve() as server:
        secret = (folder.path / "var" / "secret").read_text().strip()
        transport = Live(server.url)
        user = SyncClient(7, secret, transport)
        assert user.put("/storage/meta/global", {"payload": "x"}).status == 200
        assert user.get("/storage/meta/global").json["payload"] == "x"
        transport.close()
        said = server.log.read_text()
    assert f"syncstore serves {server.url}, 1 worker\n" in said
    assert f"sqlite:///{folder.path}/var/sync.db" in said
    assert str(folder.path / "var" / "secret") in said
    assert secret not in said
    assert "Warning" not in said


def test_it_runs_as_many_workers_as_it_is_told(folder: Folder) -> None:
    with folder.serve("--workers", "2", "--threads", "1") as server:
        assert len(server.workers()) == 2
        assert "2 workers" in server.log.read_text()


def test_the_settings_name_workers_too(folder: Folder) -> None:
    with folder.serve(SYNCSTORE_SERVE__WORKERS="3") as server:
        assert len(server.workers()) == 3


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_asked(folder: Folder, ending: signal.Signals) -> None:
    with folder.serve() as server:
        assert server.end(ending) == 0
        assert "Traceback" not in server.log.read_text()
        assert "Killing" not in server.log.read_text()


def test_a_worker_that_dies_is_replaced(folder: Folder) -> None:
    with folder.serve() as server:
        (first,) = server.workers()
        os.kill(first, signal.SIGKILL)
        end = time.monotonic() + 30
        while server.workers() in ([], [first]) and time.monotonic() < end:
            time.sleep(0.05)  # a process that is no child of ours can only be looked for
        while time.monotonic() < end:
            try:
                if server.answers():
                    break
            except OSError:
                time.sleep(0.05)
        assert server.answers()
        assert server.workers() != [first]


# -- what it refuses, in one sentence


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("syncstore: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def test_a_port_where_another_program_listens(folder: Folder) -> None:
    with socket.create_server((HOST, 0)) as other:
        message = refused(folder.run("serve", "--bind", f"{HOST}:{other.getsockname()[1]}"))
    assert "another program listens there" in message


def test_a_port_where_another_syncstore_serves(folder: Folder) -> None:
    # they would share the port, and the requests, without noticing
    with folder.serve() as server:
        assert "another program listens there" in refused(
            folder.run("serve", "--bind", f"{HOST}:{server.port}")
        )


def test_an_address_of_another_machine(folder: Folder) -> None:
    assert "does not have that address" in refused(folder.run("serve", "--bind", "192.0.2.1:8000"))


def test_a_host_that_does_not_exist(folder: Folder) -> None:
    assert "has no address" in refused(folder.run("serve", "--bind", "nowhere.invalid:8000"))


def test_a_folder_that_cannot_be_made(folder: Folder) -> None:
    (folder.path / "var").write_text("in the way")
    assert f"sqlalchemy.url: {folder.path}/var cannot be made" in refused(folder.run("serve"))


def test_more_workers_than_may_share_a_memory(folder: Folder) -> None:
    message = refused(folder.run("serve", "--workers", "2", SYNCSTORE_CACHE__PROVIDER="memory"))
    assert "cache.provider = memory is for one process" in message
    assert "--workers" in message
    assert not (folder.path / "var").exists()


def test_a_missing_driver(folder: Folder) -> None:
    program = (
        "import sys; sys.modules['MySQLdb'] = None; from syncstore.cli import main; sys.exit(main(['serve']))"
    )
    result = folder.run(
        "-c",
        program,
        command=[sys.executable],
        SYNCSTORE_SQLALCHEMY__URL="mysql://sync:hunter2@db/sync",
    )
    message = refused(result)
    assert "install syncstore[mysql]" in message
    assert "hunter2" not in message


def test_a_database_that_is_down_is_an_outage_and_no_mistake(folder: Folder) -> None:
    result = folder.run(
        "serve", SYNCSTORE_SQLALCHEMY__URL=f"postgresql://sync:hunter2@{HOST}:{free_port()}/sync"
    )
    assert result.returncode == 1
    assert result.stderr.startswith("syncstore: the database cannot be asked")
    assert "hunter2" not in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [("--workers", "0"), ("--threads", "-1"), ("--bind", "here"), ("--bind", "::1:80"), ("--nonsense",)],
)
def test_an_option_that_makes_no_sense(folder: Folder, words: tuple[str, ...]) -> None:
    result = folder.run("serve", *words)
    assert result.returncode == 2
    assert "usage: syncstore" in result.stderr
    assert "Traceback" not in result.stderr
