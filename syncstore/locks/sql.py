"""The lock that lives in the SQL transaction which writes: the user's row.

Lock and data die together, so this backend is safe alone and is the default. It is coarser than asked: it
excludes per user, since the row with the user's high-water mark is what every writer must hold anyway, and a
second lock beside it (an advisory lock, a table of lock rows) would cost a round trip and add nothing.
A commit inside the block ends the lock: `valid()` says so.
"""

from __future__ import annotations

from typing import Protocol

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
        """Begin a transaction whose first statement locks the user's row. Raises LockTimeout."""


class SqlGrant:
    """A held row lock; the store writes through `transaction`."""

    __slots__ = ("transaction",)

    token = 0

    def __init__(self, transaction: UserTransaction) -> None:
        self.transaction = transaction

    def valid(self) -> bool:
        """Whether the transaction that holds the row is still open."""
        return self.transaction.open

    def release(self) -> None:
        """Roll back what was not committed, which lets go of the row."""
        if self.transaction.open:
            self.transaction.rollback()


class SqlLocks:
    """The backend `lock.backend = sql`."""

    name = "sql"

    def __init__(self, database: OpensTransactions) -> None:
        self._database = database

    def acquire(self, key: Key, mode: Mode, timeout: float) -> SqlGrant:
        """Lock the user's row, shared or exclusive (see LockBackend)."""
        return SqlGrant(self._database.lock_user(key[0], exclusive=mode == "write", timeout=timeout))
