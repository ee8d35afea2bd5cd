"""What the store asks of a database's dialect.

Connections are in autocommit mode: a read is one statement and so one snapshot without BEGIN and COMMIT. A unit
of work begins with the statement that locks the user's row and ends by sending its writes together with COMMIT,
in as few round trips as the driver allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import Insert, Select, Table
from sqlalchemy.engine.interfaces import Dialect as SqlalchemyDialect

from syncstore.bso import BSO
from syncstore.storage.durable import StoredItem

Connection = Any  # a DBAPI connection: PEP 249 gives no types
Row = tuple[Any, ...]

Fault = Literal["lock timeout", "conflict", "duplicate", "disconnect", "outage"]
"""Why a driver raised: others held the lock too long; the transaction was rolled back in favour of another;
the key exists already; the connection is gone; the database refused or failed otherwise."""


class Waits(NamedTuple):
    """How long to wait, in seconds: for a lock, for a connection, for an answer."""

    lock: float
    connect: float
    answer: float


LockedRow = tuple[int, bytes | None]
"""What the locking statement reads of a user: the high-water mark in milliseconds, and the kept times."""


class Write(NamedTuple):
    """One statement of a unit of work, ready to send."""

    sql: str
    parameters: Sequence[object]


ItemRow = tuple[int, int, str, int | None, int, str, int, int]
"""All columns of `bso`, in the table's order: userid, collection, id, sortindex, modified, payload, payload_size,
ttl. Times in milliseconds."""


StoredRow = tuple[int, int | None, int, int]
"""What a unit of work reads of an item: modified, sortindex, payload_size, ttl. Times in milliseconds.

Plain tuples, these two: an upload of a hundred items makes a hundred of each, and named ones cost five times as
much."""


class StagedRow(NamedTuple):
    """All columns of `batch_upload_items`, in the table's order; None was absent in the request."""

    userid: int
    batch: int
    id: str
    sortindex: int | None
    payload: str | None
    payload_size: int | None
    ttl_offset: int | None


class Dialect(Protocol):
    """One kind of database."""

    name: str
    error: type[Exception]
    """The root of the driver's exceptions."""

    @property
    def compiler(self) -> SqlalchemyDialect:
        """What turns Core statements into this database's text, with positional parameters."""

    inline_ids: bool
    """Whether lists of ids are cheaper in a statement's text than as parameters."""

    nulls_first: bool
    """Whether a descending sort puts NULL first unless told otherwise."""

    def engine_options(self) -> dict[str, Any]:
        """Arguments of `create_engine` beyond the pool's."""

    def prepare(self, connection: Connection) -> None:
        """Set up a new connection, once."""

    def fetch(self, connection: Connection, sql: str, parameters: Sequence[object]) -> list[Row]:
        """All rows of one statement."""

    def execute(self, connection: Connection, sql: str, parameters: Sequence[object]) -> int:
        """Run one statement; the number of rows it touched."""

    def lock_user(
        self, connection: Connection, uid: int, *, exclusive: bool, timeout: float
    ) -> LockedRow | None:
        """Begin a transaction and lock the user's row in its first statement; None when the user has no row.
        The lock is waited for at most `timeout` seconds."""

    def settled(self, connection: Connection, sql: str, uid: int) -> list[Row] | None:
        """All rows of a statement whose one parameter is the user, while no writer of the user is at work.

        Three statements: a shared lock on the user's row, first in its transaction and not waited for; then `sql`,
        whose snapshot is newer than the lock; then the end, without effect, which spares PostgreSQL the sync of
        a commit. None when the row is held or missing: one that is inserted and not committed is nothing to wait
        for in PostgreSQL, and its writer is not seen.
        """

    def finish(self, connection: Connection, writes: Sequence[Write]) -> None:
        """Run the writes in order and COMMIT."""

    def rollback(self, connection: Connection) -> None:
        """ROLLBACK."""

    def transaction_ended(self, *, exclusive: bool) -> None:
        """A transaction that `lock_user` began is over, whichever way. Called once for each."""

    def classify(self, error: Exception, connection: Connection | None) -> Fault:
        """Why the driver raised `error`; `connection` is None when it came from connecting."""

    def upsert(
        self,
        table: Table,
        columns: Iterable[str],
        *,
        select: Select[Any] | None = None,
        keep_null: bool = False,
    ) -> Insert:
        """An insert that takes over the named columns where the primary key exists already.

        `select` yields the rows, all columns in the table's order. With `keep_null` a NULL among the new values
        leaves the old value in place.
        """

    def put_items(self, rows: Sequence[ItemRow], *, keep_payload: bool) -> Write:
        """One statement that creates or replaces items; with `keep_payload` existing payloads stay."""

    def stage_items(self, rows: Sequence[StagedRow]) -> Write:
        """One statement that stages items field by field over what the batch holds already."""

    def items(self, rows: Sequence[Row]) -> list[BSO]:
        """BSOs of rows that end in (id, modified in ms, sortindex, payload)."""

    def whole_items(self, rows: Sequence[Row]) -> list[StoredItem]:
        """Items of rows (..., id, modified in ms, sortindex, payload, ttl in ms)."""

    def stored(self, rows: Sequence[Row]) -> dict[str, StoredRow]:
        """What is stored, by id, of rows (..., ..., ..., id or None, modified, sortindex, payload_size, ttl)."""

    def text_of_id(self, value: Any) -> str:
        """An item id as the driver returns it, as text."""
