"""The record that a change of a server's state leaves behind: who made it, when, and why, in what every store can keep.

A reason often quotes a failure's words, which may hold anything: what a database or a terminal would stumble over
becomes a space.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from syncstore.cache.memcached.records import MAX_NAME, MAX_REASON, ServerRecord
from syncstore.clock import Clock

MAX_BY: Final = 80
"""Characters of `by` that are kept: a Linux host's name has 64 at most."""

_MAX_EPOCH = 2**63 - 1  # what SQL's BIGINT holds


def check_name(server: str) -> None:
    """Raise ValueError for what cannot be a server's name in a store."""
    if not 0 < len(server) <= MAX_NAME:
        raise ValueError(f"a server's name has 1 to {MAX_NAME} characters, not {len(server)}")


def new_record(server: str, seen: int, to: int, reason: str, clock: Clock) -> ServerRecord:
    """What `RecordStore.advance` with these arguments writes. Raises ValueError where they are against its rules."""
    check_name(server)
    if not 0 <= seen < to <= _MAX_EPOCH:
        raise ValueError(f"the epoch of {server} grows up to {_MAX_EPOCH}, and cannot go from {seen} to {to}")
    return ServerRecord(to, clock.now_ms(), _printable(reason[:MAX_REASON]), _author())


def _author() -> str:
    # Asked each time: a change is rare, and a child after a fork is another.
    pid = f":{os.getpid()}"
    return socket.gethostname()[: MAX_BY - len(pid)].encode("ascii", "replace").decode() + pid


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
