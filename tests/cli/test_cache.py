"""`syncstore cache` on a real memcached: what is cached of users is shown, compared and taken away."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from syncstore.app import make_app
from syncstore.settings import read_settings
from syncstore.storage.layered.record import record
from syncstore.testing.cached_store import TABS, CachedStore, open_cached_store
from syncstore.testing.client import InProcess, SyncClient
from syncstore.testing.command import Folder
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import MemcachedServer

SECRET = "a-secret-of-the-tests-of-commands"
WRITTEN = "what-only-its-owner-may-read"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A folder with an ini file, and a client of the server that these settings make."""

    folder: Folder
    settings: dict[str, str]

    @contextmanager
    def client(self, uid: int = 7) -> Iterator[SyncClient]:
        """A user of the server."""
        app = make_app(self.settings, self.folder.path)
        try:
            yield SyncClient(uid, SECRET, InProcess(app))
        finally:
            app.close()

    @contextmanager
    def store(self) -> Iterator[CachedStore]:
        """The same installation from inside, to make it wrong."""
        settings = read_settings(self.settings, {}, self.folder.path)
        url, memcached = settings.sqlalchemy_url, str(settings.memcached_servers[0].address)
        with open_cached_store(url, memcached, TABS, prefix=settings.cache_key_prefix) as store:
            yield store

    def run(self, *words: str, given: str = "") -> tuple[int, list[str], list[str]]:
        """Run `syncstore cache`: its exit code and the lines of its two outputs."""
        result = self.folder.run("cache", *words, "--config", "sync.ini", given=given)
        assert "Traceback" not in result.stderr
        assert WRITTEN not in result.stdout + result.stderr
        return result.returncode, result.stdout.splitlines(), result.stderr.splitlines()


@pytest.fixture
def place(tmp_path: Path, memcached_server: MemcachedServer) -> Place:
    return make_place(tmp_path, memcached_server.address)


def make_place(path: Path, memcached: str, **more: str) -> Place:
    settings = {
        "sqlalchemy.url": f"sqlite:///{path}/sync.db",
        "auth.secrets": SECRET,
        "cache.provider": "memcached",
        "memcached.servers": memcached,
        "memcached.state_lease": "0.3",
        "cache.key_prefix": f"command{next(_numbers)}",
        "cache.cached_only": "tabs",
        "cache.write_through": "meta",
        **more,
    }
    section = "".join(f"{key} = {value}\n" for key, value in settings.items())
    (path / "sync.ini").write_text(f"[app:main]\nuse = egg:syncstore\n{section}")
    return Place(Folder(path), settings)


def fill(place: Place, uid: int = 7) -> None:
    """A user with a collection of each kind, all of which the cache knows."""
    with place.client(uid) as user:
        for name in ("bookmarks", "meta", "tabs"):
            user.post(f"/storage/{name}", [{"id": "a", "payload": WRITTEN}])
        for _ in range(3):
            user.get("/info/collections")
            user.get("/storage/meta?full=1")


# -- read


def test_what_is_cached_is_shown(place: Place) -> None:
    fill(place)
    code, said, complaints = place.run("read", "7")
    assert (code, complaints) == (0, [])
    with place.client() as user:
        times = user.get("/info/collections").json

    def of(name: str) -> str:
        return f"{times[name]:.2f} (20"

    assert said[0] == "user 7"
    assert said[1].startswith("  record: complete, storage " + of("tabs"))
    assert said[2].startswith("    bookmarks  " + of("bookmarks"))
    assert said[3].startswith("    meta       " + of("meta"))
    assert said[4].startswith("    tabs       " + of("tabs"))
    assert said[5].startswith("  copy of meta: of " + of("meta"))
    assert said[5].endswith(f" UTC), 1 items, {len(WRITTEN)} bytes, believed")
    assert said[6].startswith("  tabs, in the cache alone: of " + of("tabs"))
    assert said[6].endswith(f" UTC), 1 items, {len(WRITTEN)} bytes; agrees with SQL")
    assert len(said) == 7


