"""The records of a process that is alone with its memcacheds: `memcached.state = memory`, and tests.

They belong to the process that first used them. A child that it forks afterwards is refused: with a copy of its own
it would miss what the parent, or its sisters, find out from then on, and read values that they have replaced. Without
the records it goes without the cache. What was not used before the fork is its user's own, as with processes that
were started one by one, and has an identity of its own, by which the marks on the servers tell them apart.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence

from syncstore.cache.memcached.new_record import check_name, new_record
from syncstore.cache.memcached.records import ServerRecord
from syncstore.clock import Clock
from syncstore.errors import Unavailable

_UNKNOWN = ServerRecord()


class MemoryRecords:
    """Records of one process (see RecordStore). `clock` tells when they were changed."""

    name = "memory"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._life: dict[str, tuple[int, str]] = {}  # the process and the identity, once it is used
        self._records: dict[str, ServerRecord] = {}
        self._changing = threading.Lock()

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """The records (see RecordStore). Raises Unavailable in a child of the process that has them."""
        self._own()
        return [self._records.get(server) or self._unknown(server) for server in servers]

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        """Let the epoch be `to` if it is `seen` (see RecordStore). Raises Unavailable like `read`."""
        record = new_record(server, seen, to, reason, self._clock)
        self._own()
        with self._changing:
            if self._records.get(server, _UNKNOWN).epoch != seen:
                return False
            self._records[server] = record
        return True

    def identity(self) -> str:
        """This object's (see RecordStore). Raises Unavailable like `read`."""
        return self._own()

    def close(self) -> None:
        """There is nothing to give back."""

    @staticmethod
    def _unknown(server: str) -> ServerRecord:
        check_name(server)
        return _UNKNOWN

    def _own(self) -> str:
        """The identity. Raises Unavailable in a child of the process that has the records."""
        # Without a lock, which a thread that is not in the child may hold for ever: setdefault is one step.
        pid = os.getpid()
        life = self._life.get("") or self._life.setdefault("", (pid, secrets.token_hex(16)))
        if life[0] != pid:
            raise Unavailable(
                "memcached.state = memory is known only to the process that forked this one: for several processes "
                "choose sql, zookeeper or file"
            )
        return life[1]
