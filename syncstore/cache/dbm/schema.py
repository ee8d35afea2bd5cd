"""What is in the file of the provider `dbm`: its tables, how they are known again, and where its numbers go on.

A number is a row's id, which AUTOINCREMENT never gives twice, and the incarnation is the file's: both are in it. But
what was written last may be missing after a power cut, and is missing in a copy, so a number that somebody holds could
be given again. The file knows its boot and its inode: under others its numbers go on far beyond all that were lost.
"""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path
from typing import Final

from syncstore.cache.api import BackendUnavailable

VERSION: Final = 1
_APPLICATION: Final = 0x5359_4F42
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_JUMP: Final = 2**32  # numbers; there is room for two thousand million jumps

_CREATE = (
    "CREATE TABLE item (number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL,"
    " expires REAL NOT NULL)",
    "CREATE INDEX item_expires ON item (expires) WHERE expires > 0",
    "CREATE TABLE origin (incarnation TEXT NOT NULL, life TEXT NOT NULL)",
    "INSERT INTO sqlite_sequence (name, seq) VALUES ('item', 0)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {VERSION}",
)
_ORIGIN = "SELECT incarnation, life FROM origin"


def check_owner(path: str, connection: sqlite3.Connection) -> None:
    """Raise BackendUnavailable for a database that is something else's, before anything is written to it."""
    if _pragma(connection, "application_id") == _APPLICATION:
        version = _pragma(connection, "user_version")
        if version != VERSION:
            raise BackendUnavailable(f"{path} is of version {version}, not {VERSION}: name another file")
    elif connection.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()[0]:
        raise BackendUnavailable(f"{path} is a database of something else: name another file")


def prepare(connection: sqlite3.Connection, inode: int) -> str:
    """Make the tables if there are none, and see to the numbers: the incarnation. Raises sqlite3.Error.

    Where all is as it should be nothing is written, since who only reads is to wait for nobody.
    """
    life = f"{_boot_id()} {inode}"
    if _pragma(connection, "application_id"):
        incarnation, known_life = connection.execute(_ORIGIN).fetchone()
        if known_life == life:
            return str(incarnation)
    connection.execute("BEGIN IMMEDIATE")
    if not _pragma(connection, "application_id"):
        for statement in _CREATE:
            connection.execute(statement)
        connection.execute("INSERT INTO origin VALUES (?, ?)", (secrets.token_hex(8), life))
    incarnation, known_life = connection.execute(_ORIGIN).fetchone()
    if known_life != life:
        connection.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'item'", (_JUMP,))
        connection.execute("UPDATE origin SET life = ?", (life,))
    connection.execute("COMMIT")
    return str(incarnation)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _boot_id() -> str:
    """What tells this boot of the machine from others; where nothing does, each opening counts as one."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return secrets.token_hex(8)
