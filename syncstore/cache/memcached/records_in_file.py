"""The records of all processes of one host: `memcached.state = file:/path`.

Reading costs a look at the file's name, which tells whether it is still the file that is mapped, and a word of shared
memory for each server (`state_file`). A file that was removed is noticed by all at their next call: they go on with a
new one, of another identity, which knows nothing. Otherwise those who have the old one and those who start later
would not hear of each other.

Writers take turns by flock, on a file description that each change opens for itself: it keeps out threads, other
objects and other processes alike, and the kernel ends it when the writer is killed. A lock by fcntl would be the
process's: it does not keep its threads apart, and goes whenever any description of the file is closed. What flock
has instead is that a child inherits it, so the child closes what its parent was locking with.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from syncstore.cache.memcached.new_record import check_name, new_record
from syncstore.cache.memcached.records import ServerRecord
from syncstore.cache.memcached.state_file import StateFile, open_state_file
from syncstore.clock import Clock
from syncstore.errors import Unavailable
from syncstore.forks import in_each_child

TIMEOUT: Final = 2.0
"""Seconds that a change waits for others, each of which needs microseconds, or as long as the disk takes."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01


class FileRecords:
    """Records in the file at `path` (see RecordStore). A change waits for others for `timeout` seconds."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock, *, timeout: float = TIMEOUT) -> None:
        self._path = os.path.abspath(path)
        self.name = f"file:{self._path}"
        self._clock = clock
        self._timeout = timeout
        self._file: StateFile | None = None
        self._locking: set[int] = set()
        in_each_child(self._drop_after_fork)

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """The records (see RecordStore). Raises Unavailable."""
        file = self._current()
        heads, known = file.heads, file.known
        records = []
        for server in servers:
            place = known.get(server)
            if place is not None and heads[place[0]] == place[1]:
                records.append(place[2])
            else:
                check_name(server)
                records.append(file.look(server))
        return records

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        """Let the epoch be `to` if it is `seen` (see RecordStore). Raises Unavailable."""
        record = new_record(server, seen, to, reason, self._clock)
        with self._alone() as file:
            return file.change(server, seen, record)

    def identity(self) -> str:
        """The file's (see RecordStore). Raises Unavailable."""
        return self._current().identity

    def close(self) -> None:
        """Give back the mapping. The next call opens it again."""
        self._file = None

    def _current(self) -> StateFile:
        """The file that has the name now."""
        file = self._file
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            pass  # it is made
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from error
        else:
            if file is not None and file.is_at(status):
                return file
        # Several threads may do so at once: they map the same file.
        file = self._file = open_state_file(self._path)
        return file

    @contextmanager
    def _alone(self) -> Iterator[StateFile]:
        """The file that has the name now, for this writer alone. Raises Unavailable."""
        end = self._clock.monotonic() + self._timeout
        while True:
            self._current()
            try:
                lock = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:  # just removed, it may be
                raise Unavailable(f"{self._path}: {error.strerror}") from error
            self._locking.add(lock)
            try:
                self._lock(lock, end)
                try:
                    file = self._current()
                    if file.is_at(os.fstat(lock)):
                        yield file
                        return
                finally:
                    # Not by closing alone: a child that is just being forked has it open, too.
                    fcntl.flock(lock, fcntl.LOCK_UN)
            finally:
                # In this order: a child must not close what has its number next.
                self._locking.discard(lock)
                os.close(lock)
            if self._clock.monotonic() >= end:
                raise Unavailable(f"{self._path} is replaced again and again")

    def _lock(self, lock: int, end: float) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._clock.monotonic() >= end:
                    raise Unavailable(
                        f"{self._path}: others have been changing it for {self._timeout} s, or one of them hangs"
                    ) from None
            except OSError as error:
                raise Unavailable(f"{self._path}: {error.strerror}") from error
            else:
                return
            self._clock.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _drop_after_fork(self) -> None:
        while self._locking:
            os.close(self._locking.pop())
