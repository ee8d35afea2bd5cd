"""The record of one lock that is kept by leases: who holds it until when, and its bytes.

A record is never changed, only replaced by compare-and-set over the state that it was read from, so every method
answers a new one. Whoever replaces it leaves out the leases that have ended. A record of nobody is removed.

What cannot be read counts as a record of nobody and is replaced: a value of somebody else, or of a version to
come. Two versions that run side by side may so both hold a lock; the store decides between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from syncstore.locks.api import Mode

_VERSION = b"L\x01"
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]  # so that one more still fits into the bytes


class Lease(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One owner's hold, or wait. `until` is in milliseconds since the epoch."""

    owner: int
    until: _Count


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One lock. `generation` grows with every grant. `waiting` is a writer for whom new readers hold back."""

    generation: _Count = 0
    writer: Lease | None = None
    waiting: Lease | None = None
    readers: tuple[Lease, ...] = ()

    @property
    def leases(self) -> list[Lease]:
        """All of them. That of a writer who holds the lock is the only one."""
        return [lease for lease in (self.writer, self.waiting, *self.readers) if lease is not None]

    @property
    def until(self) -> int:
        """When the last lease ends, in milliseconds since the epoch; 0 for a record of nobody."""
        return max((lease.until for lease in self.leases), default=0)

    def holds(self, owner: int) -> bool:
        """Whether this owner has the lock, in either mode."""
        return any(lease is not None and lease.owner == owner for lease in (self.writer, *self.readers))

    def admits(self, mode: Mode) -> bool:
        """Whether the lock can be had. A waiting writer holds back readers, not other writers."""
        if mode == "read":
            return self.writer is None and self.waiting is None
        return self.writer is None and not self.readers

    def only(self, counts: Callable[[Lease], bool]) -> Record:
        """The record with those leases alone that count."""
        return Record(
            self.generation,
            self.writer if self.writer and counts(self.writer) else None,
            self.waiting if self.waiting and counts(self.waiting) else None,
            tuple(filter(counts, self.readers)),
        )

    def granted(self, mode: Mode, lease: Lease, at_least: int) -> Record:
        """The record in which `lease` holds the lock, as it admits it.

        Its generation is the next one, and not below `at_least`. A writer stands in it alone, so that nobody has
        reason to replace it and the cache drops it when the lease ends; another one who waits asks again.
        """
        generation = max(self.generation + 1, at_least)
        if mode == "write":
            return Record(generation, lease)
        return Record(generation, readers=(*self.readers, lease))

    def awaited(self, lease: Lease) -> Record:
        """The record in which `lease` holds back new readers."""
        return Record(self.generation, self.writer, lease, self.readers)

    def without(self, owner: int) -> Record:
        """The record in which this owner neither holds nor waits."""
        return self.only(lambda lease: lease.owner != owner)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """The bytes of a record: some 20 for one owner, 20 for each further one."""
    return _VERSION + _encoder.encode(record)


def decode(value: bytes) -> Record | None:
    """The record of these bytes; None for anything else."""
    if not value.startswith(_VERSION):
        return None
    try:
        return _decoder.decode(memoryview(value)[len(_VERSION) :])
    except msgspec.DecodeError:
        return None
