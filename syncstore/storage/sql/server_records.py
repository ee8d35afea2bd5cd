"""The states of memcacheds in the database of the data: shared by all who write there, by construction."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from collections.abc import Sequence
from typing import Final

from syncstore.cache.memcached.records import GROUP, MAX_REASON, GroupRecord, ServerRecord
from syncstore.clock import Clock
from syncstore.storage.sql import clauses
from syncstore.storage.sql.engine import Database
from syncstore.storage.sql.statements import Statements

# The row that names the database itself: its number is drawn once, and odd, as no server in use has.
_INSTALLATION: Final = "installation"


class SqlRecords:
    """The rows of `cache_servers` (see HomeRecords)."""

    name = "sql"

    def __init__(self, database: Database, statements: Statements, clock: Clock) -> None:
        self._database = database
        self._statements = statements
        self._clock = clock

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """The records, by one statement outside of any transaction (see RecordStore)."""
        found: dict[str, ServerRecord] = {}
        for start in range(0, len(servers), clauses.MAX_IDS):
            names = servers[start : start + clauses.MAX_IDS]
            places = clauses.places(names)
            padded = [*names, *[names[-1]] * (places - len(names))]
            values = {f"id{number}": name for number, name in enumerate(padded)}
            for name, epoch, since, reason, by in self._database.query(
                self._statements.server_records(places), values
            ):
                found[name] = ServerRecord(int(epoch), int(since or 0), reason or "", by or "")
        return [found.get(server, ServerRecord()) for server in servers]

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        """Change the epoch by compare-and-set, in a transaction of its own (see RecordStore)."""
        return self._advance(server, seen, to, _plain(reason)[:MAX_REASON])

    def _advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        values = {
            "name": server,
            "seen": seen,
            "next": to,
            "since": self._clock.now_ms(),
            "reason": reason,
            "by": f"{_plain(socket.gethostname())[:80]}:{os.getpid()}",
        }
        if self._database.execute(self._statements.advance_epoch, values):
            return True
        return seen == 0 and self._database.insert_if_new(self._statements.add_server, values)

    def identity(self) -> str:
        """The number of the database, drawn at its first use (see RecordStore)."""
        record = self.read([_INSTALLATION])[0]
        if not record.epoch:
            self.advance(_INSTALLATION, 0, secrets.randbits(40) | 1, "drawn")
            record = self.read([_INSTALLATION])[0]
        return base64.b32encode((record.epoch & (1 << 40) - 1).to_bytes(5)).decode().lower()

    def group(self) -> GroupRecord:
        """The group in use (see HomeRecords)."""
        return self.read_with_group(())[1]

    def read_with_group(self, servers: Sequence[str]) -> tuple[list[ServerRecord], GroupRecord]:
        """The records and the group, by one statement (see HomeRecords)."""
        *records, group = self.read([*servers, GROUP])
        return records, GroupRecord(group.epoch, group.reason)

    def change_group(self, seen: int, description: str) -> bool:
        """Let another group be in use (see HomeRecords)."""
        return self._advance(GROUP, seen, seen + 1, description)

    def close(self) -> None:
        """Nothing: the connections are the storage's."""


def _plain(text: str) -> str:
    """A text that every database takes: printable ASCII."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)