def test_programs_are_told_in_json(place: Place) -> None:
    fill(place)
    code, (line, nobody), _ = place.run("read", "--json", given="7\n\n8\n")
    assert code == 0
    with place.client() as user:
        times = user.get("/info/collections").json
    told = json.loads(line, parse_float=Decimal)
    assert told["uid"] == 7
    assert told["trusted"] is True
    assert told["record"] == {
        "complete": True,
        "storage": times["tabs"],
        "collections": {name: {"state": "clean", "time": time} for name, time in times.items()},
    }
    size = len(WRITTEN)
    assert told["copies"] == {"meta": {"time": times["meta"], "items": 1, "bytes": size, "believed": True}}
    assert told["cached_only"] == {
        "tabs": {
            "state": "agrees",
            "time": times["tabs"],
            "items": 1,
            "bytes": size,
            "sql_time": times["tabs"],
        }
    }
    assert nobody == '{"uid":8,"trusted":true,"record":null,"copies":{},"cached_only":{}}'


@pytest.mark.parametrize("command", ["read", "clear", "verify"])
def test_lines_that_name_no_user_are_told_and_skipped(place: Place, command: str) -> None:
    fill(place)
    given = f"seven\n\n  7  \n-1\n{'9' * 5000}\n99999999999\né\x1b[2J\n8"
    code, said, complaints = place.run(command, "-", given=given)
    assert code == 1
    assert [line.partition(":")[0] for line in complaints] == [f"line {n}" for n in (1, 4, 5, 6, 7)]
    assert complaints[0] == "line 1: 'seven' is not a whole number from 0 to 9999999999"
    assert all(line.isprintable() for line in complaints)
    if command == "verify":
        assert said == ["compared 2 users: no disagreements"]
    else:
        assert {line.partition(":")[0] for line in said if line.startswith("user")} == {"user 7", "user 8"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["read", "seven"], "'seven' is not a whole number from 0 to 9999999999"),
        (["read", "-", "7"], "- reads users from standard input"),
        (["clear", "--all", "7"], "--all is about records and copies of everybody"),
        (["clear", "--all", "--cached-only"], "--all is about records and copies of everybody"),
        (["clear", "--locks", "7"], "lock.backend is not memcached"),
    ],
)
def test_mistakes_end_at_once(place: Place, words: list[str], message: str) -> None:
    code, said, complaints = place.run(*words)
    assert (code, said) == (2, [])
    assert message in complaints[-1]


@pytest.mark.parametrize("command", [["read", "7"], ["clear", "7"], ["clear", "--all"], ["verify"]])
@pytest.mark.parametrize("provider", ["none", "memory"])
def test_there_must_be_a_memcached(folder: Folder, command: list[str], provider: str) -> None:
    result = folder.run("cache", *command, SYNCSTORE_CACHE__PROVIDER=provider)
    assert (result.returncode, result.stdout) == (2, "")
    assert "cache.provider" in result.stderr
    assert not (folder.path / "var").exists()


def test_a_memcached_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    away = f"{HOST}:{free_port()}"
    place = make_place(tmp_path, away)
    for command in ("read", "verify"):
        with place.client() as user:
            user.get("/info/collections")
        code, _, complaints = place.run(command, "7")
        assert code == 1
        assert complaints[-1].startswith("syncstore: the cache does not answer: ")
        told = {
            "read": [],
            "verify": [f"{away} is out of use now, and its records and copies are not compared"],
        }
        assert complaints[:-1] == told[command]


# -- clear


def test_what_nobody_can_bring_back_is_named_and_stays(place: Place) -> None:
    fill(place)
    with place.client() as user:
        before = user.get("/info/collections").json
    code, said, complaints = place.run("clear", "7")
    assert (code, complaints) == (0, [])
    assert said == [
        f"user 7: tabs, in the cache alone, 1 items of {len(WRITTEN)} bytes: stays; --cached-only would destroy it",
        "user 7: 2 records and copies are forgotten",
    ]
    assert "  no record" in place.run("read", "7")[1]
    with place.client() as user:
        assert user.get("/info/collections").json == before
        assert user.get("/storage/tabs").json == ["a"]


def test_clients_see_what_was_destroyed_and_upload_again(place: Place) -> None:
    fill(place)
    with place.client() as user:
        before = user.get("/info/collections")
    code, said, complaints = place.run("clear", "--cached-only", given="7\n8\n")
    assert (code, complaints) == (0, [])
    assert said == [
        f"user 7: destroying tabs, in the cache alone, 1 items of {len(WRITTEN)} bytes",
        "user 7: tabs is destroyed; clients are told, and upload it again",
        *said[2:],
    ]
    assert said[-1] == "user 8: 0 records and copies are forgotten"
    with place.client() as user:
        after = user.get("/info/collections")
        assert "tabs" not in after.json
        assert after.modified > before.modified
        gone = user.get("/storage/tabs")
        assert gone.json == []
        assert gone.modified == after.modified
        user.put("/storage/tabs/a", {"payload": "again"})
        assert user.get("/storage/tabs").json == ["a"]
    assert place.run("verify")[1] == ["compared 1 users: no disagreements"]


