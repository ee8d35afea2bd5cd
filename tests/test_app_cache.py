"""The composition of the cache: who may have a memory, and what a start refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncstore.app import make_app
from syncstore.app_cache import memory_lock
from syncstore.errors import ConfigError
from syncstore.settings import read_settings
from syncstore.testing.client import InProcess, SyncClient
from syncstore.testing.processes import HOST, free_port
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
    path = memory_lock(read_settings(MEMORY, {}, tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be opened"):
        make_app(MEMORY, tmp_path)
    assert not os.path.lexists(tmp_path / "elsewhere")


def test_databases_of_servers_have_a_file_beside_the_settings(tmp_path: Path) -> None:
    ini = {**MEMORY, "sqlalchemy.url": "mysql://sync:one@db/sync"}
    path = memory_lock(read_settings(ini, {}, tmp_path))
    assert path.parent == tmp_path / "var"
    assert path != memory_lock(read_settings({**ini, "sqlalchemy.url": "mysql://db/other"}, {}, tmp_path))


def test_a_server_without_a_cache_starts_beside_one_that_has_a_memory(tmp_path: Path) -> None:
    app = make_app(MEMORY, tmp_path)
    make_app({"auth.secrets": SECRET}, tmp_path).close()
    app.close()


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
