"""Pending uploads: staged items that nobody sees until their batch is committed (sync-api section 13).

The id on the wire is 63 random bits in url-safe base64. It is looked up together with user and collection, so
another user's id is simply unknown, and it is never given twice.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from syncstore.bso import Change, payload_size
from syncstore.clock import Clock
from syncstore.errors import InvalidBatch
from syncstore.storage.sql.batch_statements import BatchStatements
from syncstore.storage.sql.dialects.api import Dialect, StagedRow, Write
from syncstore.storage.sql.engine import Transaction
from syncstore.storage.sql.statements import Statements

_ID = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)


class Added(NamedTuple):
    """What a commit adds to the collection; `expired_bytes` is the size of expired rows that it replaces."""

    items: int
    bytes: int
    expired_bytes: int


class Batches:
    """The batches of one database. `lifetime` is in seconds from their creation and is never extended."""

    def __init__(self, dialect: Dialect, statements: Statements, clock: Clock, lifetime: int) -> None:
        self._dialect = dialect
        self._statements = statements
        self._commits = BatchStatements(dialect)
        self._clock = clock
        self._lifetime_ms = lifetime * 1000

    def create(self, uid: int, collection: int) -> tuple[str, Write]:
        """A new batch's id, and the write that opens it."""
        number = secrets.randbits(63)
        text = base64.urlsafe_b64encode(number.to_bytes(8, "big")).rstrip(b"=").decode()
        values = {"uid": uid, "batch": number, "collection": collection, "created": self._clock.now_ms()}
        return text, self._statements.add_batch.write(values)

    def key(self, batch: str) -> int:
        """The number in a batch's id. Raises InvalidBatch for what this server cannot have given out."""
        if _ID.fullmatch(batch) is None:
            raise InvalidBatch("a batch id that was never given out")
        raw = base64.urlsafe_b64decode(batch + "=")
        if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != batch or raw[0] > 0x7F:
            raise InvalidBatch("a batch id that was never given out")
        return int.from_bytes(raw, "big")

    def find(self, at: Transaction, uid: int, collection: int, batch: str) -> int:
        """The number of an open batch of this user and collection. Raises InvalidBatch."""
        number = self.key(batch)
        oldest = self._clock.now_ms() - self._lifetime_ms
        values = {"uid": uid, "batch": number, "collection": collection, "oldest": oldest}
        if not at.query(self._statements.open_batch, values):
            raise InvalidBatch("the batch is not open for this collection")
        return number

    def stage(self, uid: int, batch: int, changes: Sequence[Change]) -> list[Write]:
        """The write that stages items; a field that a change does not have stays as staged before."""
        rows = [
            StagedRow(
                uid,
                batch,
                change.id,
                change.sortindex,
                change.payload,
                None if change.payload is None else payload_size(change.payload),
                change.ttl,
            )
            for change in changes
        ]
        return [self._dialect.stage_items(rows)] if rows else []

    def totals(self, at: Transaction, uid: int, collection: int, batch: int, time: int) -> Added:
        """What the commit at `time` (milliseconds) will add."""
        values = {"uid": uid, "collection": collection, "batch": batch, "time": time}
        count, size, expired = at.query(self._commits.totals, values)[0]
        return Added(int(count), int(size), int(expired))

    def apply(self, uid: int, collection: int, batch: int, time: int) -> list[Write]:
        """The writes that make the staged items live at `time` (milliseconds) and close the batch."""
        values = {"uid": uid, "collection": collection, "batch": batch, "time": time}
        statements = self._statements
        return [
            self._commits.apply.write(values),
            statements.delete_staged.write(values),
            statements.close_batch.write(values),
        ]
