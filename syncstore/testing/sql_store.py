"""An SQL store with its parts within reach, for tests of what the storage interface does not show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import make_url

from syncstore.clock import Clock, SystemClock
from syncstore.locks.api import Locks
from syncstore.locks.sql import SqlLocks
from syncstore.storage.sql.connections import PoolSizes
from syncstore.storage.sql.dialects import dialect_for
from syncstore.storage.sql.dialects.api import Waits
from syncstore.storage.sql.engine import Database
from syncstore.storage.sql.names import CollectionNames
from syncstore.storage.sql.purge import Purge
from syncstore.storage.sql.statements import Statements
from syncstore.storage.sql.store import SqlStorage

BATCH_LIFETIME = 7200
LOCK_TIMEOUT = 2.0


@dataclass(frozen=True)
class SqlStore:
    """A store and its parts."""

    database: Database
    statements: Statements
    locks: Locks
    clock: Clock
    storage: SqlStorage

    def purge(self, *, grace: int = 0, step: int = 100) -> Purge:
        """The purge of this database; `grace` is in seconds, `step` in rows."""
        return Purge(
            self.database,
            self.statements,
            self.locks,
            self.clock,
            grace=grace,
            batch_lifetime=BATCH_LIFETIME,
            step=step,
        )


def open_sql_store(
    url: str,
    clock: Clock,
    quota: int | None = None,
    *,
    lock_timeout: float = LOCK_TIMEOUT,
    answer_timeout: float = 20.0,
    pool: PoolSizes | None = None,
) -> SqlStore:
    """A store over the database at `url`, which is migrated already. The caller closes its `database`."""
    dialect = dialect_for(make_url(url), Waits(lock_timeout, 5.0, answer_timeout))
    database = Database(url, dialect, pool or PoolSizes(), lock_timeout=lock_timeout)
    statements = Statements(dialect)
    locks = Locks(SqlLocks(database), clock, lock_timeout)
    storage = SqlStorage(database, statements, locks, clock, quota=quota, batch_lifetime=BATCH_LIFETIME)
    return SqlStore(database, statements, locks, clock, storage)


@contextmanager
def open_sql_locks(url: str) -> Iterator[Locks]:
    """Locks over the database at `url`, closed at the end. May be called by a process that a test starts."""
    store = open_sql_store(url, SystemClock())
    try:
        yield store.locks
    finally:
        store.database.close()


def create_names(url: str, names: Sequence[str]) -> dict[str, int]:
    """Give numbers to collection names, as a process of its own would."""
    store = open_sql_store(url, SystemClock())
    try:
        created = CollectionNames(store.database, store.statements)
        return {name: created.create(name) for name in names}
    finally:
        store.database.close()
