"""The file of the provider `dbm`, and the one connection that a process has to it.

One connection with a lock is as fast for eight threads as a connection for each, and faster for one: SQLite lets one
write at a time anyway, and those who meet its lock sleep. They sleep here rather than in SQLite, which would do so for
up to a tenth of a second.

`synchronous = NORMAL`: a killed process loses nothing. A power cut may take the changes of the last moments, whole ones
from the end, and leaves a whole file; OFF would not. To wait for the disk at each change, as FULL does, would be for
values that are nowhere else.

SQLite keeps for the whole process what it has locked, and a forked child would inherit that belief without the locks.
So a fork waits until nobody is amid a call, and the connection is closed before it; both sides open it again.

Nothing here opens the file but SQLite: if any descriptor of it were closed, the process would lose all its locks.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from syncstore.cache.api import BackendError, BackendUnavailable, Busy, StorageFull
from syncstore.cache.dbm.schema import check_owner, prepare
from syncstore.cache.memcached.state_file import file_system

DEFAULT_TIMEOUT: Final = 2.0
"""Seconds that a call waits for others."""
DEFAULT_MAX_BYTES: Final = 1024 * 1024 * 1024

_FIRST_PAUSE, _LONGEST_PAUSE = 0.0001, 0.005
_FORK_PATIENCE = 10.0
_WAL_KEPT = 4 * 1024 * 1024  # bytes of the file beside it that are not given back
_OPENINGS = 10
_MOUNTS = Path("/proc/self/mountinfo")
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "afs", "fuse.sshfs", "fuse.glusterfs"}

T = TypeVar("T")


class Opened(NamedTuple):
    """A connection, the incarnation of its file, and which file that is."""

    connection: sqlite3.Connection
    incarnation: str
    device: int
    inode: int


class Database:
    """The file at `path`, which may grow to `max_bytes`. No call waits for others for longer than `timeout` seconds."""

    def __init__(self, path: str, *, max_bytes: int, timeout: float) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._forking = False
        self._left_behind: sqlite3.Connection | None = None
        _around_forks(self)

    def run(self, work: Callable[[Opened], T]) -> T:
        """What `work` gives, which is called again when others were in its way, and leaves no transaction open.

        Raises what it raises, and BackendUnavailable, Busy or StorageFull in place of any sqlite3.Error.
        """
        end = time.monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            raise Busy(f"{self._path}: threads of this process have been using it for {self._timeout:g} s")
        try:
            pause = _FIRST_PAUSE
            while True:
                try:
                    return work(self._current())
                except sqlite3.DatabaseError as error:
                    code = _code(error)
                    self._roll_back(keep=code in _HARMLESS)
                    if code not in _IN_THE_WAY or time.monotonic() >= end:
                        raise self._told(error, code) from error
                except OSError as error:
                    raise BackendUnavailable(
                        f"{self._path}: {error.strerror}: the service must be able to make and write it, in a folder"
                        " that exists"
                    ) from error
                except BaseException:
                    self._roll_back(keep=True)
                    raise
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._lock.release()

    def close(self) -> None:
        """Give back the connection. The next call opens it again."""
        if self._lock.acquire(timeout=self._timeout):
            try:
                self._drop()
            finally:
                self._lock.release()

    # All below is called with the lock held.

    def _current(self) -> Opened:
        """The connection to the file that has the name now."""
        opened = self._opened
        if opened is not None:
            with suppress(FileNotFoundError):  # it was removed: another is made
                status = os.stat(self._path)
                if status.st_ino == opened.inode and status.st_dev == opened.device:
                    return opened
            self._drop()
        if self._left_behind is not None:
            raise BackendUnavailable(f"{self._path}: this process was forked amid a call: start it anew")
        for _ in range(_OPENINGS):
            try:
                status = os.lstat(self._path)
            except FileNotFoundError:
                _make(self._path)
                continue
            _check(self._path, status)
            opened = self._open(status)
            if opened is not None:
                self._opened = opened
                return opened
        raise BackendUnavailable(f"{self._path} is removed or replaced as fast as it is made")

    def _open(self, status: os.stat_result) -> Opened | None:
        """A connection to the file of a status, None if another has the name by now."""
        connection = sqlite3.connect(
            Path(self._path).as_uri() + "?mode=rw",  # it is made here, by nobody else
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=0,
        )
        try:
            if not os.path.samestat(status, os.stat(self._path)):
                connection.close()
                return None
            check_owner(self._path, connection)
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {self._max_bytes // page_size}")
            return Opened(connection, prepare(connection, status.st_ino), status.st_dev, status.st_ino)
        except BaseException:
            connection.close()
            raise

    def _roll_back(self, *, keep: bool) -> None:
        """End the transaction that an error left open, and the connection unless it is to be kept."""
        if self._opened is not None:
            with suppress(sqlite3.DatabaseError):
                if self._opened.connection.in_transaction:
                    self._opened.connection.execute("ROLLBACK")
            if not keep:
                self._drop()

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(sqlite3.DatabaseError):  # it has nothing to lose
                opened.connection.close()

    def _told(self, error: sqlite3.DatabaseError, code: int) -> BackendError:
        """What an error of SQLite's is to who asked the cache."""
        if code == sqlite3.SQLITE_FULL:
            return StorageFull(f"{self._path} has no room: of {self._max_bytes} bytes, or on its disk")
        if code in _IN_THE_WAY:
            return BackendUnavailable(
                f"{self._path}: others have been changing it for {self._timeout:g} s, or one of them hangs"
            )
        if code in _CORRUPT:
            return BackendUnavailable(
                f"{self._path} is damaged ({error}): stop all processes that use it and remove it with its -wal and"
                " -shm, and they will make another"
            )
        return BackendUnavailable(f"{self._path}: {error}")

    # -- forks

    def before_fork(self) -> None:
        """Have no connection while the process is forked."""
        self._forking = self._lock.acquire(timeout=_FORK_PATIENCE)
        if self._forking:
            self._drop()

    def after_fork_in_parent(self) -> None:
        if self._forking:
            self._forking = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        self._lock = threading.Lock()
        if not self._forking and self._opened is not None:
            # To close it would undo what the parent is doing with it.
            self._left_behind, self._opened = self._opened.connection, None
        self._forking = False


