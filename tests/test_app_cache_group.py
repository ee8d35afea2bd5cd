"""The storage cached by another provider than memcached: what is refused at start, and what happens when it fails."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.app import check, make_app
from syncstore.cache import making
from syncstore.cache.api import Provider
from syncstore.cache.making import Surroundings
from syncstore.cache.memory import MemoryProvider
from syncstore.errors import ConfigError
from syncstore.settings import read_settings
from syncstore.testing.api_suite.fixtures import SECRET, serving
from syncstore.testing.cache_stand import in_time
from syncstore.testing.cached_app import cluster_settings
from syncstore.testing.client import SyncClient
from syncstore.testing.command import Folder
from syncstore.testing.plugin import started
from syncstore.testing.transports import InProcess
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer

LEASE = "0.3"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    """Those of an app over a file in memory."""
    return {
        "sqlalchemy.url": f"sqlite:///{tmp_path}/sync.db",
        "auth.secrets": SECRET,
        "migrate": "auto",
        "cache.provider": f"shmcb:{tmp_path}/cache(1048576)",
        "cache.cached_only": "tabs",
        "cache.write_through": "meta",
        "memcached.state_lease": LEASE,
        "memcached.retry_interval": LEASE,
    }


def user(transport: InProcess) -> SyncClient:
    return SyncClient(random.randrange(1, 2**31), SECRET, transport)


def payloads(sync: SyncClient, collection: str) -> list[str]:
    return [item["payload"] for item in in_time(sync.get, f"/storage/{collection}?full=1").json]


# -- what is refused


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        ("shmcb", "must be none, memory or memcached, or another provider with its argument"),
        ("memory:", "must be memory alone"),
        ("memcached timeout=1", "must be memcached alone"),
        ("http://127.0.0.1/map", "must not be http"),
        ("nothing:at/all", "there is no provider 'nothing'"),
        ("shmcb:/x(1)", "8192"),
        ("zookeeper:other/cache", "zk.clusters does not name 'other'"),
        ("dbm:cache.db what=1", "what is not an option of this provider"),
        ("dc:somewhere", "distcache is gone"),
    ],
)
def test_what_cannot_be_the_cache_is_refused_by_its_name(
    settings: dict[str, str], tmp_path: Path, provider: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=r"cache\.provider.*" + words.replace("(", r"\(")):
        check(read_settings({**settings, "cache.provider": provider}, {}, tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("lacks", "words"),
    [({"cas": False, "shared": True}, "no compare-and-set"), ({"shared": False}, "not shared by processes")],
)
def test_a_provider_that_cannot_do_what_is_needed_is_refused(
    settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lacks: dict[str, bool],
    words: str,
) -> None:
    class Lacking(MemoryProvider):
        features = MemoryProvider.features._replace(**lacks)

    def make(_: making.Description, around: Surroundings) -> Provider:
        return Lacking(around.clock)

    monkeypatch.setattr(making, "make", make)
    with pytest.raises(ConfigError, match=words):
        check(read_settings({**settings, "cache.provider": "lacking:"}, {}, tmp_path))
    with pytest.raises(ConfigError, match=words):
        make_app({**settings, "cache.provider": "lacking:"}, tmp_path)


@pytest.mark.parametrize("name", ["sync-0123456789a", "sync-"])
def test_a_small_cache_cannot_have_a_name_of_the_storage_s_own(
    settings: dict[str, str], tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="storage's own cache"):
        check(read_settings({**settings, f"socache.{name}": "memory"}, {}, tmp_path))


def test_a_small_cache_cannot_be_in_the_storage_s_file(settings: dict[str, str], tmp_path: Path) -> None:
    more = {"socache.mine": f"shmcb:{tmp_path}/cache(8192)"}
    with pytest.raises(ConfigError, match=r"one and the same place"):
        check(read_settings({**settings, **more}, {}, tmp_path))


# -- several processes


def test_processes_of_one_machine_share_it(settings: dict[str, str]) -> None:
    with serving(settings) as one, serving(settings) as two:
        first = user(InProcess(one))
        second = SyncClient(first.uid, SECRET, InProcess(two))
        for number in range(10):
            in_time(first.put, "/storage/tabs/a", {"payload": f"tabs {number}"})
            in_time(first.put, "/storage/meta/a", {"payload": f"meta {number}"})
            assert payloads(second, "tabs") == [f"tabs {number}"]
            assert payloads(second, "meta") == [f"meta {number}"]
            first, second = second, first


def test_another_machine_with_a_file_of_its_own_takes_the_place_of_the_first(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(settings) as here:
        first = user(InProcess(here))
        in_time(first.put, "/storage/meta/a", {"payload": "before"})
        assert payloads(first, "meta") == ["before"]
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        there = {**settings, "cache.provider": f"shmcb:{tmp_path}/other(1048576)"}
        with serving(there) as app:
            second = SyncClient(first.uid, SECRET, InProcess(app))
            in_time(second.put, "/storage/meta/a", {"payload": "after"})
            assert payloads(second, "meta") == ["after"]
            refused = first.put("/storage/meta/a", {"payload": "late"})
            assert refused.status == 503
            read = first.get("/storage/meta?full=1")
            assert read.status == 503 or read.json[0]["payload"] == "after"


def test_what_it_remembers_from_before_another_cache_is_not_believed(
    settings: dict[str, str], tmp_path: Path
) -> None:
    uid = random.randrange(1, 2**31)
    other = f"dbm:{tmp_path}/cache.db"
    for number, provider in enumerate([settings["cache.provider"], other] * 2):
        with serving({**settings, "cache.provider": provider}) as app:
            sync = SyncClient(uid, SECRET, InProcess(app))
            if number:
                assert payloads(sync, "meta") == [str(number - 1)]
            in_time(sync.put, "/storage/meta/a", {"payload": str(number)})
            in_time(sync.get, "/storage/tabs")
            assert payloads(sync, "meta") == [str(number)]


def test_it_is_seen_and_taken_out_of_use_by_the_commands(settings: dict[str, str], tmp_path: Path) -> None:
    lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
    (tmp_path / "sync.ini").write_text(f"[app:main]\nuse = egg:syncstore\n{lines}")

    def run(*words: str) -> list[str]:
        result = Folder(tmp_path).run("cache", *words, "--config", "sync.ini")
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout.splitlines()

    with serving(settings) as app:
        sync = user(InProcess(app))
        in_time(sync.put, "/storage/meta/a", {"payload": "x"})
        assert run("servers")[1].split()[:4] == ["shmcb", settings["cache.provider"], "1", "up"]
        assert run("check") == ["shmcb: ok"]
        assert run("verify", str(sync.uid))[-1]
        assert run("down", "shmcb")[0].startswith("shmcb is out of use for all servers")
        in_time(sync.put, "/storage/meta/a", {"payload": "y"})
        assert run("servers")[1].split()[3] == "held"
        assert run("up", "shmcb")[-1] == "shmcb is in use"
        assert payloads(sync, "meta") == ["y"]


# -- ZooKeeper goes away


@pytest.fixture(scope="module")
def zookeeper() -> Iterator[ZooKeeperServer]:
    """One that these tests may kill."""
    with started(ZooKeeperServer) as running:
        yield running


@pytest.mark.parametrize("trouble", ["kill9", "freeze"])
def test_without_zookeeper_sql_answers_and_nothing_old_is_told_when_it_is_back(
    settings: dict[str, str], zookeeper: ZooKeeperServer, trouble: str
) -> None:
    there = {
        **settings,
        **cluster_settings(zookeeper.hosts),
        "cache.provider": "zookeeper:main/cache timeout=0.5",
        "zk.main.session_timeout_ms": "4000",
    }
    with serving(there) as app:
        sync = user(InProcess(app))
        in_time(sync.put, "/storage/tabs/a", {"payload": "before"})
        in_time(sync.put, "/storage/meta/a", {"payload": "before"})
        assert payloads(sync, "meta") == ["before"]

        getattr(zookeeper, trouble)()
        began = time.monotonic()
        assert sync.put("/storage/meta/a", {"payload": "meanwhile"}).status == 200
        assert time.monotonic() - began < 8
        assert sync.get("/storage/tabs").status == 503
        assert payloads(sync, "meta") == ["meanwhile"]
        if trouble == "kill9":
            zookeeper.start()
        else:
            zookeeper.thaw()

        in_time(sync.put, "/storage/tabs/b", {"payload": "after"})

        def both() -> bool:
            assert payloads(sync, "meta") == ["meanwhile"]
            return sorted(payloads(sync, "tabs")) == ["after", "before"]

        await_that(both)
