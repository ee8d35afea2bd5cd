"""The lock that lives in the SQL transaction which writes: the user's row.

Lock and data die together, so this backend is safe alone and is the default. It is coarser than asked: it
excludes per user, since the row with the user's high-water mark is what every writer must hold anyway, and a
second lock beside it (an advisory lock, a table of lock rows) would cost a round trip and add nothing.
A commit inside the block ends the lock, for all blocks of the thread that share it: `valid()` says so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol

from syncstore.errors import Conflict, LockUnavailable, LockUpgradeError, Unavailable
from syncstore.locks.api import Key, Mode


class UserTransaction(Protocol):
    """An open transaction that holds the user's row."""

    @property
    def open(self) -> bool:
        """False once it was committed or rolled back."""

    def rollback(self) -> None:
        """End it without effect and give its connection back."""


class OpensTransactions(Protocol):
    """The part of a database that this backend needs."""

    def lock_user(self, uid: int, *, exclusive: bool, timeout: float) -> UserTransaction:
        """Begin a transaction whose first statement locks the user's row. Raises LockTimeout, Unavailable."""


class _Hold:
    """One transaction of one thread, that all its locks on one user share."""

    __slots__ = ("grants", "mode", "transaction")

    def __init__(self, mode: Mode, transaction: UserTransaction) -> None:
        self.mode = mode
        self.transaction = transaction
        self.grants = 0


class _HoldsOfThread(threading.local):
    def __init__(self) -> None:
        self.table: dict[int, _Hold] = {}


class SqlGrant:
    """A held row lock; the store writes through `transaction`."""

    __slots__ = ("_hold", "_table", "_uid")

    token = 0

    def __init__(self, uid: int, hold: _Hold, table: dict[int, _Hold]) -> None:
        self._uid = uid
        self._hold = hold
        self._table = table
        hold.grants += 1

    @property
    def transaction(self) -> UserTransaction:
        """The transaction that holds the row; a store that must begin it anew sets the new one."""
        return self._hold.transaction

    @transaction.setter
    def transaction(self, begun: UserTransaction) -> None:
        self._hold.transaction = begun

    def valid(self) -> bool:
        """Whether the transaction that holds the row is still open."""
        return self._hold.transaction.open

    def release(self) -> None:
        """With the last grant roll back what was not committed, which lets go of the row."""
        hold = self._hold
        hold.grants -= 1
        if hold.grants:
            return
        if self._table.get(self._uid) is hold:
            del self._table[self._uid]
        if hold.transaction.open:
            hold.transaction.rollback()


class SqlLocks:
    """The backend `lock.backend = sql`.

    Two collections of one user are one row, so a thread that asks for the second one shares the transaction of
    the first: a second transaction would wait for the first for ever. A user without a row gets one when locked
    for writing; for reading there is nothing to lock, and nothing to read. SQLite's shared lock is a snapshot,
    which keeps no writer out and needs none kept out.
    """

    name = "sql"

    def __init__(self, database: OpensTransactions) -> None:
        self._database = database
        self._mine = _HoldsOfThread()

    def acquire(self, key: Key, mode: Mode, timeout: float) -> SqlGrant:
        """Lock the user's row, shared or exclusive (see LockBackend).

        Raises LockUpgradeError when this thread holds the row for reading and asks to write.
        """
        uid, table = key[0], self._mine.table
        hold = table.get(uid)
        if hold is None or not hold.transaction.open:
            hold = table[uid] = _Hold(mode, self._lock(uid, mode, timeout))
        elif mode == "write" and hold.mode == "read":
            raise LockUpgradeError(f"this thread holds user {uid} for reading and asks to write {key}")
        return SqlGrant(uid, hold, table)

    def sweep(self) -> Iterator[int]:
        """Nothing: locks end with their connections."""
        return iter(())

    def close(self) -> None:
        """The connections are the database's, which whoever opened it closes."""

    def _lock(self, uid: int, mode: Mode, timeout: float) -> UserTransaction:
        try:
            return self._database.lock_user(uid, exclusive=mode == "write", timeout=timeout)
        except Conflict:
            raise
        except Unavailable as error:
            raise LockUnavailable(error.reason, error.retry_after) from error
