"""The provider `dbm` keeps the contract, and its values outlive restarts, kills and forks."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Busy,
    Change,
    Conflict,
    NotFound,
    Provider,
    Remove,
    StorageFull,
    Store,
    Token,
)
from syncstore.cache.dbm import DbmProvider, database, schema
from syncstore.cache.making import Description, Options, Surroundings, make
from syncstore.clock import Clock, SystemClock
from syncstore.errors import ConfigError
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.cache_writers import check, ended, frozen, kill_a_writer, readers, sealed
from syncstore.testing.clocks import SteppableClock

PATIENCE = 20.0  # seconds for others' turns: the machine may be busy

OpenDbm = Callable[..., DbmProvider]


class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        path = str(tmp_path / "cache")
        with OpenCaches(
            lambda clock: DbmProvider(path, clock, namespace="a", timeout=PATIENCE)
        ) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        path = str(tmp_path / "nowhere" / "cache")
        with OpenCaches(lambda clock: DbmProvider(path, clock, namespace="a")) as open_cache:
            yield open_cache


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_dbm(path: Path, clock: Clock) -> Iterator[OpenDbm]:
    """Opens providers on one file, closed at the end of the test."""
    opened: list[DbmProvider] = []

    def open_one(
        *, namespace: str = "a", timeout: float = PATIENCE, max_bytes: int = 2**30, max_value: int = 2**20
    ) -> DbmProvider:
        provider = DbmProvider(
            str(path), clock, namespace=namespace, timeout=timeout, max_bytes=max_bytes, max_value=max_value
        )
        opened.append(provider)
        return provider

    yield open_one
    for provider in opened:
        provider.close()


def live(cache: Provider) -> dict[bytes, bytes]:
    return {key: item.value for key, item in cache.iterate()}


# -- settings


def made(text: str, here: Path) -> Provider:
    def nobody(name: str) -> object:
        raise AssertionError(name)

    description = Description.parse(text)
    return make(
        description,
        Surroundings("a", SystemClock(), here, Options(description.options), nobody, nobody, ""),  # type: ignore[arg-type]  # neither is asked
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("dbm:", "must name a file"),
        ("dbm", "must name a file"),
        ("dbm:/x max_value=9999", "max_value=9999: must be a whole number from 10000"),
        ("dbm:/x max_bytes=1000", "max_bytes=1000: must be a whole number from 1048576"),
        ("dbm:/x max_bytes=2000000", "max_bytes=2000000: must be at least 2097152"),
        ("dbm:/x lock_timeout=0", "lock_timeout"),
        ("dbm:/x size=1", "size is not an option"),
    ],
)
def test_it_refuses_settings_that_cannot_be(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        made(text, tmp_path)
    assert fault in str(refused.value)


def test_a_relative_path_starts_from_here_and_no_file_is_made_before_the_first_call(tmp_path: Path) -> None:
    cache = made("dbm:cache max_value=20000 max_bytes=3000000", tmp_path)
    assert cache.limits.max_value == 20_000
    assert os.listdir(tmp_path) == []
    cache.store(b"k", b"x")
    assert {"cache", "cache-shm", "cache-wal"} == set(os.listdir(tmp_path))
    cache.close()


# -- the file


def test_the_file_and_those_beside_it_belong_to_us_alone(open_dbm: OpenDbm, path: Path) -> None:
    mask = os.umask(0)
    try:
        open_dbm().store(b"k", b"x")
    finally:
        os.umask(mask)
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert modes == {"cache": 0o600, "cache-wal": 0o600, "cache-shm": 0o600}


def test_what_is_kept_outlives_ten_restarts_and_their_culling(path: Path) -> None:
    def live_once(number: int) -> None:
        cache = DbmProvider(str(path), SystemClock(), namespace="a", timeout=PATIENCE)
        assert [cache.retrieve(b"%d" % each).value for each in range(number)] == [b"x"] * number
        cache.store(b"%d" % number, b"x")
        cache.store(b"dies", b"x", time.time() + 0.001)
        cache.cull(now=time.time() + 10)
        if number % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        cache.close()

    for number in range(10):
        assert ended(lambda number=number: live_once(number)) == (-signal.SIGKILL if number % 2 else 0)  # type: ignore[misc]  # its own
    live_once(10)
    again = DbmProvider(str(path), SystemClock(), namespace="a", timeout=PATIENCE)
    assert live(again).keys() == {b"%d" % number for number in range(11)}
    again.close()


@pytest.mark.parametrize("content", [b"something of mine\n", b"\1" * 8192])
def test_a_stranger_s_file_is_left_as_it_is(open_dbm: OpenDbm, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    cache = open_dbm()
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="damaged"):
            cache.store(b"k", b"x")
    assert path.read_bytes() == content


def test_a_stranger_s_database_is_left_as_it_is(open_dbm: OpenDbm, path: Path) -> None:
    stranger = sqlite3.connect(path)
    stranger.execute("CREATE TABLE users (name TEXT)")
    stranger.close()
    path.chmod(0o600)
    content = path.read_bytes()
    with pytest.raises(BackendUnavailable, match="a database of something else: name another file"):
        open_dbm().store(b"k", b"x")
    assert path.read_bytes() == content


def test_one_of_another_version_is_left_as_it_is(open_dbm: OpenDbm, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = open_dbm()
    cache.store(b"k", b"x")
    cache.close()
    monkeypatch.setattr(schema, "VERSION", 2)
    with pytest.raises(BackendUnavailable, match="version 1, not 2"):
        cache.retrieve(b"k")


def test_others_may_neither_read_nor_replace_it(open_dbm: OpenDbm, path: Path) -> None:
    cache = open_dbm()
    cache.store(b"k", b"x")
    cache.close()
    path.chmod(0o640)
    with pytest.raises(BackendUnavailable, match="0600"):
        cache.retrieve(b"k")
    path.chmod(0o600)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(BackendUnavailable, match="symbolic link"):
        cache.retrieve(b"k")
    path.unlink()
    path.mkdir()
    with pytest.raises(BackendUnavailable, match="no file"):
        cache.retrieve(b"k")


def test_a_damaged_file_is_said_and_is_no_miss(open_dbm: OpenDbm, path: Path) -> None:
    cache = open_dbm()
    cache.change([Store(b"%d" % number, b"x" * 1000) for number in range(100)])
    cache.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    for call in (
        lambda: cache.retrieve(b"1"),
        lambda: cache.store(b"1", b"x"),
        lambda: list(cache.iterate()),
    ):
        with pytest.raises(BackendUnavailable, match=r"damaged .* remove it"):
            call()


def test_a_file_that_was_removed_is_made_again_and_all_meet_there(open_dbm: OpenDbm, path: Path) -> None:
    one, other = open_dbm(), open_dbm()
    token = one.store(b"k", b"x")
    assert live(other) == {b"k": b"x"}
    for each in path.parent.iterdir():
        each.unlink()
    again = other.store(b"k", b"y")
    assert one.retrieve(b"k")[:2] == (b"y", again)
    assert again != token


def test_two_namespaces_of_one_file_do_not_meet(open_dbm: OpenDbm) -> None:
    one, other = open_dbm(namespace="a"), open_dbm(namespace="ab")
    one.change([Store(b"b:k", b"one"), Store(b"\xff" * 250, b"last"), Store(b"\0", b"first")])
    other.store(b"k", b"other")
    assert live(one) == {b"\0": b"first", b"b:k": b"one", b"\xff" * 250: b"last"}
    assert live(other) == {b"k": b"other"}


def test_it_lists_more_than_it_asks_for_at_once(open_dbm: OpenDbm) -> None:
    cache = open_dbm()
    cache.change([Store(b"%d" % number, b"%d" % number * 3) for number in range(1000)])
    found = []
    for key, item in cache.iterate():
        found.append(key)
        assert item.value == key * 3
        cache.remove(key)  # a listing is in nobody's way
    assert sorted(found) == sorted(b"%d" % number for number in range(1000))
    assert live(cache) == {}


# -- tokens


def test_no_number_is_given_twice(open_dbm: OpenDbm) -> None:
    tokens = []
    for _ in range(5):
        cache = open_dbm()
        tokens += [cache.store(b"k", b"x"), cache.store(b"other", b"x", expect=ABSENT)]
        cache.change([Remove(b"other"), Remove(b"k")])
        cache.close()
    assert len({token.number for token in tokens}) == 10
    assert len({token.incarnation for token in tokens}) == 1


def test_the_numbers_of_a_copy_go_on_beyond_those_that_it_does_not_know(
    open_dbm: OpenDbm, path: Path
) -> None:
    cache = open_dbm()
    kept = cache.store(b"kept", b"x")
    cache.close()
    shutil.copy(path, path.with_name("copy"))
    lost = [cache.store(b"k", b"lost") for _ in range(10)]
    cache.close()
    path.with_name("copy").rename(path)
    assert cache.retrieve(b"kept").token == kept
    new = [cache.store(b"k", b"new") for _ in range(20)]
    assert not set(new) & set(lost)
    with pytest.raises(Conflict):
        cache.store(b"k", b"late", expect=lost[3])


def test_the_numbers_after_a_boot_go_on_beyond_those_that_the_power_cut_took(
    open_dbm: OpenDbm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_dbm()
    before = cache.store(b"k", b"x")
    cache.close()
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(schema, "_BOOT_ID", tmp_path / "boot")
    assert cache.retrieve(b"k").token == before
    assert cache.store(b"k", b"x", expect=before).number > before.number + 2**31
    cache.close()
    assert cache.store(b"k", b"x").number < before.number + 2**33


# -- expiry and room


def test_what_has_expired_is_culled_a_few_at_a_time(open_dbm: OpenDbm, clock: SteppableClock) -> None:
    cache = open_dbm()
    cache.change([Store(b"dies%d" % number, b"x", clock.seconds() + 10) for number in range(700)])
    cache.change([Store(b"lives%d" % number, b"x", clock.seconds() + 20) for number in range(10)])
    cache.store(b"stays", b"x")
    assert cache.cull() == 0
    assert cache.cull(now=clock.seconds() + 10, limit=3) == 3
    clock.step(10)
    assert len(live(cache)) == 11
    assert cache.cull(limit=400) == 400
    assert cache.cull(limit=0) == 0
    assert cache.cull() == 297
    assert cache.status()["items"] == 11


def test_beyond_its_size_nothing_is_stored_and_nothing_lost(open_dbm: OpenDbm, path: Path) -> None:
    cache = open_dbm(max_bytes=2**20, max_value=200_000)
    stored = 0
    while not isinstance(cache.change([Store(b"%d" % stored, b"x" * 100_000)])[0], StorageFull):
        stored += 1
    assert stored > 5
    with pytest.raises(StorageFull, match="no room"):
        cache.store(b"more", b"x" * 100_000)
    assert path.stat().st_size <= 2**20
    assert len(live(cache)) == stored
    token = cache.retrieve(b"0").token
    with pytest.raises(StorageFull):
        cache.store(b"0", b"y" * 200_000, expect=token)
    assert cache.retrieve(b"0")[:2] == (b"x" * 100_000, token)
    outcomes = cache.change([Store(b"large", b"x" * 200_000), Store(b"small", b"x"), Remove(b"1")])
    assert [type(outcome) for outcome in outcomes] == [StorageFull, Token, type(None)]
    cache.store(b"1", b"x" * 90_000)
    other = open_dbm(max_bytes=2**20)
    with pytest.raises(StorageFull):
        other.store(b"more", b"x" * 100_000)


def test_what_has_expired_makes_room(open_dbm: OpenDbm, clock: SteppableClock) -> None:
    cache = open_dbm(max_bytes=2**20)
    for number in range(7):
        cache.store(b"%d" % number, b"x" * 100_000, clock.seconds() + 10)
    clock.step(10)
    for number in range(7, 14):
        cache.store(b"%d" % number, b"x" * 100_000)
    assert cache.fetch([b"reserved" * 10], reserve=10)
    assert live(cache).keys() == {*(b"%d" % number for number in range(7, 14)), b"reserved" * 10}


# -- others


def test_who_is_frozen_amid_a_change_is_not_waited_for_for_ever(open_dbm: OpenDbm, path: Path) -> None:
    cache = open_dbm(timeout=0.05)
    token = cache.store(b"k", b"before")

    def freeze() -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE item SET value = x'00'")
        os.kill(os.getpid(), signal.SIGSTOP)
        connection.execute("ROLLBACK")
        connection.close()

    pid = frozen(freeze)
    try:
        for call in (
            lambda: cache.store(b"k", b"x"),
            lambda: cache.remove(b"k", expect=token),
            lambda: cache.fetch([b"missing"], reserve=10),
        ):
            with pytest.raises(BackendUnavailable, match="one of them hangs"):
                call()
        cache.change_later([Remove(b"k")])
        assert cache.retrieve(b"k") == (b"before", token, 0)  # who reads waits for nobody
    finally:
        os.kill(pid, signal.SIGCONT)
        os.waitpid(pid, 0)
    assert cache.store(b"k", b"after", expect=token)


def test_a_thread_that_hangs_makes_the_others_busy(
    open_dbm: OpenDbm, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_dbm(timeout=0.05)
    cache.store(b"k", b"x")
    hangs, go_on = threading.Event(), threading.Event()

    def hang(*_: object) -> list[None]:
        hangs.set()
        go_on.wait(PATIENCE)
        return [None]

    monkeypatch.setattr(cache, "_look", hang)
    thread = threading.Thread(target=cache.fetch, args=([b"k"],))
    thread.start()
    assert hangs.wait(PATIENCE)
    with pytest.raises(Busy):
        cache.store(b"k", b"y")
    go_on.set()
    thread.join()
    cache.store(b"k", b"y")


def test_what_is_interrupted_amid_several_changes_is_taken_back(
    open_dbm: OpenDbm, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other = open_dbm(), open_dbm()
    change = cache._change

    def interrupted(opened: database.Opened, wish: Change, now: float) -> object:
        if wish.key == b"2":
            raise KeyboardInterrupt
        return change(opened, wish, now)

    with monkeypatch.context() as patched:
        patched.setattr(cache, "_change", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.change([Store(b"1", b"x"), Store(b"2", b"x")])
    other.store(b"3", b"x")
    assert live(cache) == live(other) == {b"3": b"x"}
    cache.change([Store(b"1", b"y"), Store(b"2", b"y")])
    assert live(other) == {b"1": b"y", b"2": b"y", b"3": b"x"}


@pytest.mark.parametrize("times", [50, pytest.param(1000, marks=pytest.mark.soak)])
def test_eight_children_of_a_parent_that_used_it_get_their_own_values(open_dbm: OpenDbm, times: int) -> None:
    cache = open_dbm()
    cache.store(b"parent", b"x")

    def work(number: int) -> None:
        for turn in range(times):
            key = b"%d:%d" % (number, turn % 7)
            cache.store(key, b"%d of %d" % (turn, number) * 10)
            assert cache.retrieve(key).value == b"%d of %d" % (turn, number) * 10

    children = [Child(lambda number=number: work(number)) for number in range(8)]  # type: ignore[misc]  # each has its own
    work(8)
    assert [child.join() for child in children] == [""] * 8
    assert cache.retrieve(b"parent").value == b"x"


def test_a_child_inherits_no_connection(open_dbm: OpenDbm, path: Path) -> None:
    cache = open_dbm()
    cache.store(b"k", b"x")

    def ours() -> list[str]:
        links = Path("/proc/self/fd").iterdir()
        return [name for link in links if (name := os.path.realpath(link)).startswith(str(path))]

    assert ours()

    def look() -> None:
        assert ours() == []
        cache.store(b"k", b"child")

    assert Child(look).join() == ""
    assert live(cache) == {b"k": b"child"}


def test_a_child_that_was_forked_amid_a_call_says_so(
    open_dbm: OpenDbm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_FORK_PATIENCE", 0.01)
    cache = open_dbm()
    cache.store(b"k", b"x")
    hangs, go_on = threading.Event(), threading.Event()
    look = cache._look

    def hang(*arguments: object) -> object:
        hangs.set()
        go_on.wait(PATIENCE)
        return look(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(cache, "_look", hang)
    thread = threading.Thread(target=cache.fetch, args=([b"k"],))
    thread.start()
    assert hangs.wait(PATIENCE)

    def look_into_it() -> None:
        with pytest.raises(BackendUnavailable, match="forked amid a call"):
            cache.store(b"k", b"y")

    child = Child(look_into_it)
    go_on.set()
    thread.join()
    assert child.join() == ""
    assert live(cache) == {b"k": b"x"}


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_no_killed_writer_is_noticed_by_those_who_read(path: Path, kills: int) -> None:
    def open_one() -> DbmProvider:
        return DbmProvider(str(path), SystemClock(), namespace="a", timeout=PATIENCE)

    rng = random.Random(11)
    cache = open_one()
    kept = cache.store(b"kept", b"x")
    numbers: list[int] = []
    with readers(open_one, 3):
        for number in range(kills):
            kill_a_writer(open_one, 0.005 + rng.random() * 0.02, number)
            key = b"/map/u/%d" % rng.randrange(60)
            token = cache.store(key, sealed(key, rng))
            assert cache.retrieve(key).token == token
            numbers.append(token.number)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] >= kept.number + kills
    for key, item in cache.iterate():
        if key != b"kept":
            check(key, item)
    assert cache.retrieve(b"kept").token == kept
    cache.close()


def test_what_was_stored_before_a_kill_is_there(path: Path) -> None:
    asked, told = os.pipe()

    def write_for_ever() -> None:
        cache = DbmProvider(str(path), SystemClock(), namespace="a")
        for number in range(10**9):
            cache.store(b"last", b"%d" % number)
            os.write(told, b"%d\n" % number)

    pid = os.fork()
    if not pid:
        try:
            write_for_ever()
        finally:
            os._exit(1)
    os.close(told)
    with open(asked, "rb") as pipe:
        for _ in range(100):
            line = pipe.readline()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        line = (line + pipe.read()).splitlines()[-1]
    cache = DbmProvider(str(path), SystemClock(), namespace="a")
    assert int(cache.retrieve(b"last").value) >= int(line)
    with pytest.raises(NotFound):
        cache.remove(b"never")
    cache.close()
