"""`syncstore cache servers`, `down`, `up` and `check` on real memcacheds: what they do, and say word by word."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncstore.app import make_app
from syncstore.testing.client import InProcess, SyncClient
from syncstore.testing.command import Folder
from syncstore.testing.plugin import started
from syncstore.testing.servers import MemcachedServer

SECRET = "a-secret-of-the-tests-of-commands"
_numbers = itertools.count(1)
_SINCE = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d")
_BY = re.compile(rf"\({re.escape(socket.gethostname())}:\d+\)")

Pair = tuple[MemcachedServer, MemcachedServer]


@pytest.fixture(scope="module")
def _memcacheds() -> Iterator[Pair]:
    with started(MemcachedServer) as one, started(MemcachedServer) as two:
        yield one, two


@pytest.fixture
def memcacheds(_memcacheds: Pair) -> Pair:
    """Two memcacheds of this module, which its tests may break."""
    for server in _memcacheds:
        if not server.alive:
            server.start()
        server.flush()
    return _memcacheds


class Place:
    """A folder with an ini file of two memcacheds, a and b."""

    def __init__(self, path: Path, memcacheds: Pair, **more: str) -> None:
        one, two = memcacheds
        self.folder = Folder(path)
        self.settings = {
            "sqlalchemy.url": f"sqlite:///{path}/sync.db",
            "auth.secrets": SECRET,
            "cache.provider": "memcached",
            "memcached.servers": f"{one.address} name=a weight=2 {two.address} name=b",
            "memcached.state_lease": "0.3",
            "cache.key_prefix": f"servers{next(_numbers)}",
            "cache.cached_only": "tabs",
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        section = "".join(f"{key} = {value}\n" for key, value in self.settings.items())
        (path / "sync.ini").write_text(f"[app:main]\nuse = egg:syncstore\n{section}")

    @contextmanager
    def client(self, uid: int = 7) -> Iterator[SyncClient]:
        """A user of a server with these settings."""
        app = make_app(self.settings, self.folder.path)
        try:
            yield SyncClient(uid, SECRET, InProcess(app))
        finally:
            app.close()

    def run(self, *words: str) -> tuple[int, list[str]]:
        """Run `syncstore cache`: its exit code, and the lines that it printed; moments and processes blotted out."""
        result = self.folder.run("cache", *words, "--config", "sync.ini")
        assert "Traceback" not in result.stderr
        lines = [*result.stdout.splitlines(), *result.stderr.splitlines()]
        return result.returncode, [_BY.sub("(BY)", _SINCE.sub("SINCE", line)) for line in lines]

    def states(self) -> dict[str, str]:
        """The state of each server."""
        code, (_, *lines) = self.run("servers")
        assert code == 0
        return {line.split()[0]: line.split()[3] for line in lines}


@pytest.fixture
def place(tmp_path: Path, memcacheds: Pair) -> Place:
    return Place(tmp_path, memcacheds)


# -- servers


def test_before_anybody_has_asked_their_states_are_unknown(place: Place, memcacheds: Pair) -> None:
    one, two = (server.address for server in memcacheds)
    assert place.run("servers") == (
        0,
        [
            "SERVER  ADDRESS          WEIGHT  STATE    SINCE  ANSWERS  ITEMS  HITS  REASON",
            f"a       {one}  2       unknown  -      yes      0      {hits(memcacheds[0])}  -",
            f"b       {two}  1       unknown  -      yes      0      {hits(memcacheds[1])}  -",
        ],
    )


def hits(server: MemcachedServer) -> str:
    """The share of hits, in the width of its column."""
    with server.connect(5.0) as connection:
        connection.sendall(b"stats\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += connection.recv(4096)
    counts = {name: int(re.search(rf"{name} (\d+)", text.decode())[1]) for name in ("get_hits", "get_misses")}  # type: ignore[index]  # memcached has both
    asked = sum(counts.values())
    return (f"{100 * counts['get_hits'] / asked:.0f} %" if asked else "-").ljust(4)


def test_each_has_its_state_and_what_it_holds(place: Place, memcacheds: Pair) -> None:
    one, two = memcacheds
    with place.client() as user:
        user.put("/storage/forms/a", {"payload": "x"})
        user.get("/info/collections")
    place.run("down", "b", "--reason", "moves to another rack")
    two.kill9()
    code, (head, a, b) = place.run("servers")
    assert code == 0
    widths = f"ADDRESS{' ' * (len(one.address) - 7)}  WEIGHT  STATE  SINCE"
    assert head.startswith(f"SERVER  {widths}")
    assert re.fullmatch(
        rf"a       {one.address}  2       up     SINCE  yes      \d+ +[\d-]+ ?%? +new \(BY\)", a
    )
    assert (
        b == f"b       {two.address}  1       held   SINCE  no       -      -     moves to another rack (BY)"
    )


# -- down and up


def test_one_is_taken_out_of_use_for_all_and_brought_back(place: Place) -> None:
    with place.client() as user:
        user.put("/storage/forms/a", {"payload": "x"})
        assert place.states() == {"a": "up", "b": "up"}
        assert place.run("down", "a") == (
            0,
            [
                "a is out of use for all servers, until: syncstore cache up a",
                "for 0.3 s writes of its users wait; then the database alone answers them",
                "tabs of its users are where they were, and are answered as long as it answers",
            ],
        )
        assert place.states() == {"a": "held", "b": "up"}
        for uid in range(4):
            other = SyncClient(uid, SECRET, user.transport)
            assert other.put("/storage/forms/a", {"payload": "y"}).status == 200, (
                "it waits, and then is written"
            )
            assert other.put("/storage/tabs/a", {"payload": "y"}).status == 200
        assert place.run("up", "a") == (
            0,
            ["a: waiting 0.3 s, until all servers know", "a is in use"],
        )
        assert place.states() == {"a": "up", "b": "up"}
        assert user.get("/storage/forms").json == ["a"]


def test_it_is_said_who_stands_in_for_it(tmp_path: Path, memcacheds: Pair) -> None:
    place = Place(tmp_path, memcacheds, memcached__allow_failover="true")
    code, said = place.run("down", "a")
    assert (code, said[1]) == (
        0,
        "for 0.3 s writes of its users wait; then another memcached stands in for it",
    )


def test_a_server_is_named_by_its_address_too(place: Place, memcacheds: Pair) -> None:
    code, said = place.run("down", memcacheds[1].address)
    assert (code, said[0]) == (0, "b is out of use for all servers, until: syncstore cache up b")
    assert place.run("check", memcacheds[0].address) == (0, ["a: ok"])


def test_why_it_is_out_of_use_can_be_said(place: Place) -> None:
    place.run("down", "a")
    place.run("down", "b", "--reason", "it\nmoves \u2192")
    _, (_, a, b) = place.run("servers")
    assert a.endswith("  by hand (BY)")
    assert b.endswith("  it?moves ? (BY)")


def test_to_take_it_out_twice_changes_nothing(place: Place) -> None:
    place.run("down", "a", "--reason", "first")
    code, said = place.run("down", "a", "--reason", "second")
    assert (code, said[0]) == (0, "a is out of use for all servers, until: syncstore cache up a")
    assert place.run("servers")[1][1].endswith("  first (BY)")


def test_to_bring_back_what_is_in_use_is_no_mistake(place: Place) -> None:
    assert place.run("up", "a") == (0, ["a is in use"])
    assert place.states()["a"] == "up"


def test_where_others_stand_in_it_is_brought_back_in_two_steps(tmp_path: Path, memcacheds: Pair) -> None:
    place = Place(tmp_path, memcacheds, memcached__allow_failover="true")
    place.run("down", "a")
    assert place.run("up", "a") == (
        0,
        [
            "a: waiting 0.3 s, until all servers know",
            "a: waiting 0.3 s, until all servers know",
            "a is in use",
        ],
    )


def test_what_is_held_and_does_not_answer_stays_held_and_that_is_said(place: Place, memcacheds: Pair) -> None:
    place.run("down", "b")
    memcacheds[1].kill9()
    assert place.run("up", "b") == (
        1,
        [
            "b: waiting 0.3 s, until all servers know",
            "b does not answer, and stays out of use: start it, then: syncstore cache up b",
        ],
    )
    assert place.states()["b"] == "held"


def test_what_has_failed_and_does_not_answer_comes_back_by_itself_and_that_is_said(
    place: Place, memcacheds: Pair
) -> None:
    memcacheds[1].kill9()
    for uid in range(8):
        with place.client(uid) as user:
            assert user.put("/storage/forms/a", {"payload": "x"}).status == 200
    assert place.states() == {"a": "up", "b": "failed"}
    code, said = place.run("up", "b")
    assert code == 1
    assert said[-1] == "b does not answer: it is used again when a server that runs finds that it does"


def test_with_manual_rejoin_nothing_comes_back_by_itself(tmp_path: Path, memcacheds: Pair) -> None:
    place = Place(tmp_path, memcacheds, memcached__rejoin="manual")
    memcacheds[1].kill9()
    for uid in range(8):
        with place.client(uid) as user:
            user.put("/storage/forms/a", {"payload": "x"})
    assert place.states() == {"a": "up", "b": "failed"}
    said = place.run("up", "b")[1]
    assert said[-1] == "b does not answer, and stays out of use: start it, then: syncstore cache up b"
    memcacheds[1].start()
    assert place.run("up", "b")[1][-1] == "b is in use"


def test_to_forget_everything_does_not_bring_back_what_is_held(place: Place) -> None:
    place.run("down", "b")
    code, said = place.run("clear", "--all")
    assert code == 0
    assert said[-1] == "b stays out of use, until: syncstore cache up b"
    assert "a is in use" in said
    assert place.states() == {"a": "up", "b": "held"}


# -- check


def test_all_are_asked_and_each_is_told(place: Place, memcacheds: Pair) -> None:
    assert place.run("check") == (0, ["a: ok", "b: ok"])
    memcacheds[1].kill9()
    code, said = place.run("check")
    assert code == 1
    address = re.escape(memcacheds[1].address)
    assert said[0] == "a: ok"
    assert re.fullmatch(rf"b: no connection to memcached at {address}: .*Connection refused", said[1])
    assert place.run("check", "a") == (0, ["a: ok"])
    assert place.states() == {"a": "unknown", "b": "unknown"}, "nobody has changed them"


# -- mistakes


@pytest.mark.parametrize("words", [("down", "c"), ("up", "c"), ("check", "a", "c")])
def test_a_server_that_is_not_there_is_a_mistake(place: Place, words: tuple[str, ...]) -> None:
    assert place.run(*words) == (2, ["syncstore: memcached.servers has no c: it has a, b"])


COMMANDS = [
    ("servers",),
    ("down", "a"),
    ("up", "a"),
    ("check",),
    ("clear", "--all"),
    ("read", "7"),
    ("verify",),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_states_inside_of_the_process_that_serves_are_out_of_reach(
    tmp_path: Path, memcacheds: Pair, words: tuple[str, ...]
) -> None:
    place = Place(tmp_path, memcacheds, memcached__state="memory")
    code, (said,) = place.run(*words)
    assert code == 2
    assert said.startswith("syncstore: memcached.state = memory: ")


def test_states_in_a_file_are_within_reach(tmp_path: Path, memcacheds: Pair) -> None:
    place = Place(tmp_path, memcacheds, memcached__state=f"file:{tmp_path}/mc.state")
    place.run("down", "a")
    assert place.states() == {"a": "held", "b": "unknown"}
    assert place.run("up", "a")[0] == 0
    assert place.states()["a"] == "up"
