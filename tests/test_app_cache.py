"""The composition of the cache: who may have a memory, and what a start refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncstore.app import make_app
from syncstore.app_claims import claim_file
from syncstore.errors import ConfigError
from syncstore.settings import read_settings
from syncstore.testing.client import InProcess, SyncClient
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.replies import Reply
from syncstore.testing.servers import MemcachedServer

SECRET = "a-secret-of-the-tests-of-the-cache"
MEMORY = {"auth.secrets": SECRET, "cache.provider": "memory", "cache.write_through": "meta"}


def test_only_one_process_has_a_memory_of_a_database(tmp_path: Path) -> None:
    app = make_app(MEMORY, tmp_path)
    try:
        with pytest.raises(ConfigError, match="another one serves this database already"):
            make_app(MEMORY, tmp_path)
        code = (
            "import sys; from pathlib import Path; from syncstore.app import make_app\n"
            f"make_app({MEMORY!r}, Path({str(tmp_path)!r}))"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert other.returncode != 0
        assert "another one serves this database already" in other.stderr
    finally:
        app.close()
    make_app(MEMORY, tmp_path).close()


def test_the_file_that_says_so_is_nobody_else_s(tmp_path: Path) -> None:
    make_app(MEMORY, tmp_path).close()
    path = claim_file(read_settings(MEMORY, {}, tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be opened"):
        make_app(MEMORY, tmp_path)
    assert not os.path.lexists(tmp_path / "elsewhere")


def test_databases_of_servers_have_a_file_beside_the_settings(tmp_path: Path) -> None:
    ini = {**MEMORY, "sqlalchemy.url": "mysql://sync:one@db/sync"}
    path = claim_file(read_settings(ini, {}, tmp_path))
    assert path.parent == tmp_path / "var"
    assert path != claim_file(read_settings({**ini, "sqlalchemy.url": "mysql://db/other"}, {}, tmp_path))


def test_no_server_without_a_cache_starts_beside_one_that_has_a_memory(tmp_path: Path) -> None:
    """It would write what the other one does not know of."""
    app = make_app(MEMORY, tmp_path)
    try:
        with pytest.raises(ConfigError, match="which has to be the only one"):
            make_app({"auth.secrets": SECRET}, tmp_path)
    finally:
        app.close()
    make_app({"auth.secrets": SECRET}, tmp_path).close()


def test_nor_the_other_way_round(tmp_path: Path) -> None:
    app = make_app({"auth.secrets": SECRET}, tmp_path)
    make_app({"auth.secrets": SECRET}, tmp_path).close()
    try:
        with pytest.raises(ConfigError, match="another one serves this database already"):
            make_app(MEMORY, tmp_path)
    finally:
        app.close()


def test_nor_by_another_name_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "sync.db")
    app = make_app({**MEMORY, "sqlalchemy.url": f"sqlite:///{tmp_path / 'sync.db'}"}, tmp_path)
    try:
        with pytest.raises(ConfigError, match="another one serves this database already"):
            make_app({**MEMORY, "sqlalchemy.url": f"sqlite:///{tmp_path / 'link.db'}"}, tmp_path)
    finally:
        app.close()


@pytest.mark.parametrize(
    "other",
    [{"cache.provider": "none"}, {"cache.provider": "memory"}, {"cache.key_prefix": "another"}],
    ids=["none", "memory", "other names"],
)
def test_what_memcached_remembers_from_before_a_time_without_it_is_not_believed(
    tmp_path: Path, memcached_server: MemcachedServer, other: dict[str, str]
) -> None:
    cached = _memcached(memcached_server.address)
    with _served(cached, tmp_path) as user:
        assert _until_200(lambda: user.put("/storage/bookmarks/a", {"payload": "x"})).status == 200
        user.get("/info/collections")
        before = user.get("/info/collections").json
    with _served({**cached, **other}, tmp_path) as user:
        _until_200(lambda: user.put("/storage/bookmarks/a", {"payload": "y"}))
        between = user.get("/info/collections").json
    with _served(cached, tmp_path) as user:
        after = user.get("/info/collections").json
    assert before["bookmarks"] < between["bookmarks"] == after["bookmarks"]


def test_two_installations_with_one_prefix_on_one_memcached_do_not_take_each_other_s_tabs(
    tmp_path: Path, memcached_server: MemcachedServer
) -> None:
    cached = {**_memcached(memcached_server.address), "cache.cached_only": "tabs"}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with _served(cached, tmp_path / "one") as mine, _served(cached, tmp_path / "two") as theirs:
        _until_200(lambda: mine.put("/storage/tabs/mine", {"payload": "of this user"}))
        _until_200(lambda: theirs.put("/storage/tabs/theirs", {"payload": "of somebody else"}))
        assert mine.get("/storage/tabs").json == ["mine"]
        assert theirs.get("/storage/tabs").json == ["theirs"]


def _memcached(address: str) -> dict[str, str]:
    return {
        "auth.secrets": SECRET,
        "cache.provider": "memcached",
        "memcached.servers": address,
        "memcached.state_lease": "0.1",
        "memcached.retry_interval": "0.1",
    }


@contextmanager
def _served(ini: dict[str, str], folder: Path) -> Iterator[SyncClient]:
    app = make_app(ini, folder)
    try:
        yield SyncClient(7, SECRET, InProcess(app))
    finally:
        app.close()


def _until_200(ask: Callable[[], Reply]) -> Reply:
    """The answer, asked for again while the state of the cache is being settled."""
    reply = ask()
    for _ in range(200):
        if reply.status == 200:
            break
        app_clock_tick()
        reply = ask()
    return reply


def test_memcached_may_be_away_when_the_server_starts(tmp_path: Path) -> None:
    port = free_port()
    ini = {
        "auth.secrets": SECRET,
        "cache.provider": "memcached",
        "cache.cached_only": "tabs",
        "cache.write_through": "meta",
        "memcached.servers": f"{HOST}:{port}",
        "memcached.state_lease": "0.1",
        "memcached.retry_interval": "0.1",
    }
    app = make_app(ini, tmp_path)
    try:
        user = SyncClient(7, SECRET, InProcess(app))
        assert user.get("/info/collections").status == 200
        refused = user.put("/storage/tabs/a", {"payload": "x"})
        assert refused.status == 503
        assert refused.headers["retry-after"]
        assert user.get("/storage/tabs").status in (200, 503)
        with MemcachedServer(port=port):
            # whoever looks again finds it: nothing has to be restarted
            for _ in range(200):
                if user.put("/storage/tabs/a", {"payload": "x"}).status == 200:
                    break
                app_clock_tick()
            assert user.get("/storage/tabs/a").json["payload"] == "x"
    finally:
        app.close()


def app_clock_tick() -> None:
    """Let the pause of a server that did not answer go by."""
    import time

    time.sleep(0.05)