def test_locks_are_removed_whoever_holds_them(tmp_path: Path, memcached_server: MemcachedServer) -> None:
    place = make_place(tmp_path, memcached_server.address, **{"lock.backend": "memcached"})
    fill(place)
    from syncstore.app_cache import open_lock_backend
    from syncstore.clock import SystemClock
    from syncstore.errors import LockLost
    from syncstore.testing.sql_store import open_sql_store

    settings = read_settings(place.settings, {}, tmp_path)
    store = open_sql_store(settings.sqlalchemy_url, SystemClock())
    locks = open_lock_backend(settings, store.database, SystemClock())
    held = [locks.acquire((7, name), "write", 1) for name in ("", "tabs")]
    code, said, _ = place.run("clear", "--locks", "7")
    assert (code, said[-1]) == (0, "user 7: 2 locks are removed")
    for grant in held:
        with pytest.raises(LockLost):
            grant.release()
    store.database.close()


def test_everything_is_forgotten_after_a_restore_of_the_database(place: Place) -> None:
    fill(place)
    with place.store() as store:
        # What a restored backup is to the cache: records of a future that never was.
        truth = store.record(7)
        assert truth.storage is not None
        store.plant(
            7, record(complete=True, storage=truth.storage + 500, entries={"forms": truth.storage + 500})
        )
    assert place.run("verify")[0] == 1
    with place.client() as user:
        assert list(user.get("/info/collections").json) == ["forms"]
    code, said, complaints = place.run("clear", "--all")
    assert (code, complaints) == (0, [])
    server = place.settings["memcached.servers"]
    assert said == [
        f"what {server} has of records and copies is forgotten; for 0.3 s writes wait, and reads are answered by SQL",
        f"{server}: waiting 0.3 s, until all servers know",
        f"{server} is in use",
    ]
    assert place.run("verify")[0] == 0
    with place.client() as user:
        assert sorted(user.get("/info/collections").json) == ["bookmarks", "meta", "tabs"]
        assert user.get("/storage/tabs").json == ["a"], "what lives in the cache alone is untouched"


def test_a_memcached_that_is_away_is_forgotten_all_the_same(tmp_path: Path) -> None:
    place = make_place(tmp_path, f"{HOST}:{free_port()}")
    code, said, _ = place.run("clear", "--all")
    assert code == 1
    assert said[2].endswith("does not answer: it is used again when a server that runs finds that it does")


# -- verify


def test_a_disagreement_is_one_line_and_exit_code_1(place: Place) -> None:
    for uid in (7, 8):
        fill(place, uid)
    assert place.run("verify") == (0, ["compared 2 users: no disagreements"], [])
    with place.store() as store:
        truth = store.record(8)
        assert truth.storage is not None
        entries = truth.entries | {"bookmarks": truth.storage - 1000}
        store.plant(8, record(complete=True, storage=truth.storage, entries=entries))
    code, said, complaints = place.run("verify")
    assert (code, complaints) == (1, [])
    assert len(said) == 2
    assert said[0].startswith("user 8, bookmarks: the record says 1")
    assert said[1] == "compared 2 users: 1 disagreement"
    assert place.run("verify", "7")[0] == 0
    assert place.run("verify", "-", given="7\n8\n")[0] == 1
    place.run("clear", "8")
    assert place.run("verify")[0] == 0


def test_what_memcached_has_lost_is_no_disagreement(tmp_path: Path) -> None:
    with started(MemcachedServer) as server:
        place = make_place(tmp_path, server.address)
        fill(place)
        server.flush()
        assert place.run("verify") == (0, ["compared 1 users: no disagreements"], [])
        assert any("lost: SQL says" in line for line in place.run("read", "7")[1])
        with place.client() as user:
            assert user.get("/storage/tabs").json == []
        assert any("lost, as clients are told since" in line for line in place.run("read", "7")[1])
        assert place.run("verify")[0] == 0