_IN_THE_WAY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_HARMLESS = {*_IN_THE_WAY, sqlite3.SQLITE_FULL}


def _around_forks(database: Database) -> None:
    """Tell a database of forks, for as long as it lives, which this does not prolong."""
    reference = weakref.ref(database)

    def tell(method: Callable[[Database], None]) -> Callable[[], None]:
        def told() -> None:
            living = reference()
            if living is not None:
                method(living)

        return told

    os.register_at_fork(
        before=tell(Database.before_fork),
        after_in_parent=tell(Database.after_fork_in_parent),
        after_in_child=tell(Database.after_fork_in_child),
    )


def _code(error: sqlite3.DatabaseError) -> int:
    """The primary code of an error, 0 of one that SQLite itself did not tell."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def _make(path: str) -> None:
    """Make an empty file, unless somebody else is faster, of which nobody has a descriptor once it has its name."""
    draft = f"{path}.{secrets.token_hex(8)}"
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)


def _check(path: str, status: os.stat_result) -> None:
    """Raise BackendUnavailable for a file that others may read, or that is not the same for all who open it."""
    if stat.S_ISLNK(status.st_mode):
        raise BackendUnavailable(f"{path} is a symbolic link: name the file itself")
    if not stat.S_ISREG(status.st_mode):
        raise BackendUnavailable(f"{path} is no file")
    # Root, who may look at what the service has, opens that of the service.
    if os.geteuid() not in (0, status.st_uid) or status.st_mode & 0o077:
        raise BackendUnavailable(
            f"{path} must belong to the user that runs the service, and have the mode 0600"
        )
    with suppress(OSError), _MOUNTS.open(errors="replace") as mounts:
        kind = file_system(status.st_dev, mounts)
        if kind in _REMOTE:
            raise BackendUnavailable(f"{path} is on a network file system ({kind}): choose one of this host")
