"""The composition of small-object caches: what settings make, what a start refuses, and what a mount cannot reach."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from syncstore.app import check, make_app
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.settings import read_settings
from syncstore.testing.client import InProcess, SyncClient
from syncstore.testing.replies import Reply
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.waiting import await_that

SECRET = "a-secret-of-the-tests-of-mounts"
BASE = {"auth.secrets": SECRET, "socache.objects": "memory", "shmap.permission": "public"}
MOUNTED = {**BASE, "shmap.mounts": "/map objects"}

Send = Callable[..., tuple[int, dict[str, str], bytes]]


@contextmanager
def serving(ini: dict[str, str], folder: Path) -> Iterator[Send]:
    """A function that sends a request to an application of these settings."""
    app = make_app(ini, folder)

    def send(
        method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        status, given, came = InProcess(app).send(method, target, headers or {}, body)
        return status, {name.lower(): value for name, value in given}, came

    try:
        yield send
    finally:
        app.close()


# -- what is made


def test_nothing_is_mounted_unless_the_settings_say_so(tmp_path: Path) -> None:
    for ini in ({"auth.secrets": SECRET}, BASE):
        with serving(ini, tmp_path) as send:
            assert send("PUT", "/map/a", b"x")[0] == 404


def test_a_mount_comes_before_the_sync_api_which_is_there_as_before(tmp_path: Path) -> None:
    with serving(MOUNTED, tmp_path) as send:
        assert send("PUT", "/map/%FF", b"x")[0] == 201
        assert send("GET", "/map/%FF")[2] == b"x"
        assert send("GET", "/__lbheartbeat__")[0] == 200
        assert send("GET", "/1.5/7/info/collections")[0] == 401
        assert send("GET", "/mapx")[0] == 404


def test_the_longest_prefix_wins_on_the_bounds_of_segments(tmp_path: Path) -> None:
    ini = {
        **BASE,
        "socache.other": "memory",
        "shmap.mounts": "/map objects\n/map/shm other\n /deep/er/still objects",
        "shmap.list": "true",
    }
    with serving(ini, tmp_path) as send:
        for target in ("/map/a", "/map/shm/a", "/map/shmx", "/map/shm", "/deep/er/still/a"):
            send("PUT", target, b"x")
        keys = {
            mount: [row["key"] for row in json.loads(send("GET", f"{mount}?keys")[2])["keys"]]
            for mount in ("/map", "/map/shm", "/deep/er/still")
        }
    assert keys == {
        "/map": ["/map/a", "/map/shmx"],
        "/map/shm": ["/map/shm/a"],
        "/deep/er/still": ["/deep/er/still/a"],
    }


def test_two_mounts_of_one_cache_by_suffix_are_one(tmp_path: Path) -> None:
    ini = {**BASE, "shmap.mounts": "/map objects /other objects", "shmap.key": "suffix"}
    with serving(ini, tmp_path) as send:
        assert send("PUT", "/map/a", b"x")[0] == 201
        assert send("GET", "/other/a")[2] == b"x"


def test_a_mount_has_no_cors(tmp_path: Path) -> None:
    """Not for a preflight, and not for an answer; the sync API has it as before."""
    origin = {"Origin": "https://elsewhere.example.com", "Access-Control-Request-Method": "PUT"}
    with serving(MOUNTED, tmp_path) as send:
        for method in ("OPTIONS", "GET", "PUT"):
            headers = send(method, "/map/a", b"x" if method == "PUT" else None, origin)[1]
            assert not [name for name in headers if name.startswith("access-control")]
        assert "access-control-allow-origin" in send("OPTIONS", "/1.5/7/storage", None, origin)[1]


def test_the_permission_is_that_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the-old-secret-1234\nthe-new-secret-1234\n")
    ini = {**MOUNTED, "shmap.permission": "shmap", "shmap.secret_file": "secret"}
    with serving(ini, tmp_path) as send:
        assert send("GET", "/map/a")[0] == 401
        for secret, status in (("the-old-secret-1234", 404), ("the-new-secret-1234", 404), ("another", 403)):
            assert send("GET", "/map/a", None, {"Authorization": f"Bearer {secret}"})[0] == status


def test_the_path_of_public_url_is_no_part_of_a_key(tmp_path: Path) -> None:
    ini = {**MOUNTED, "public_url": "https://sync.example.com/ff", "shmap.list": "true"}
    with serving(ini, tmp_path) as send:
        assert send("PUT", "/ff/map/a", b"x")[0] == 201
        assert send("GET", "/map/a")[2] == b"x"
        assert [row["key"] for row in json.loads(send("GET", "/ff/map?keys")[2])["keys"]] == ["/map/a"]


def test_options_of_a_cache_reach_it(tmp_path: Path) -> None:
    ini = {**MOUNTED, "socache.objects": "memory max_value=10 max_items=2 cull_interval=0"}
    with serving(ini, tmp_path) as send:
        assert send("PUT", "/map/a", b"x" * 11)[0] == 413
        assert send("OPTIONS", "/map")[1]["x-shmap-max-value"] == "10"


def test_a_cache_is_culled_every_so_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[MemoryProvider] = []

    def cull(self: MemoryProvider, now: float | None = None, limit: int = 1000) -> int:
        seen.append(self)
        return 0

    monkeypatch.setattr(MemoryProvider, "cull", cull)
    with serving({**BASE, "socache.objects": "memory cull_interval=0.01"}, tmp_path):
        await_that(lambda: len(seen) > 2)
    count = len(seen)
    with serving({**BASE, "socache.objects": "memory cull_interval=0"}, tmp_path):
        assert len(seen) == count


def test_caches_by_a_path_start_from_the_folder_of_the_settings(tmp_path: Path) -> None:
    ini = {**BASE, "socache.objects": "shmcb:shared(1000000)", "shmap.mounts": "/map objects"}
    with serving(ini, tmp_path) as send:
        assert send("PUT", "/map/a", b"x")[0] == 201
    assert (tmp_path / "shared").exists()
    with serving(ini, tmp_path) as send:
        assert send("GET", "/map/a")[2] == b"x"


# -- what is refused

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "no permission said": (
        {"shmap.permission": "shmap"},
        "shmap.mounts needs shmap.secret, or shmap.secret_file, for who may use it; or write "
        "shmap.permission = public",
    ),
    "a secret for everybody": ({"shmap.secret": SECRET}, "shmap.secret protects nothing"),
    "a short secret": ({"shmap.secret": "short"}, "shmap.secret: must have secrets of 16 to 200"),
    "another permission": ({"shmap.permission": "all"}, "shmap.permission = all: must be one of shmap, public"),
    "an unknown cache": ({"shmap.mounts": "/map none"}, "shmap.mounts: there is no socache.none"),
    "half a mount": ({"shmap.mounts": "/map"}, "a path and a cache's name on each line"),
    "a mount twice": ({"shmap.mounts": "/map objects /map objects"}, "/map is there twice"),
    "the root": ({"shmap.mounts": "/ objects"}, "must begin with a slash, end without one"),
    "a slash at the end": ({"shmap.mounts": "/map/ objects"}, "must begin with a slash, end without one"),
    "no slash": ({"shmap.mounts": "map objects"}, "must begin with a slash, end without one"),
    "dots": ({"shmap.mounts": "/map/.. objects"}, "must begin with a slash, end without one"),
    "an escape": ({"shmap.mounts": "/m%61p objects"}, "must begin with a slash, end without one"),
    "another key": ({"shmap.key": "name"}, "shmap.key = name: must be one of path, suffix"),
    "a negative expiry": ({"shmap.default_expiry": "-1"}, "shmap.default_expiry = -1: must be a number"),
    "no room for a body": ({"shmap.max_body": "0"}, "shmap.max_body = 0: must be a whole number"),
    "no time": ({"shmap.timeout": "0"}, "shmap.timeout = 0: must be a number of seconds"),
    "the path of public_url": (
        {"public_url": "https://x.example.com/map"},
        "shmap.mounts: /map and the path of public_url hide each other",
    ),
    "a provider that is not there": ({"socache.objects": "none:x"}, "socache.objects: there is no provider 'none'"),
    "distcache": ({"socache.objects": "dc:x"}, "socache.objects: distcache is gone; use http: or memcached:"),
    "no provider": ({"socache.objects": ""}, "socache.objects: must begin with a provider's name"),
    "an unknown option": ({"socache.objects": "memory x=1"}, "socache.objects: x is not an option"),
    "a wrong option": ({"socache.objects": "memory cull_interval=-1"}, "socache.objects: cull_interval=-1: must be"),
    "a long name": ({"socache.a-name-that-is-too-long": "memory"}, "a cache's name must be 1 to 16"),
    "a name of capitals": ({"socache.Objects": "memory"}, "a cache's name must be 1 to 16"),
    "an unknown cluster": ({"socache.objects": "zookeeper:main/objects"}, "socache.objects: .*'main'"),
    "the prefix of caches": ({"cache.key_prefix": "socache-objects"}, "cache.key_prefix must not have socache-"),
    "a memory for each process": ({"serve.workers": "2"}, "each process has a memory of its own"),
    "one file for two": (
        {"socache.objects": "shmcb:shared(100000)", "socache.other": "shmcb:./shared"},
        "socache.other and socache.objects are one and the same place",
    ),
    "one mount for two": (
        {"socache.objects": "http://cache/map", "socache.other": "http://cache/map/ timeout=5"},
        "socache.other and socache.objects are one and the same place",
    ),
    "the service's database": ({"socache.objects": "dbm:var/sync.db"}, "is the database of the service"),
    "an argument for memcached": ({"socache.objects": "memcached:x"}, "memcached: has no argument"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_start_refuses_what_cannot_be(tmp_path: Path, what: str) -> None:
    more, words = WRONG[what]
    for start in (lambda ini: make_app(ini, tmp_path), lambda ini: check(read_settings(ini, {}, tmp_path))):
        with pytest.raises(ConfigError, match=words):
            start({**MOUNTED, **more})
    assert not list(tmp_path.glob("shared*"))


def test_no_message_has_a_secret(tmp_path: Path) -> None:
    for more in (
        {"shmap.secret": "short", "shmap.permission": "shmap"},
        {"socache.objects": "http://cache token=short"},
        {"socache.objects": "http://cache/map token=short token=short"},
        {"socache.objects": "HTTP token=short"},
        {"socache.objects": "http://cache/map token=\xe4=short"},
    ):
        with pytest.raises(ConfigError) as told:
            check(read_settings({**MOUNTED, **more}, {}, tmp_path))
        assert "=short" not in str(told.value)
        settings = repr(
            read_settings({**MOUNTED, "socache.objects": "http://cache/map token=shown"}, {}, tmp_path)
        )
        assert "shown" not in settings


def test_no_mount_hides_a_route(tmp_path: Path) -> None:
    """Whatever routes there are, the token server's with them."""
    everything = {
        "auth.secrets": SECRET,
        "tokenserver.enabled": "true",
        "tokenserver.events": "true",
        "tokenserver.events_client_id": "x",
        "tokenserver.events_issuer": "x",
    }
    app: Any = make_app(everything, tmp_path)
    category = app._router.registry.introspector.get_category("routes")
    patterns = [one["introspectable"]["pattern"] for one in category]
    app.close()
    firsts = {pattern.split("/")[1] for pattern in patterns} - {""}
    assert len(firsts) > 5
    for first in firsts | {"storage", "__anything__"}:
        for mount in (f"/{first}", f"/{first}/x"):
            with pytest.raises(ConfigError, match="would hide the paths of the sync API"):
                read_settings({**BASE, "shmap.mounts": f"{mount} objects"}, {}, tmp_path)


