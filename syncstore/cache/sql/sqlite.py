"""SQLite for the provider `sql`: one file of this host, with one writer at a time in all of it.

One connection for a process is as fast as several, since its threads would only meet at the lock in the file. Who meets
it there tries again, after pauses shorter than SQLite's own. Transactions are tiny: the file may be the service's,
whose writers wait meanwhile.

`synchronous = NORMAL`: a killed process loses nothing, and a power cut takes the changes of the last moments, unless
the service has written since, which waits for the disk. Numbers are random, so none comes twice after that.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL
from sqlalchemy.dialects import sqlite

from syncstore.cache.sql.address import shown
from syncstore.cache.sql.kinds import Fault, Link, NotAllowed, Result, Step, settled
from syncstore.cache.sql.statements import INCARNATION, Statements

CREATE: Final = (
    "CREATE TABLE IF NOT EXISTS socache (ns BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,"
    " expires REAL NOT NULL, version INTEGER NOT NULL, PRIMARY KEY (ns, key))",
    "CREATE INDEX IF NOT EXISTS socache_expires ON socache (ns, expires) WHERE expires > 0",
)
_FIND: Final = "SELECT value FROM socache WHERE ns = x'' AND key = ?"
_ENTER: Final = "INSERT OR IGNORE INTO socache VALUES (x'', ?, ?, 0, 0)"
_IN_THE_WAY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_OLDEST: Final = (3, 35, 0)


class SqliteLink:
    """A connection to a file."""

    room = None

    def __init__(self, connection: sqlite3.Connection, incarnation: str) -> None:
        self._connection = connection
        self.incarnation = incarnation

    def usable(self) -> bool:
        return True

    def wait_until(self, end: float) -> None:
        """Nothing here waits."""

    def one(self, step: Step) -> Result:
        cursor = self._connection.execute(step.sql, step.parameters)
        return cursor.fetchall() if step.looks else cursor.rowcount

    def together(self, steps: Sequence[Step]) -> list[Result]:
        self._connection.execute("BEGIN IMMEDIATE")
        results = [self.one(step) for step in steps]
        self._connection.execute("COMMIT")
        return results

    def restore(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def abandon(self) -> bool:
        """SQLite believes of the whole process that it has the parent's locks, and would undo what that is doing."""
        return False


class Sqlite:
    """The file that a URL names."""

    error: type[Exception] = sqlite3.Error
    shared_hosts = False
    size = 1
    patient = True

    def __init__(self, url: URL) -> None:
        self.shown = shown(url)
        self._path = Path(os.path.abspath(url.database or ""))
        dialect: Any = sqlite.dialect(paramstyle="qmark")
        self.statements = Statements(dialect)

    def connect(self) -> Link:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise NotAllowed(f"SQLite {sqlite3.sqlite_version} is too old, 3.35 is needed")
        if not self._path.exists():
            _make(self._path)
        connection = sqlite3.connect(
            self._path.as_uri() + "?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=0,
        )
        try:
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("PRAGMA synchronous = NORMAL")
            return SqliteLink(connection, _incarnation(connection))
        except BaseException:
            with suppress(sqlite3.Error):
                connection.close()
            raise

    def fault(self, error: Exception, link: Link | None) -> Fault:
        """By SQLite's code."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _IN_THE_WAY:
            return "in the way"
        if code == sqlite3.SQLITE_FULL:
            return "full"
        if code == sqlite3.SQLITE_ERROR and "no such table" in str(error):
            return "missing"
        return "refused"


def _incarnation(connection: sqlite3.Connection) -> str:
    def look() -> bytes | None:
        try:
            row = connection.execute(_FIND, (INCARNATION,)).fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                raise LookupError from error
            raise
        return row and bytes(row[0])

    def make() -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in CREATE:
                connection.execute(statement)
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY:
                raise NotAllowed(str(error)) from error
            raise

    def enter(incarnation: bytes) -> None:
        connection.execute(_ENTER, (INCARNATION, incarnation))

    return settled(look, make, enter)


def _make(path: Path) -> None:
    """Make an empty file of ours alone, unless somebody else is faster, of which nobody has a descriptor once it has
    its name: with one of them SQLite would lose its locks."""
    draft = f"{path}.{secrets.token_hex(8)}"
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
