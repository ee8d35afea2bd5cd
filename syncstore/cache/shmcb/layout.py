"""The memory of the sub-caches, word by word: where things are in a mapped file, and how they are read and written.

    state      dirty mark, incarnation, last number, first place, places used, data end, data used, live items, and
               their data
    bucket     the place of the last item of its hash, plus one; 0 for none
    place      hash, number, expires, where its data is; sizes; checksums; whether it is dead; next of its bucket

What `rings` does with it is decided there. All that is read here is only looked at, and may be any bytes: a number that
leads out of its sub-cache is Damaged.
"""

from __future__ import annotations

import mmap
import secrets
import struct
from collections.abc import Iterator
from typing import Final

from syncstore.cache.shmcb.geometry import HEADER_SIZE, PLACE_SIZE, STATE_SIZE, Geometry

COUNTERS: Final = (
    "stores",
    "replaced",
    "expired",
    "scrolled",
    "retrieve_hits",
    "retrieve_misses",
    "remove_hits",
    "remove_misses",
    "interrupted",
    "damaged",
)
"""What is counted in the file, by all processes: the last two are how often a sub-cache was emptied, and why."""
STORES, REPLACED, EXPIRED, SCROLLED, HITS, MISSES = range(6)
REMOVE_HITS, REMOVE_MISSES, INTERRUPTED, DAMAGED = range(6, 10)

_COUNTERS_AT: Final = 256 // 8  # in words of 8 bytes

_STATE = struct.Struct("@9Q")
MOVING = struct.Struct("@7Q")  # of the state, what a store changes: from the last number on
MOVING_AT: Final = 16
PLACE = struct.Struct("@QQdIIIHHII")
FACTS_SIZE: Final = 38  # of a place, what never changes: all before the dead mark
DEAD_AT, CHECKSUM_AT, NEXT_AT = 38, 40, 44
# Of what is unpacked of a place.
HASH, EXPIRES, DATA_AT, VALUE_SIZE, KEY_SIZE, DEAD, CHECKSUM = 0, 2, 3, 4, 6, 7, 8
# Words of the state.
INCARNATION, NUMBER, FIRST, USED_PLACES, USED_DATA, LIVE, LIVE_DATA = 1, 2, 3, 4, 6, 7, 8


class Damaged(Exception):
    """Bytes of the sub-cache at `base` are not those that were written."""

    def __init__(self, base: int) -> None:
        super().__init__(base)
        self.base = base


def new_state() -> bytes:
    """The state of an empty sub-cache."""
    return _STATE.pack(0, secrets.randbits(64), 0, 0, 0, 0, 0, 0, 0)


class Layout:
    """The sub-caches of a mapped file, and the counters. `bases` are where they begin."""

    def __init__(self, mapped: mmap.mmap, geometry: Geometry, salt: bytes) -> None:
        self._map = mapped
        self._salt = salt
        words = memoryview(mapped)[: geometry.size // 8 * 8]
        self._words = words.cast("Q")
        self._halves = words.cast("I")
        self._count = geometry.sub_caches
        self._size = geometry.sub_size
        self._places = geometry.places
        self._index_at = geometry.index_at
        self._data_at = geometry.data_at
        self._data = geometry.data
        self.bases = range(
            HEADER_SIZE, HEADER_SIZE + geometry.sub_caches * geometry.sub_size, geometry.sub_size
        )

    def close(self) -> None:
        """Let go of the mapping."""
        self._words.release()
        self._halves.release()

    def count(self, counter: int) -> None:
        """Count what happened."""
        self._words[_COUNTERS_AT + counter] += 1

    def counters(self) -> dict[str, int]:
        """All counters, by their names."""
        return {name: self._words[_COUNTERS_AT + number] for number, name in enumerate(COUNTERS)}

    def items(self, base: int) -> int:
        """How many items a sub-cache holds, expired ones among them."""
        return self._words[base // 8 + LIVE]

    def used(self, base: int) -> int:
        """Bytes of the data ring between its oldest and its youngest item, dead ones among them."""
        return self._words[base // 8 + USED_DATA]

    def _check(self, base: int) -> None:
        """Raise Damaged for a state that cannot be."""
        _, first, used_places, end, used, live, live_data = MOVING.unpack_from(self._map, base + MOVING_AT)
        if (
            first >= self._places
            or end >= self._data
            or not live_data <= used <= self._data
            or not live <= used_places <= self._places
        ):
            raise Damaged(base)

    def _in_use(self, base: int) -> Iterator[int]:
        """The places between the oldest and the youngest, dead ones among them."""
        self._check(base)
        first, used_places = self._words[base // 8 + FIRST], self._words[base // 8 + USED_PLACES]
        for number in range(first, first + used_places):
            yield number % self._places + 1

    def _bucket(self, base: int, digest: int) -> int:
        """Where the bucket of a hash is, in halves of a word."""
        return (base + STATE_SIZE) // 4 + (digest >> 16) % self._places

    def _at(self, base: int, place: int) -> int:
        """Where a place is."""
        if place > self._places:
            raise Damaged(base)
        return base + self._index_at + (place - 1) * PLACE_SIZE

    def _read(self, base: int, start: int, size: int) -> bytes:
        """So many bytes of the data ring, from `start` on, which may go over its end."""
        start %= self._data
        end = start + size
        data = base + self._data_at
        if end <= self._data:
            return self._map[data + start : data + end]
        if size > self._data:
            raise Damaged(base)
        return self._map[data + start : data + self._data] + self._map[data : data + end - self._data]

    def _write(self, base: int, start: int, written: bytes) -> None:
        start %= self._data
        end = start + len(written)
        data = base + self._data_at
        if end <= self._data:
            self._map[data + start : data + end] = written
        else:
            size = self._data - start
            self._map[data + start : data + self._data] = written[:size]
            self._map[data : data + end - self._data] = written[size:]
