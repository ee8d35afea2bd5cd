"""The records of a host: every rule of records, writers that are killed, and files that are not what they should be."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from syncstore.cache.memcached import state_file
from syncstore.cache.memcached.records import RecordStore, ServerRecord
from syncstore.cache.memcached.records_in_file import FileRecords
from syncstore.cache.memcached.state_file import CAPACITY, SIZE, StateFile, file_system
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable
from syncstore.testing.cache_conformance.rooms import PATIENCE, Child
from syncstore.testing.killed_writers import SERVER, check, kill_writers
from syncstore.testing.record_conformance import RecordConformance
from syncstore.testing.record_reader import OpenStore
from syncstore.testing.record_stores import open_file_records


class TestInFile(RecordConformance):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        return partial(open_file_records, tmp_path / "states", timeout=PATIENCE)

    @pytest.fixture
    def open_other_store(self, tmp_path: Path) -> OpenStore:
        return partial(open_file_records, tmp_path / "others", timeout=PATIENCE)

    @pytest.fixture
    def open_unreachable_store(self, tmp_path: Path) -> OpenStore:
        return partial(open_file_records, tmp_path / "no-such-folder" / "states")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "states"


@pytest.fixture
def store(path: Path) -> Iterator[FileRecords]:
    with open_file_records(path) as store:
        yield store


@pytest.fixture
def again(path: Path) -> Iterator[FileRecords]:
    with open_file_records(path) as store:
        yield store


# -- writers that are killed


@pytest.mark.parametrize("kills", [30, pytest.param(500, marks=pytest.mark.soak)])
def test_a_writer_that_is_killed_leaves_nothing_torn_and_no_lock(
    store: FileRecords, again: FileRecords, path: Path, kills: int
) -> None:
    patience = PATIENCE if kills < 100 else 0.1
    done = threading.Event()

    def read(reader: RecordStore) -> int:
        epoch = 0
        while not done.is_set():
            for _ in range(100):
                found = check(reader.read([SERVER])[0])
                assert found >= epoch
                epoch = found
            done.wait(0.0005)  # the others want to be at work, too
        return epoch

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other, ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(read, each) for each in (store, again)]
        try:
            last = other.submit(kill_writers, path, kills, patience, 7).result(110)
        finally:
            done.set()
        assert all(reader.result(PATIENCE) <= last for reader in readers)
    assert last >= kills
    assert check(store.read([SERVER])[0]) == last


def test_readers_go_on_while_a_writer_hangs_and_writers_say_so(store: FileRecords, path: Path) -> None:
    assert store.advance("a", 0, 4, "before")
    hangs = (
        "import os, signal, sys\n"
        "from syncstore.cache.memcached.records_in_file import FileRecords\n"
        "from syncstore.cache.memcached.state_file import StateFile\n"
        "from syncstore.clock import SystemClock\n"
        "StateFile.switch = lambda *arguments: print('hangs', flush=True) or signal.pause()\n"
        "FileRecords(sys.argv[1], SystemClock()).advance('a', 4, 5, 'hangs')\n"
    )
    with subprocess.Popen([sys.executable, "-c", hangs, path], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"hangs\n"
            with open_file_records(path, timeout=0.05) as hasty:
                assert hasty.read(["a"])[0].reason == "before"
                with pytest.raises(Unavailable, match="hangs"):
                    hasty.advance("a", 4, 5, "after")
        finally:
            writer.kill()
    assert store.advance("a", 4, 5, "after")


def test_a_child_that_was_forked_in_mid_update_does_not_keep_the_lock_of_a_killed_parent(
    store: FileRecords, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.advance("a", 0, 4, "before")
    ours, theirs = socket.socketpair()

    def fork_and_die(*_: object) -> None:
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        ours.close()
        theirs.sendall(b"alive")
        theirs.recv(1)  # until the test ends
        os._exit(0)

    monkeypatch.setattr(StateFile, "switch", fork_and_die)
    parent = os.fork()
    if not parent:
        try:
            FileRecords(path, SystemClock()).advance("a", 4, 5, "forks")
        finally:
            os._exit(1)
    monkeypatch.undo()
    theirs.close()
    with ours:
        os.waitpid(parent, 0)
        assert ours.recv(5) == b"alive"
        assert store.advance("a", 4, 6, "after")


# -- the file


def test_nothing_is_opened_before_the_first_call(path: Path) -> None:
    FileRecords(path, SystemClock()).close()
    assert not path.exists()


def test_it_belongs_to_us_alone_and_is_all_there(store: FileRecords, path: Path) -> None:
    assert store.read(["a"]) == [ServerRecord()]
    status = path.stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_size == SIZE
    assert os.listdir(path.parent) == [path.name]


def test_what_was_known_is_known_after_a_restart(path: Path) -> None:
    with open_file_records(path) as store:
        assert store.advance("a", 0, 4, "kept")
        identity, records = store.identity(), store.read(["a"])
    with open_file_records(path) as store:
        assert (store.identity(), store.read(["a"])) == (identity, records)
        store.close()
        assert store.read(["a"]) == records


@pytest.mark.parametrize("by", ["removed", "renamed", "replaced"])
def test_all_notice_at_once_that_the_file_was_lost_and_begin_anew(
    store: FileRecords, again: FileRecords, path: Path, by: str
) -> None:
    for each in (store, again):
        assert each.read(["a"]) == [ServerRecord()]
    assert store.advance("a", 0, 4, "lost")
    identity = store.identity()
    if by == "removed":
        path.unlink()
    elif by == "renamed":
        path.rename(path.with_name("old"))
    else:
        with open_file_records(path.with_name("new")) as new:
            new.identity()
        path.with_name("new").rename(path)
    assert store.read(["a"]) == [ServerRecord()]
    assert again.identity() == store.identity() != identity
    assert again.advance("a", 0, 8, "anew")
    assert store.read(["a"])[0].reason == "anew"


def test_a_change_of_a_file_that_was_lost_begins_anew(store: FileRecords, path: Path) -> None:
    assert store.advance("a", 0, 4, "lost")
    path.unlink()
    assert not store.advance("a", 4, 5, "of what is not known any more")
    assert store.advance("a", 0, 8, "anew")


def test_a_file_that_cannot_be_made_whole_is_not_made(path: Path) -> None:
    def work() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, SIZE // 2))
        with open_file_records(path) as store, pytest.raises(Unavailable, match="too large"):
            store.identity()

    assert Child(work).join() == ""
    assert not os.listdir(path.parent)


def test_it_has_room_for_so_many_servers_and_says_when_it_is_full(store: FileRecords) -> None:
    names = [f"server-{number}" for number in range(CAPACITY)]
    for name in names:
        assert store.advance(name, 0, 4, "in use")
    with pytest.raises(Unavailable, match=r"room for 126 servers.* remove it"):
        store.advance("one more", 0, 4, "no room")
    assert store.read(["one more"]) == [ServerRecord()]
    assert all(store.advance(name, 4, 5, "changed") for name in names)


def _write(at: int, written: bytes) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(written)

    return write


def _copy(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def _link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_write(0, b"#!/bin/sh"), "something else"),
        (_write(16, b"\2"), r"version 2, not 1.* remove it"),
        (_write(30, b"0"), r"damaged.* remove it"),
        (lambda path: os.truncate(path, SIZE // 2), r"damaged.* remove it"),
        (lambda path: os.truncate(path, 0), "something else"),
        (_copy, r"a copy.* remove it"),
        (_link, "symbolic link"),
        (_replace_by_folder, "directory"),
        (_replace_by_pipe, "no file"),
        (lambda path: path.chmod(0o644), "0600"),
    ],
    ids=["other", "version", "header", "half", "empty", "copy", "link", "folder", "pipe", "readable"],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_and_left_as_it_is(
    store: FileRecords, path: Path, damage: Callable[[Path], object], words: str
) -> None:
    assert store.advance("a", 0, 4, "before")
    store.close()
    damage(path)
    before = path.lstat()
    with pytest.raises(Unavailable, match=words):
        store.read(["a"])
    with pytest.raises(Unavailable, match=words):
        store.advance("a", 4, 5, "after")
    with pytest.raises(Unavailable, match=words):
        store.identity()
    assert path.lstat() == before


def test_a_file_that_is_cut_while_it_is_used_is_refused(store: FileRecords, path: Path) -> None:
    assert store.advance("a", 0, 4, "before")
    os.truncate(path, 4096)
    with pytest.raises(Unavailable, match=r"damaged.* remove it"):
        store.read(["a"])


def test_a_damaged_record_is_refused_and_the_others_are_read(
    store: FileRecords, again: FileRecords, path: Path
) -> None:
    for name in "ab":
        assert store.advance(name, 0, 4, "sound")
    place = path.read_bytes().index(b"sound")
    _write(place, b"S")(path)
    with pytest.raises(Unavailable, match=r"record of a is damaged.* remove it"):
        again.read(["b", "a"])
    with pytest.raises(Unavailable, match="record of a is damaged"):
        again.advance("a", 4, 5, "after")
    assert again.read(["b"])[0].reason == "sound"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused_but_by_root(store: FileRecords, path: Path) -> None:
    store.identity()
    os.chown(path, 65534, 65534)
    store.identity()
    store.close()
    path.parent.chmod(0o755)

    def work() -> None:
        os.seteuid(65533)
        with pytest.raises(Unavailable):
            store.identity()

    store.identity()
    assert Child(work).join() == ""


def test_a_network_file_system_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 {os.major(device)}:{os.minor(device)} / /srv rw shared:1 - nfs4 host:/srv rw\n")
    monkeypatch.setattr(state_file, "_MOUNTS", mounts)
    with open_file_records(path) as store, pytest.raises(Unavailable, match=r"network file system \(nfs4\)"):
        store.identity()
    mounts.unlink()
    with open_file_records(path) as store:
        assert store.identity()


def test_the_type_of_a_file_system_is_found() -> None:
    mounts = [
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n",
        "25 24 0:23 / /dev/shm rw,relatime shared:3 master:1 - tmpfs tmpfs rw,size=1\n",
    ]
    assert file_system(os.makedev(0, 23), mounts) == "tmpfs"
    assert file_system(os.makedev(8, 1), mounts) == ""
