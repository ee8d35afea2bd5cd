"""Processes that write and read one cache at once, of which some are killed: every value says whether it is whole."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final
from zlib import crc32

from syncstore.cache.api import Conflict, Item, NotFound, Provider, Remove, Store, Token

_KEYS: Final = [b"/map/u/%d" % number for number in range(60)]
_SIZES = (0, 1, 50, 700, 3000, 9000)

OpenOne = Callable[[], Provider]


def sealed(key: bytes, rng: random.Random) -> bytes:
    """A value of the key's own, with its checksum."""
    body = key + b"=" + rng.randbytes(rng.choice(_SIZES))
    return crc32(body).to_bytes(4, "big") + body


def check(key: bytes, item: Item) -> None:
    """Raise AssertionError for a value that nobody stored under this key."""
    body = item.value[4:]
    if not body.startswith(key + b"=") or crc32(body).to_bytes(4, "big") != item.value[:4]:
        raise AssertionError(f"wrong bytes under {key!r}: {item.value[:100]!r}")


def write(cache: Provider, rng: random.Random, turns: int) -> None:
    """Store, replace and remove for so many turns."""
    for _ in range(turns):
        key = rng.choice(_KEYS)
        chance = rng.random()
        if chance < 0.15:
            cache.change([Remove(key), Store(rng.choice(_KEYS), b"", 0.0, Token("none", 1))])
        elif chance < 0.3:
            try:
                item = cache.retrieve(key)
                check(key, item)
                cache.store(key, sealed(key, rng), expect=item.token)
            except (NotFound, Conflict):
                continue
        else:
            cache.change([Store(each, sealed(each, rng)) for each in (key, rng.choice(_KEYS))])


def read(cache: Provider, rng: random.Random) -> int:
    """Look at every item, in one way or the other; how many were there."""
    if rng.random() < 0.1:
        items = [(key, item) for key, item in cache.iterate() if key in _KEYS]
    else:
        items = [(key, item) for key, item in zip(_KEYS, cache.fetch(_KEYS), strict=True) if item is not None]
    for key, item in items:
        check(key, item)
    return len(items)


@contextmanager
def readers(open_one: OpenOne, number: int) -> Iterator[None]:
    """So many processes that read until the end of the block. Raises AssertionError for what any of them met."""
    asked, told = os.pipe()
    pids = [_forked(partial(_read_until, asked, told, open_one, seed)) for seed in range(number)]
    os.close(asked)
    try:
        yield
    finally:
        os.close(told)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    if any(codes):
        raise AssertionError(f"readers ended with {codes}: their tracebacks are on standard error")


def kill_a_writer(open_one: OpenOne, seconds: float, seed: int) -> None:
    """Have a process write, and kill it after so many seconds."""
    pid = _forked(lambda: write(open_one(), random.Random(seed), 10**9))
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != -signal.SIGKILL:
        raise AssertionError(f"a writer ended by itself with {code}: its traceback is on standard error")


def frozen(work: Callable[[], object]) -> int:
    """The process id of a child that does this, and has stopped itself, or was stopped, in the midst of it."""
    pid = _forked(work)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        raise AssertionError(f"it was not stopped, and ended with {os.waitstatus_to_exitcode(status)}")
    return pid


def ended(work: Callable[[], object]) -> int:
    """How a child ended that did this: 0 when it went well, the negative number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(_forked(work), 0)[1])


def _read_until(asked: int, told: int, open_one: OpenOne, seed: int) -> None:
    os.close(told)
    cache = open_one()
    os.set_blocking(asked, False)
    rng = random.Random(seed)
    while True:
        try:
            if os.read(asked, 1) == b"":
                return
        except BlockingIOError:
            read(cache, rng)
            time.sleep(0.001)  # the others want to be at work, too


def _forked(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001, RUF100 - it must not run the rest of the tests
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)
    return pid