# -- settings by name


def test_a_cache_is_named_in_the_environment_and_in_files_too(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("http://cache/map token=a-secret\n")
    environment = {"SYNCSTORE_SOCACHE__ONE": "memory", "SYNCSTORE_SOCACHE__TWO_FILE": "cache"}
    settings = read_settings({"socache.three-3": "memory"}, environment, tmp_path)
    assert settings.caches == {"one": "memory", "two": "http://cache/map token=a-secret", "three-3": "memory"}


@pytest.mark.parametrize(
    "key", ["socache", "socache.", "socache.a.b", "socache.a.", "socache..a", "shmap.<name>"]
)
def test_a_key_without_a_name_is_unknown(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting"):
        read_settings({key: "memory"}, {}, tmp_path)


# -- memcached


@pytest.fixture
def memcached() -> Iterator[MemcachedServer]:
    with MemcachedServer() as server:
        yield server


def names_in(server: MemcachedServer) -> list[str]:
    """The names of all keys, percent-encoded as memcached tells them."""
    dump = b""
    with server.connect(timeout=5) as connection:
        connection.sendall(b"lru_crawler metadump all\r\n")
        while not dump.endswith(b"END\r\n"):
            dump += connection.recv(65536)
    return [line.split()[0][4:].decode() for line in dump.split(b"\n") if line.startswith(b"key=")]


def until_200(ask: Callable[[], Reply]) -> None:
    await_that(lambda: ask().status == 200)


@pytest.mark.parametrize("key", ["path", "suffix"])
def test_a_mount_cannot_reach_the_storage_s_keys(
    tmp_path: Path, memcached: MemcachedServer, key: str
) -> None:
    """Check 1.4.9: all physical names of a run, asked of a mount over the same memcached, by every part of them."""
    ini = {
        "auth.secrets": SECRET,
        "cache.provider": "memcached",
        "cache.write_through": "meta crypto bookmarks",
        "cache.cached_only": "tabs",
        "lock.backend": "memcached",
        "memcached.servers": memcached.address,
        "memcached.state_lease": "0.1",
        "memcached.retry_interval": "0.1",
        "socache.objects": "memcached",
        "shmap.mounts": "/map objects",
        "shmap.permission": "public",
        "shmap.key": key,
    }
    app = make_app(ini, tmp_path)
    try:
        for uid in (7, 8):
            user = SyncClient(uid, SECRET, InProcess(app))
            for collection in ("meta", "bookmarks", "tabs"):
                until_200(lambda: user.put(f"/storage/{collection}/a", {"payload": "x"}))  # noqa: B023 - called at once
                user.get(f"/storage/{collection}")
            user.get("/info/collections")
        names = names_in(memcached)
        assert len(names) > 8

        mount = InProcess(app)
        for name in names:
            parts = name.replace("%3A", ":").split(":")
            for at in range(len(parts)):
                for prefix in ("/map/", "/map", "/map/../", "/map//"):
                    target = prefix + quote(":".join(parts[at:]), safe="%")
                    assert mount.send("GET", target, {}, None)[0] == 404
                    assert mount.send("DELETE", target, {}, None)[0] == 404
        assert mount.send("PUT", "/map/mine", {}, b"x")[0] == 201
        (mine,) = set(names_in(memcached)) - set(names)
        assert mine.startswith("sync-socache-objects%3A")
        assert all(not name.startswith("sync-socache-") for name in names)
        for uid in (7, 8):
            user = SyncClient(uid, SECRET, InProcess(app))
            assert user.get("/storage/tabs").json == ["a"]
    finally:
        app.close()


def test_several_memcacheds_are_one_cache(tmp_path: Path) -> None:
    """Beside a storage that has none."""
    with MemcachedServer() as one, MemcachedServer() as other:
        ini = {
            **MOUNTED,
            "socache.objects": "memcached",
            "memcached.servers": f"{one.address} {other.address}",
            "memcached.state_lease": "0.2",
            "memcached.retry_interval": "0.2",
        }
        check(read_settings(ini, {}, tmp_path))
        with serving(ini, tmp_path) as send:
            for number in range(40):
                assert send("PUT", f"/map/{number}", b"%d" % number)[0] == 201
            assert min(len(names_in(one)), len(names_in(other))) > 5
            with serving(ini, tmp_path) as another:
                assert {another("GET", f"/map/{number}")[2] for number in range(40)} == {
                    b"%d" % number for number in range(40)
                }
            other.kill9()
            statuses = {send("GET", f"/map/{number}")[0] for number in range(40)}
            assert statuses == {200, 503}
            other.start()
            await_that(lambda: {send("GET", f"/map/{number}")[0] for number in range(40)} == {200, 404})


def test_a_memcached_that_was_killed_is_503_and_then_empty(tmp_path: Path) -> None:
    """Check 1.4.3."""
    with MemcachedServer() as server:
        ini = {**MOUNTED, "socache.objects": "memcached", "memcached.servers": server.address}
        with serving(ini, tmp_path) as send:
            assert send("PUT", "/map/a", b"x")[0] == 201
            server.kill9()
            status, headers, _ = send("GET", "/map/a")
            assert (status, headers["x-shmap"], "retry-after" in headers) == (503, "unavailable", True)
            assert send("PUT", "/map/a", b"y")[0] == 503
            server.start()
            await_that(lambda: send("GET", "/map/a")[0] == 404)


def test_a_silent_memcached_is_503_in_time(tmp_path: Path) -> None:
    with MemcachedServer() as server:
        ini = {
            **MOUNTED,
            "socache.objects": "memcached",
            "memcached.servers": server.address,
            "memcached.timeout": "30",
            "shmap.timeout": "0.3",
        }
        with serving(ini, tmp_path) as send:
            assert send("PUT", "/map/a", b"x")[0] == 201
            server.freeze()
            began = SystemClock().monotonic()
            assert send("GET", "/map/a")[0] == 503
            assert SystemClock().monotonic() - began < 15
            server.thaw()


def test_a_process_that_was_forked_has_no_mounts(tmp_path: Path) -> None:
    """As it has no storage: it would read its answers from its parent's connections."""
    with serving(MOUNTED, tmp_path) as send:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writing, b"%d" % send("GET", "/map/a")[0])
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reading, 10) == b"503"
        os.close(reading)
        os.close(writing)
