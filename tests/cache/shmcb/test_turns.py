"""One at a time: threads, processes, frozen ones, forks, and files that are replaced by others."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncstore.cache.api import BackendUnavailable, Busy, Conflict, Provider
from syncstore.cache.shmcb import ShmcbProvider
from syncstore.cache.shmcb.geometry import Geometry
from syncstore.cache.shmcb.rings import Rings
from syncstore.cache.shmcb.turns import Turns
from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.cache_writers import frozen
from syncstore.testing.waiting import await_that

OpenBuffer = Callable[..., ShmcbProvider]


def live(cache: Provider) -> dict[bytes, bytes]:
    return {key: item.value for key, item in cache.iterate()}


# -- those who hang


def test_who_is_frozen_in_its_turn_is_not_waited_for_for_ever(open_buffer: OpenBuffer, path: Path) -> None:
    cache = open_buffer(timeout=0.05)
    cache.store(b"k", b"before")

    def freeze() -> None:
        turns = Turns(str(path), Geometry.of(524288), 20)
        turns.enter()
        os.kill(os.getpid(), signal.SIGSTOP)
        turns.leave()

    pid = frozen(freeze)
    try:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match="one of them hangs"):
                cache.retrieve(b"k")
            assert time.monotonic() - began >= 0.05
        with pytest.raises(BackendUnavailable):
            open_buffer(1_000_000, timeout=0.05).retrieve(b"k")  # which would replace the file
        cache.change_later([])
    finally:
        os.kill(pid, signal.SIGCONT)
        assert os.waitpid(pid, 0)[1] == 0
    patient = open_buffer()
    assert live(patient) == {b"k": b"before"}


def test_who_was_frozen_in_mid_change_ends_it_when_it_goes_on(
    open_buffer: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty, cache = open_buffer(timeout=0.05), open_buffer()
    cache.store(b"k", b"before")
    append = Rings._append

    def freeze(rings: Rings, *arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        append(rings, *arguments)  # type: ignore[arg-type]  # as they came

    with monkeypatch.context() as patched:
        patched.setattr(Rings, "_append", freeze)
        pid = frozen(lambda: cache.store(b"k", b"after"))
    with pytest.raises(BackendUnavailable):
        hasty.retrieve(b"k")
    os.kill(pid, signal.SIGCONT)
    assert os.waitpid(pid, 0)[1] == 0
    assert live(cache) == {b"k": b"after"}
    assert cache.status()["interrupted"] == 0


def test_who_was_frozen_in_mid_change_and_then_killed_leaves_an_empty_sub_cache(
    open_buffer: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_buffer(8192)
    token = cache.store(b"k", b"before")
    with monkeypatch.context() as patched:
        patched.setattr(Rings, "_append", lambda *_: os.kill(os.getpid(), signal.SIGSTOP))
        pid = frozen(lambda: cache.store(b"k", b"after"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert live(cache) == {}
    assert cache.status()["interrupted"] == 1
    again = cache.store(b"k", b"before")
    assert again.number == token.number
    with pytest.raises(Conflict):
        cache.store(b"k", b"late", expect=token)


def test_a_thread_that_hangs_makes_the_others_busy(
    open_buffer: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_buffer(timeout=0.05)
    cache.store(b"k", b"x")
    hangs, go_on = threading.Event(), threading.Event()
    append = Rings._append

    def hang(rings: Rings, *arguments: object) -> None:
        hangs.set()
        go_on.wait(20)
        append(rings, *arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Rings, "_append", hang)
    thread = threading.Thread(target=cache.store, args=(b"k", b"y"))
    thread.start()
    assert hangs.wait(20)
    with pytest.raises(Busy, match="threads of this process"):
        cache.retrieve(b"k")
    go_on.set()
    thread.join()
    assert cache.retrieve(b"k").value == b"y"


def test_what_is_interrupted_in_mid_change_leaves_no_lock_and_an_empty_sub_cache(
    open_buffer: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_buffer(8192)
    cache.store(b"k", b"before")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Rings, "_append", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.store(b"k", b"after")
    assert live(cache) == {}
    assert cache.status()["interrupted"] == 1


# -- forks


@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_eight_children_of_a_parent_that_used_it_get_their_own_values(
    open_buffer: OpenBuffer, times: int
) -> None:
    cache = open_buffer(8 * 1024 * 1024)
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


def test_a_child_that_was_forked_in_a_turn_does_not_keep_the_lock_of_its_killed_parent(
    open_buffer: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = open_buffer()
    cache.store(b"k", b"before")
    ours, theirs = socket.socketpair()

    def fork_and_die(*_: object) -> None:
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        ours.close()
        theirs.sendall(b"alive")
        theirs.recv(1)  # until the test ends
        os._exit(0)

    with monkeypatch.context() as patched:
        patched.setattr(Rings, "_append", fork_and_die)
        parent = os.fork()
        if not parent:
            try:
                cache.store(b"k", b"after")
            finally:
                os._exit(1)
    theirs.close()
    with ours:
        os.waitpid(parent, 0)
        assert ours.recv(5) == b"alive"
        cache.store(b"k", b"afterwards")
    assert cache.retrieve(b"k").value == b"afterwards"


def test_a_child_has_a_file_description_of_its_own(open_buffer: OpenBuffer) -> None:
    cache = open_buffer(timeout=0.05)
    cache.store(b"k", b"x")
    turns = cache._turns
    turns.enter()
    try:

        def meet_the_parent_s_lock() -> None:
            with pytest.raises(BackendUnavailable):
                cache.retrieve(b"k")

        assert Child(meet_the_parent_s_lock).join() == ""
    finally:
        turns.leave()
    assert Child(lambda: cache.store(b"k", b"child")).join() == ""
    assert live(cache) == {b"k": b"child"}


# -- another size


def test_old_and_new_processes_meet_on_the_file_of_the_new_size(open_buffer: OpenBuffer, path: Path) -> None:
    old = open_buffer(16_384)
    token = old.store(b"k", b"of the old file")
    limit = old.limits.max_value
    new = open_buffer(1_000_000)
    assert live(new) == {}
    assert path.stat().st_size == 1_000_000
    new.store(b"k", b"new")
    assert live(old) == {b"k": b"new"}
    old.store(b"k2", b"old")
    assert live(new) == {b"k": b"new", b"k2": b"old"}
    assert old.limits == new.limits
    assert old.limits.max_value > limit
    with pytest.raises(Conflict):
        old.store(b"k", b"late", expect=token)
    assert path.stat().st_size == 1_000_000
    assert os.listdir(path.parent) == [path.name]


def test_an_old_process_does_not_put_its_size_back(open_buffer: OpenBuffer, path: Path) -> None:
    old, new = open_buffer(16_384), open_buffer(1_000_000)
    old.store(b"k", b"x")
    new.store(b"k", b"x")
    inode = path.stat().st_ino
    for _ in range(3):
        old.close()
        old.store(b"k", b"x")
        new.store(b"k", b"x")
        assert Child(lambda: old.store(b"k", b"x")).join() == ""
    assert path.stat().st_ino == inode


def test_another_size_of_items_is_another_geometry(open_buffer: OpenBuffer) -> None:
    old, new = open_buffer(16_384), open_buffer(16_384, item_size=50)
    places = old.limits.max_items
    assert places is not None
    old.store(b"k", b"x")
    new.store(b"k", b"y")
    assert live(old) == {b"k": b"y"}
    assert old.limits.max_items == new.limits.max_items
    assert (new.limits.max_items or 0) > places


def test_the_service_is_deployed_with_another_size_while_processes_are_at_work(
    open_buffer: OpenBuffer, path: Path
) -> None:
    sizes = [100_000, 200_000, 150_000, 300_000]
    caches = [open_buffer(size) for size in sizes]
    asked, told = os.pipe()

    def work(number: int) -> None:
        os.close(told)
        os.set_blocking(asked, False)
        rng = random.Random(number)
        cache = caches[number]
        while True:
            key = b"%d" % rng.randrange(20)
            cache.store(key, key * 100)
            for name, item in zip((key, b"1"), cache.fetch((key, b"1")), strict=True):
                assert item is None or item.value == name * 100
            try:
                if os.read(asked, 1) == b"":
                    break
            except BlockingIOError:
                continue
        cache.store(b"by %d" % number, b"x")

    children = []
    for number, size in enumerate(sizes):
        children.append(Child(lambda number=number: work(number)))  # type: ignore[misc]  # each has its own
        await_that(lambda: path.exists() and path.stat().st_size == size, what=f"a file of {size} bytes")  # noqa: B023 - called at once
    os.close(asked)
    os.close(told)
    assert [child.join() for child in children] == [""] * 4
    assert path.stat().st_size == sizes[-1]
    assert os.listdir(path.parent) == [path.name]
    found = live(caches[-1])
    assert [found.get(b"by %d" % number) for number in range(4)] == [b"x"] * 4


def test_two_that_begin_at_once_with_other_sizes_meet(open_buffer: OpenBuffer, path: Path) -> None:
    for turn in range(10):
        open_buffer(50_000).store(b"k", b"old")
        caches = [open_buffer(60_000 + turn), open_buffer(70_000 + turn)]
        children = [Child(lambda cache=cache: cache.store(b"k", b"x")) for cache in caches]  # type: ignore[misc]  # each has its own
        assert [child.join() for child in children] == ["", ""]
        assert path.stat().st_size in (60_000 + turn, 70_000 + turn)
