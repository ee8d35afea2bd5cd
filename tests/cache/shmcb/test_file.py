"""The file of a cyclic buffer: ours alone, whole or not there, and never a stranger's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from syncstore.cache.api import BackendUnavailable, Conflict, Provider, Store
from syncstore.cache.shmcb import ShmcbProvider, file
from syncstore.cache.shmcb.geometry import HEADER_SIZE
from syncstore.testing.cache_writers import ended

OpenBuffer = Callable[..., ShmcbProvider]


def live(cache: Provider) -> dict[bytes, bytes]:
    return {key: item.value for key, item in cache.iterate()}


def test_it_belongs_to_us_alone_and_is_all_there(open_buffer: OpenBuffer, path: Path) -> None:
    cache = open_buffer(100_001)
    assert not path.exists()
    cache.store(b"k", b"x")
    status = path.stat()
    assert (status.st_mode & 0o777, status.st_size) == (0o600, 100_001)
    assert status.st_blocks * 512 >= 100_001
    assert os.listdir(path.parent) == [path.name]


def test_a_restart_of_the_service_finds_it_again(open_buffer: OpenBuffer) -> None:
    one = open_buffer()
    token = one.store(b"k", b"x")
    one.close()
    other = open_buffer()
    assert other.retrieve(b"k")[:2] == (b"x", token)
    one.store(b"k", b"y", expect=token)
    assert live(other) == {b"k": b"y"}


@pytest.mark.parametrize("content", [b"", b"something of mine\n", b"\0" * 524288, b"syncstore shmc"])
def test_a_stranger_s_file_is_refused_and_left_as_it_is(
    open_buffer: OpenBuffer, path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    cache = open_buffer()
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match=r"holds something else .* name another file"):
            cache.store(b"k", b"x")
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_others_may_neither_read_nor_replace_it(open_buffer: OpenBuffer, path: Path) -> None:
    cache = open_buffer()
    cache.store(b"k", b"x")
    cache.close()
    path.chmod(0o640)
    with pytest.raises(BackendUnavailable, match="0600"):
        cache.retrieve(b"k")
    path.chmod(0o600)
    assert live(cache) == {b"k": b"x"}
    cache.close()
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(BackendUnavailable, match="symbolic link"):
        cache.retrieve(b"k")
    path.unlink()
    path.mkdir()
    with pytest.raises(BackendUnavailable, match="the service must be able to"):
        cache.retrieve(b"k")


def test_a_folder_that_is_missing_is_said(open_buffer: OpenBuffer, path: Path) -> None:
    cache = open_buffer()
    cache.store(b"k", b"x")
    cache.close()
    shutil.rmtree(path.parent)
    with pytest.raises(BackendUnavailable, match="folder that exists"):
        cache.retrieve(b"k")
    path.parent.mkdir()
    assert live(cache) == {}


def test_a_copy_is_not_taken_up_again(open_buffer: OpenBuffer, path: Path) -> None:
    cache = open_buffer()
    token = cache.store(b"k", b"old")
    shutil.copy(path, path.with_name("copy"))
    cache.store(b"k", b"new")
    path.with_name("copy").rename(path)
    assert live(cache) == {}
    assert cache.store(b"k", b"1") != token
    assert live(open_buffer()) == {b"k": b"1"}


def test_what_is_left_of_an_earlier_boot_is_not_taken_up(
    open_buffer: OpenBuffer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_buffer().store(b"k", b"x")
    (tmp_path / "boot").write_text("another\n")
    monkeypatch.setattr(file, "_BOOT_ID", tmp_path / "boot")
    assert live(open_buffer()) == {}


@pytest.mark.parametrize("place", [20, 30, 40, 60, 80])
def test_a_damaged_header_is_made_anew(open_buffer: OpenBuffer, path: Path, place: int) -> None:
    cache = open_buffer()
    cache.store(b"k", b"x")
    cache.close()
    with path.open("r+b") as output:
        output.seek(place)
        output.write(b"?")
    cache.store(b"k2", b"x")
    assert live(cache) == live(open_buffer()) == {b"k2": b"x"}


def test_a_file_that_was_cut_is_left_before_the_kernel_kills(open_buffer: OpenBuffer, path: Path) -> None:
    cache = open_buffer()

    def cut_and_go_on() -> None:
        cache.store(b"k", b"x")
        os.truncate(path, HEADER_SIZE)
        cache.change([Store(b"%d" % number, b"x") for number in range(100)])  # some of them beyond the end

    assert ended(cut_and_go_on) == 0
    assert len(live(cache)) == 100
    assert path.stat().st_size == 524288


def test_a_file_of_another_version_is_replaced_once_and_then_respected(
    open_buffer: OpenBuffer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = open_buffer()
    token = old.store(b"k", b"old")
    with monkeypatch.context() as newer:
        newer.setattr(file, "VERSION", 2)
        new = open_buffer()
        new.store(b"k", b"new")
    with pytest.raises(BackendUnavailable, match="version 2, not 1: start this process anew"):
        old.retrieve(b"k")
    assert live(new) == {b"k": b"new"}
    with pytest.raises(Conflict):
        new.store(b"k", b"late", expect=token)


def test_a_file_that_was_removed_is_made_again_and_all_meet_there(
    open_buffer: OpenBuffer, path: Path
) -> None:
    one, other = open_buffer(), open_buffer()
    token = one.store(b"k", b"x")
    assert live(other) == {b"k": b"x"}
    path.unlink()
    other.store(b"k", b"y")
    assert live(one) == {b"k": b"y"}
    assert one.retrieve(b"k").token != token


def test_a_disk_without_room_is_said_and_leaves_nothing_behind(
    open_buffer: OpenBuffer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(BackendUnavailable, match="No space left"):
            open_buffer().store(b"k", b"x")
    assert os.listdir(path.parent) == []
