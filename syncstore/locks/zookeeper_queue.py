"""The queue of one lock in ZooKeeper: where it is, how its nodes are called, and whom one of them waits for.

A lock is a directory, `/locks/<2 hex>/<uid>-<collection>`, and each who wants it has a node there, `<uuid>-w-<number>`
to write and `<uuid>-r-<number>` to read. ZooKeeper counts the numbers up while the directory is there; a new directory
begins at 0 again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple
from urllib.parse import quote
from zlib import crc32

from syncstore.locks.api import Key, Mode

ROOT: Final = "/locks"

FIRST: Final = 0
"""The number of the first node that a directory ever had: nobody can be before it."""

_NODE = re.compile(r"([0-9a-f]{32})-([rw])-([0-9]{10})", re.ASCII)


class Waiting(NamedTuple):
    """One node of a queue."""

    number: int
    name: str
    mode: Mode
    call: str


def directory_of(key: Key) -> str:
    """The path of a lock's queue. It is in one of 256 folders, so that none has more children than fit an answer."""
    uid, collection = key
    name = f"{uid}-{quote(collection, safe='')}"
    return f"{ROOT}/{crc32(name.encode()) & 0xFF:02x}/{name}"


def prefix_of(call: str, mode: Mode) -> str:
    """How the node of one call is named, before its number. `call` is 32 hexadecimal digits that no other call has."""
    return f"{call}-{'w' if mode == 'write' else 'r'}-"


def number_of(name: str) -> int:
    """The number in a node's name, whatever stands before it."""
    return int(name[-10:])


def queue(names: Iterable[str]) -> list[Waiting]:
    """Those who want the lock, the first one first. What is no node of ours is not among them."""
    found = []
    for name in names:
        match = _NODE.fullmatch(name)
        if match is not None:
            mode: Mode = "write" if match[2] == "w" else "read"
            found.append(Waiting(int(match[3]), name, mode, match[1]))
    return sorted(found)


def nearest_before(names: Iterable[str], number: int, mode: Mode, given_up: Collection[str]) -> str | None:
    """The node that the one with this number waits for; None when it has the lock.

    A writer waits for whoever is next before it, a reader for the next writer: so one node's end wakes those alone
    who wait for it. Calls that were `given_up` are in nobody's way here; their nodes are being removed.
    """
    before = [
        one
        for one in queue(names)
        if one.number < number and (mode == "write" or one.mode == "write") and one.call not in given_up
    ]
    return before[-1].name if before else None
