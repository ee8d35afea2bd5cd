"""The quota: what a write would come to, decided before anything is written (sync-api section 14)."""

from __future__ import annotations

from syncstore.clock import MS_PER_TICK
from syncstore.errors import OverQuota
from syncstore.storage.sql.engine import Transaction
from syncstore.storage.sql.statements import Statements

# Bytes. With less left clients are told how much it is (sync-api section 11), so it has to be exact.
_NEARLY_FULL = 1024 * 1024


class Quota:
    """A number of bytes that every user may fill."""

    def __init__(self, statements: Statements, limit: int) -> None:
        self._statements = statements
        self._limit = limit

    def charge(
        self, at: Transaction, uid: int, time: int, more: int, *, kept: int, replaced_expired: int = 0
    ) -> int:
        """Refuse `more` bytes that end above the quota, at a time in ticks; else what is left of it.

        `kept` are the bytes of cached-only collections. Items that expired and are not purged yet do not count;
        `replaced_expired` are the bytes of those whose place the change takes.
        """
        limit, statements = self._limit, self._statements
        values = {"uid": uid, "now": time * MS_PER_TICK}
        used = int(at.query(statements.used_bytes, values)[0][0]) + kept + more
        if used > limit - _NEARLY_FULL:
            # Only now the price of looking at expired rows. Those that the change replaces are gone from `more`.
            expired = int(at.query(statements.expired_bytes, values)[0][0])
            used -= expired - replaced_expired
        # What takes the place of an expired item is all new, however long that was.
        if used > limit and more + replaced_expired > 0:
            raise OverQuota(used, limit)
        return max(0, limit - used)
