"""Processes that read from a pool as fast as they may, while a test does to it what it likes, and tell what they saw.

The test is the only writer. What a value is in "SQL" is a number in shared memory, and another says up to which one a
write is done: whoever then begins to read must not see an older one. A reader that misses fills the cache, over the
placeholder, with what "SQL" says.
"""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import SynchronizedArray
from typing import Any, NamedTuple, Self

from syncstore.cache.api import BackendUnavailable, Conflict, NotFound
from syncstore.cache.memcached.pool import Pool
from syncstore.cache.memcached.shared_state import Transition
from syncstore.testing.memcached_pools import PoolDescription, open_pool
from syncstore.testing.waiting import await_that

_START_SECONDS = 120.0
_RESERVE = 5.0  # seconds
_context = multiprocessing.get_context("spawn")  # a fork would share our connections


class Seen(NamedTuple):
    """What one process saw: how many reads, of which so many were hits, and so many refused; each that was stale, in
    words; the transitions that it made; and for each thread how many calls took half a timeout or longer."""

    reads: int
    hits: int
    refused: int
    stale: list[str]
    transitions: list[Transition]
    waits: list[int]


class Truth:
    """The values of keys, shared by all processes: as they are in "SQL", and as they are known to be."""

    def __init__(self, count: int) -> None:
        self.written: SynchronizedArray[int] = _context.Array("q", count)
        self.acknowledged: SynchronizedArray[int] = _context.Array("q", count)


class PoolReaders:
    """So many processes of `threads` threads, each of which reads keys at random. By `with` they begin."""

    def __init__(
        self, description: PoolDescription, keys: Sequence[bytes], *, processes: int = 2, threads: int = 1
    ) -> None:
        self.truth = Truth(len(keys))
        self._keys = list(keys)
        self._counts: SynchronizedArray[int] = _context.Array("q", processes * threads)
        self._stop = _context.Event()
        self._ends: list[Connection] = []
        self._processes = []
        for number in range(processes):
            end, far_end = _context.Pipe()
            shared = self.truth.written, self.truth.acknowledged, self._counts
            process = _context.Process(
                target=_live,
                args=(far_end, self._stop, description, self._keys, *shared, threads, number),
                daemon=True,
            )
            process.start()
            far_end.close()
            self._ends.append(end)
            self._processes.append(process)

    def write(self, pool: Pool, number: int, value: int, *, cached: bool = True) -> None:
        """Let a key have another value, which is known as soon as the pool has confirmed that none is older.

        With `cached` the value is stored there, else removed. Raises what the pool raises, and then the value is in
        "SQL", and may or may not be seen.
        """
        self.truth.written[number] = value
        if cached:
            pool.store(self._keys[number], b"%d" % value)
        else:
            with suppress(NotFound):
                pool.remove(self._keys[number])
        self.truth.acknowledged[number] = value

    def await_reads(self, count: int) -> None:
        """Wait until each thread has read so many keys more."""
        before: list[int] = self._counts[:]
        await_that(
            lambda: all(now >= then + count for now, then in zip(self._counts[:], before, strict=True)),
            what="they go on reading",
        )

    def seen(self) -> list[Seen]:
        """End them: what each saw."""
        self._stop.set()
        return [self._answer(end) for end in self._ends]

    def __enter__(self) -> Self:
        try:
            for end in self._ends:
                assert self._answer(end) == "ready"
            for end in self._ends:
                end.send("go")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End them."""
        self._stop.set()
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(_START_SECONDS)
            process.close()

    def _answer(self, end: Connection) -> Any:
        if not end.poll(_START_SECONDS):
            raise TimeoutError("a reader does not answer")
        answer = end.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


def _live(
    end: Connection,
    stop: Any,
    description: PoolDescription,
    keys: list[bytes],
    written: SynchronizedArray[int],
    acknowledged: SynchronizedArray[int],
    counts: SynchronizedArray[int],
    threads: int,
    number: int,
) -> None:
    with open_pool(description) as opened:
        opened.await_use()
        end.send("ready")
        end.recv()
        readers = [
            _Reader(opened.pool, keys, written, acknowledged, counts, number * threads + thread)
            for thread in range(threads)
        ]
        for reader in readers:
            reader.slow = description.timeout / 2
        running = [threading.Thread(target=reader.run, args=(stop,), daemon=True) for reader in readers]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        failed = [reader.error for reader in readers if reader.error is not None]
        end.send(failed[0] if failed else _sum(readers, opened.transitions))


class _Reader:
    def __init__(
        self,
        pool: Pool,
        keys: list[bytes],
        written: SynchronizedArray[int],
        acknowledged: SynchronizedArray[int],
        counts: SynchronizedArray[int],
        number: int,
    ) -> None:
        self._pool = pool
        self._counts = counts
        self._number = number
        self._keys = keys
        self._written = written
        self._acknowledged = acknowledged
        self._random = random.Random(number)
        self.reads = self.hits = self.refused = 0
        self.stale: list[str] = []
        self.waits = 0
        self.slow = 0.0
        self.error: Exception | None = None

    def run(self, stop: Any) -> None:
        try:
            while not stop.is_set():
                self._read(self._random.randrange(len(self._keys)))
                time.sleep(0.001)  # others need the processor, too
        except Exception as error:  # noqa: BLE001, RUF100 - whatever it is, the test is told
            self.error = error

    def _read(self, number: int) -> None:
        key, least = self._keys[number], self._acknowledged[number]
        began = time.monotonic()
        self.reads += 1
        try:
            (item,) = self._pool.fetch([key], reserve=_RESERVE)
            if item is not None and item.value:
                self.hits += 1
                if int(item.value) < least:
                    self.stale.append(f"{key.decode()} was {item.value.decode()} after {least}")
            elif item is not None:
                self._pool.store(key, b"%d" % self._written[number], expect=item.token)
        except (Conflict, NotFound):
            pass
        except BackendUnavailable:
            self.refused += 1
        self._counts[self._number] += 1  # nobody else counts there
        self.waits += time.monotonic() - began > self.slow


def _sum(readers: Sequence[_Reader], transitions: list[Transition]) -> Seen:
    return Seen(
        sum(reader.reads for reader in readers),
        sum(reader.hits for reader in readers),
        sum(reader.refused for reader in readers),
        [stale for reader in readers for stale in reader.stale],
        transitions,
        [reader.waits for reader in readers],
    )
