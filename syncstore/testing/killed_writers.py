"""Writers of a state file that are killed in mid-update, one after the other, each by kill -9.

One half of them die at a byte of their own choice, in the middle of what they write, which a kill from outside hardly
ever meets; the others wherever they are when it comes. After each death somebody else makes the next change.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from syncstore.cache.memcached.records import MAX_REASON, RecordStore, ServerRecord
from syncstore.cache.memcached.records_in_file import FileRecords
from syncstore.cache.memcached.state_file import StateFile
from syncstore.clock import SystemClock
from syncstore.testing.record_stores import open_file_records

SERVER: Final = "a"
_MOST_BYTES = 300  # of one update: some die after it, with the lock
_LONGEST_LIFE = 0.003  # seconds


def reason_of(epoch: int) -> str:
    """The reason that all these writers give for an epoch: half of another's is seen."""
    return (f"{epoch} " * MAX_REASON)[:MAX_REASON]


def check(record: ServerRecord) -> int:
    """The epoch of a record, which must be whole."""
    if record.epoch and (record.reason != reason_of(record.epoch) or not record.by or not record.since):
        raise AssertionError(f"a torn record: {record}")
    return record.epoch


def advance(store: RecordStore) -> int:
    """Make the next change: its epoch."""
    epoch = check(store.read([SERVER])[0])
    if not store.advance(SERVER, epoch, epoch + 1, reason_of(epoch + 1)):
        raise AssertionError("somebody else made the change, and nobody else lives")
    return epoch + 1


def kill_writers(path: Path, kills: int, patience: float, seed: int) -> int:
    """Have so many writers killed: the last epoch.

    Whoever comes next must get in within `patience` seconds. To be called in a process without other threads.
    """
    rng = random.Random(seed)
    epoch = 0
    with open_file_records(path, timeout=patience) as store:
        for number in range(kills):
            if number % 2:
                _killed_after(path, rng.random() * _LONGEST_LIFE)
            else:
                _dead_at(path, rng.randrange(_MOST_BYTES))
            found = check(store.read([SERVER])[0])
            if found < epoch:
                raise AssertionError(f"from epoch {epoch} back to {found}")
            epoch = advance(store)
    return epoch


def _killed_after(path: Path, seconds: float) -> None:
    with _child(lambda: _advance_for_ever(path)) as pid:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)


def _dead_at(path: Path, byte: int) -> None:
    with _child(lambda: _advance_until(path, byte)):
        """It ends by itself."""


def _advance_for_ever(path: Path) -> NoReturn:
    store = FileRecords(path, SystemClock())
    while True:
        advance(store)


def _advance_until(path: Path, bytes_left: int) -> NoReturn:
    """Change records until so many bytes are written, and die there, with the lock."""

    def spend(count: int) -> None:
        nonlocal bytes_left
        if bytes_left <= count:
            os.kill(os.getpid(), signal.SIGKILL)
        bytes_left -= count

    put, switch = StateFile.put, StateFile.switch

    def dying_put(self: StateFile, place: int, written: bytes) -> None:
        put(self, place, written[:bytes_left])
        spend(len(written))

    def dying_switch(self: StateFile, start: int, sequence: int) -> None:
        switch(self, start, sequence)
        spend(1)

    StateFile.put, StateFile.switch = dying_put, dying_switch  # type: ignore[method-assign]  # in a child
    _advance_for_ever(path)


@contextmanager
def _child(work: Callable[[], NoReturn]) -> Iterator[int]:
    """The process id of a child that does this until it is killed, which it is at the end of the block."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    yield pid
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != -signal.SIGKILL:
        raise AssertionError(f"a writer ended by itself, with {status}")
