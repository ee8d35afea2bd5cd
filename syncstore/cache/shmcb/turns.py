"""One at a time: of the threads, of the processes of the host, and on the file that has the name now.

Threads take turns by a lock of their own, processes by flock. A lock by fcntl would be the process's, and go whenever
any descriptor of the file is closed in it; what flock has instead is that a child inherits it, so the child closes what
its parent was locking with. The kernel ends the lock of who is killed. Who is frozen keeps it, so nobody waits for
longer than the timeout.

Whoever has got the lock looks whether the file still has the name. One that was removed or replaced is left, so all
processes meet on the new one, whatever its size. A file of another size than the settings' is replaced, but once only,
when a process first opens it: an old process that meets the new file of a new one takes it as it is, or else the two
would replace each other's for ever.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from typing import Final

from syncstore.cache.api import BackendUnavailable, Busy
from syncstore.cache.shmcb.file import (
    CacheFile,
    Unfit,
    make,
    open_lock,
    open_map,
    read_header,
    replace,
    unavailable,
)
from syncstore.cache.shmcb.geometry import Geometry
from syncstore.forks import in_each_child

DEFAULT_TIMEOUT: Final = 1.0
"""Seconds that a call waits for others, each of which needs microseconds."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.00002, 0.0002
_COURTESY = 0.00002
_OPENINGS = 20


class Turns:
    """Turns on the file at `path`, of `geometry` when it is made. Nobody waits for longer than `timeout` seconds.

    The time is the machine's, since it is other processes' that pass it.
    """

    def __init__(self, path: str, geometry: Geometry, timeout: float) -> None:
        self._path = path
        self._wanted = geometry
        self._timeout = timeout
        self._descriptors: set[int] = set()
        self._may_replace = True
        self._begin()
        in_each_child(self._begin)

    def _begin(self) -> None:
        self._threads = threading.Lock()
        self._file: CacheFile | None = None
        while self._descriptors:
            os.close(self._descriptors.pop())

    @property
    def geometry(self) -> Geometry:
        """That of the file, as far as this process knows it; else of the file it would make."""
        file = self._file
        return self._wanted if file is None else file.geometry

    def enter(self) -> CacheFile:
        """Begin a turn, which `leave` must end: the file that has the name. Raises BackendUnavailable, Busy."""
        end = time.monotonic() + self._timeout
        if not self._threads.acquire(blocking=False) and not self._wait_for_threads():
            raise Busy(f"{self._path}: threads of this process have been using it for {self._timeout:g} s")
        try:
            return self._current(end)
        except BaseException as error:
            self.leave()
            if isinstance(error, OSError):
                raise unavailable(self._path, error) from error
            raise

    def leave(self) -> None:
        """End the turn."""
        wanted = False
        try:
            file = self._file
            if file is not None:
                wanted = file.wanted
                if wanted:
                    file.wanted = False
                # Not by closing alone: a child that is just being forked has it open, too.
                fcntl.flock(file.lock, fcntl.LOCK_UN)
        finally:
            self._threads.release()
        if wanted:
            # Who is quick to begin the next turn would have it each time: the others are just waking up.
            time.sleep(_COURTESY)

    def close(self) -> None:
        """Give back the file. The next turn opens it again. Waits for a turn of this process, as long as any call."""
        if self._threads.acquire(timeout=self._timeout):
            try:
                self._drop()
            finally:
                self._threads.release()

    def _wait_for_threads(self) -> bool:
        file = self._file
        if file is not None:
            with suppress(ValueError):  # somebody is just closing it
                file.wanted = True
        return self._threads.acquire(timeout=self._timeout)

    # All below is called with the threads' lock held.

    def _current(self, end: float) -> CacheFile:
        for _ in range(_OPENINGS):
            file = self._file or self._open(end)
            self._lock(file.lock, end)
            try:
                if file.is_at(os.stat(self._path)):
                    return file
            except FileNotFoundError:
                pass  # another is made
            self._drop()
        raise BackendUnavailable(f"{self._path} is replaced again and again")

    def _lock(self, descriptor: int, end: float) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise BackendUnavailable(
                        f"{self._path}: others have been using it for {self._timeout:g} s, or one of them hangs"
                    ) from None
                if self._file is not None:
                    self._file.wanted = True
            else:
                return
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _open(self, end: float) -> CacheFile:
        for _ in range(_OPENINGS):
            try:
                descriptor = open_lock(self._path)
            except FileNotFoundError:
                make(self._path, self._wanted)
                continue
            self._descriptors.add(descriptor)
            try:
                file = self._opened(descriptor, end)
            except BaseException:
                self._close(descriptor)
                raise
            if file is not None:
                self._may_replace = False
                self._file = file
                return file
            self._close(descriptor)
        raise BackendUnavailable(f"{self._path} is removed or replaced as fast as it is made")

    def _opened(self, descriptor: int, end: float) -> CacheFile | None:
        """The file of a descriptor, None if there is another now, or soon."""
        header = read_header(self._path, descriptor)
        if isinstance(header, Unfit):
            if header.elsewhere and not self._may_replace:
                raise BackendUnavailable(f"{self._path} {header.reason}: start this process anew")
        elif header.geometry == self._wanted or not self._may_replace:
            return open_map(self._path, descriptor, header)
        self._replace(descriptor, end)
        return None

    def _replace(self, descriptor: int, end: float) -> None:
        """Put a new file into the place of the descriptor's, unless somebody else has done so."""
        self._lock(descriptor, end)
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(descriptor)):
                replace(self._path, self._wanted)
        except FileNotFoundError:
            pass
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
            self._close(file.lock)

    def _close(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        # In this order: a child must not close what has its number next.
        self._descriptors.discard(descriptor)
        os.close(descriptor)
