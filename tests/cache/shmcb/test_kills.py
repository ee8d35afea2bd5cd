"""Writers that are killed: at each instruction of the interpreter in turn, and wherever they are when it comes."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from syncstore.cache.api import ABSENT, Item, Provider, Store
from syncstore.cache.shmcb import ShmcbProvider, layout, rings
from syncstore.cache.shmcb.geometry import HEADER_SIZE, MIN_SIZE, Geometry
from syncstore.clock import SystemClock
from syncstore.testing.cache_writers import check, frozen, kill_a_writer, readers, sealed, write
from syncstore.testing.clocks import SteppableClock

OpenBuffer = Callable[..., ShmcbProvider]
Work = Callable[[ShmcbProvider], object]

_FILES = {rings.__file__, layout.__file__}


def items(cache: Provider) -> dict[bytes, Item]:
    return dict(cache.iterate())


def killed_at(instruction: int, work: Callable[[], object]) -> bool:
    """Do this in a child that is killed before so many instructions of what changes the file; whether it got there."""
    pid = os.fork()
    if pid == 0:
        left = instruction

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in _FILES:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
            return trace

        code = 1
        try:
            sys.settrace(trace)
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


CHANGES: dict[str, Work] = {
    "store anew": lambda cache: cache.store(b"new", b"n" * 900),
    "replace": lambda cache: cache.store(b"3", b"r" * 700),
    "replace and move others": lambda cache: cache.store(b"often", b"n" * 1500),
    "remove": lambda cache: cache.remove(b"4"),
    "cull": lambda cache: cache.cull(now=10**12),
    "reserve": lambda cache: cache.fetch([b"missing"], reserve=100),
    "what was interrupted": lambda cache: cache.fetch([b"3"]),
}


@pytest.mark.parametrize("step", [211, pytest.param(1, marks=[pytest.mark.soak, pytest.mark.timeout(600)])])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_whole_or_its_sub_cache_empty_at_whichever_instruction_it_is_killed(
    open_buffer: OpenBuffer, path: Path, clock: SteppableClock, name: str, step: int
) -> None:
    cache = open_buffer(MIN_SIZE)
    rng = random.Random(2)
    for number in range(11):
        expires = clock.seconds() + 10**6 if number in (6, 8) else 0.0
        cache.store(b"%d" % number, rng.randbytes(rng.randrange(300, 800)), expires)
    if name == "replace and move others":
        for _ in range(6):
            cache.store(b"often", b"o" * 900)
    if name == "what was interrupted":
        with path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), b"\1", HEADER_SIZE)
    good = path.read_bytes()
    change = CHANGES[name]
    before = items(cache)
    with path.open("r+b", buffering=0) as file:

        def restore() -> None:
            os.pwrite(file.fileno(), good, 0)

        restore()
        change(cache)
        after = items(cache)
        interrupted = whole = 0
        for instruction in range(0, 100_000, step):
            restore()
            if not killed_at(instruction, lambda: change(cache)):
                break
            found = items(cache)
            if cache.status()["interrupted"]:
                assert found == {}
                interrupted += 1
            else:
                assert {key: item.value for key, item in found.items()} in (values(before), values(after))
                whole += 1
            assert cache.status()["items"] == len(found)
            assert cache.status()["damaged"] == 0
            known = {item.token for item in (*before.values(), *found.values())}
            stored = [cache.store(b"after%d" % number, b"y" * 200, expect=ABSENT) for number in range(20)]
            assert not known & set(stored)
            assert len(set(stored)) == 20
            kept = items(cache)
            assert {key: kept[key].value for key in kept if not key.startswith(b"after")}.items() <= values(
                found
            ).items()
            assert kept[b"after19"] == Item(b"y" * 200, stored[-1])
        else:
            pytest.fail("it never came to the end")
    assert interrupted + (name == "what was interrupted") > 0
    assert whole + (name == "what was interrupted") > 0


def values(found: dict[bytes, Item]) -> dict[bytes, bytes]:
    return {key: item.value for key, item in found.items()}


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_no_killed_writer_is_noticed_by_those_who_read(path: Path, kills: int) -> None:
    patience = 20.0 if kills < 100 else 0.1

    def open_one(timeout: float = 20.0) -> ShmcbProvider:
        # two sub-caches: a kill then leaves much, and hits something
        return ShmcbProvider(
            str(path), SystemClock(), namespace="a", geometry=Geometry.of(100_000, 200), timeout=timeout
        )

    rng = random.Random(11)
    cache = open_one(patience)
    with readers(open_one, 3):
        for number in range(kills):
            kill_a_writer(open_one, 0.002 + rng.random() * 0.01, number)
            key = b"/map/u/%d" % rng.randrange(60)
            value = sealed(key, rng)
            token = cache.store(key, value)
            assert cache.retrieve(key) == Item(value, token)
            write(cache, rng, 3)
    for key, item in items(cache).items():
        check(key, item)
    status = cache.status()
    assert status["damaged"] == 0
    assert isinstance(status["stores"], int)
    assert status["stores"] > kills
    print(f"{kills} kills, of which {status['interrupted']} in mid-change; {status['stores']} stores")  # noqa: T201 - what a soak is run for
    cache.close()


@pytest.mark.parametrize("stops", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_writers_that_are_frozen_and_then_go_on_break_nothing(path: Path, stops: int) -> None:
    def open_one(timeout: float = 20.0) -> ShmcbProvider:
        return ShmcbProvider(
            str(path), SystemClock(), namespace="a", geometry=Geometry.of(100_000, 200), timeout=timeout
        )

    rng = random.Random(12)
    cache = open_one()

    def write_and_be_stopped(seed: int) -> None:
        other = open_one()
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGSTOP))
        signal.setitimer(signal.ITIMER_REAL, 0.002 + random.Random(seed).random() * 0.01)
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            write(other, rng, 5)

    with readers(open_one, 3):
        for number in range(stops):
            pid = frozen(lambda number=number: write_and_be_stopped(number))  # type: ignore[misc]  # its own
            os.kill(pid, signal.SIGCONT if number % 2 else signal.SIGKILL)
            os.waitpid(pid, 0)
            cache.change([Store(b"/map/u/1", sealed(b"/map/u/1", rng))])
    for key, item in items(cache).items():
        check(key, item)
    assert cache.status()["damaged"] == 0
    cache.close()
