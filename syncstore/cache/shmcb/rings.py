"""The sub-caches of a mapped file: in each an index ring, a data ring, and buckets that find the way into them.

    state      dirty mark, incarnation, last number, first place, places used, data end, data used, live items
    bucket     the place of the last item of its hash, plus one; 0 for none
    place      hash, number, expires, where its data is; sizes; checksums; whether it is dead; next of its bucket

New items go behind the youngest, in the index and in the data; the oldest make room. What is replaced or removed in
between is dead until it is the oldest. An item's data is its key and its value, and may go over the end of the ring.

Everything here is called in a turn (`turns`), so nobody sees a change half made but after a kill. For that there is the
dirty mark, set before the first byte of a change and taken away after the last one: the stores of a processor that is
stopped at some instruction are those before it, and the next turn's lock comes after them. Who finds the mark empties
the sub-cache. Its incarnation is a new one then, so a token of before fits nothing.

A checksum stands beside all that is handed out, the key and the facts of an item in one, the value in another. Where
one is wrong, or a place is none, all of the sub-cache is in doubt (Damaged), and `empty` is called.
"""

from __future__ import annotations

import mmap
import secrets
import struct
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import crc32

from syncstore.cache.api import Item, Token
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
STORES, REPLACED, EXPIRED, SCROLLED, HITS, MISSES, REMOVE_HITS, REMOVE_MISSES, INTERRUPTED, DAMAGED = range(
    10
)

_COUNTERS_AT: Final = 256 // 8  # in words of 8 bytes

_STATE = struct.Struct("@8Q")
_MOVING = struct.Struct("@6Q")  # of the state, what a store changes: from the last number on
_MOVING_AT: Final = 16
_PLACE = struct.Struct("@QQdIIIHHII")
_FACTS_SIZE: Final = 38  # of a place, what never changes: all before the dead mark
_DEAD_AT, _CHECKSUM_AT, _NEXT_AT = 38, 40, 44
_HASH, _EXPIRES, _VALUE_SIZE, _KEY_SIZE, _DEAD = 0, 2, 4, 6, 7  # of what is unpacked
# Words of the state.
_INCARNATION, _FIRST, _USED_PLACES, _USED_DATA, _LIVE = 1, 3, 4, 6, 7


class Damaged(Exception):
    """Bytes of the sub-cache at `base` are not those that were written."""

    def __init__(self, base: int) -> None:
        super().__init__(base)
        self.base = base


class Spot(NamedTuple):
    """Where a key is, or would be: its sub-cache at `base`, its `hash`, and its `place` in the index, from 1 on.

    0 is none. What has expired has a place, and is not `live`.
    """

    base: int
    hash: int
    place: int = 0
    live: bool = False
    number: int = 0
    expires: float = 0.0
    value_at: int = 0
    value_size: int = 0
    checksum: int = 0


def new_state() -> bytes:
    """The state of an empty sub-cache."""
    return _STATE.pack(0, secrets.randbits(64), 0, 0, 0, 0, 0, 0)


class Rings:
    """All sub-caches of a mapped file, and the counters. `bases` are where they begin."""

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

    def count(self, counter: int, more: int = 1) -> None:
        """Count what happened."""
        self._words[_COUNTERS_AT + counter] += more

    def counters(self) -> dict[str, int]:
        """All counters, by their names."""
        return {name: self._words[_COUNTERS_AT + number] for number, name in enumerate(COUNTERS)}

    def items(self, base: int) -> int:
        """How many items a sub-cache holds, expired ones among them."""
        return self._words[base // 8 + _LIVE]

    def used(self, base: int) -> int:
        """Bytes of the data ring between its oldest and its youngest item, dead ones among them."""
        return self._words[base // 8 + _USED_DATA]

    def recover(self, base: int) -> None:
        """Empty a sub-cache whose last change was not ended. Before anything is done with it, it must be asked for."""
        if self._words[base // 8]:
            self.empty(base, INTERRUPTED)

    def look(self, key: bytes, now: float) -> Spot:
        """Where a key is at `now`, in seconds since the epoch. Raises Damaged."""
        digest = int.from_bytes(blake2b(key, digest_size=8, salt=self._salt).digest(), "little")
        base = HEADER_SIZE + digest % self._count * self._size
        self.recover(base)
        place = self._halves[self._bucket(base, digest)]
        for _ in range(self._places):
            if not place:
                return Spot(base, digest)
            at = self._at(base, place)
            found, number, expires, data_at, size, value_check, key_size, _, check, after = (
                _PLACE.unpack_from(self._map, at)
            )
            if found == digest and key_size == len(key) and self._read(base, data_at, key_size) == key:
                if crc32(key, crc32(self._map[at : at + _FACTS_SIZE])) != check:
                    raise Damaged(base)
                live = not 0 < expires <= now
                return Spot(base, digest, place, live, number, expires, data_at + key_size, size, value_check)
            place = after
        raise Damaged(base)

    def token(self, spot: Spot) -> Token:
        """The token of what is there."""
        return Token(self._words[spot.base // 8 + _INCARNATION], spot.number)

    def item(self, spot: Spot) -> Item:
        """What is there. Raises Damaged."""
        value = self._read(spot.base, spot.value_at, spot.value_size)
        if crc32(value) != spot.checksum:
            raise Damaged(spot.base)
        return Item(value, self.token(spot), spot.expires)

    def put(self, spot: Spot, key: bytes, value: bytes, expires: float, now: float) -> Token:
        """Store a value under the key of a spot, over whatever is there: its token. Raises Damaged.

        Both must fit into a data ring (see Geometry.limits).
        """
        base = spot.base
        mark = base // 8
        self._words[mark] = 1
        if spot.place:
            self._kill(base, spot.place, spot.hash)
            self.count(REPLACED if spot.live else EXPIRED)
        self._make_room(base, len(key) + len(value), now)
        number = self._append(base, spot.hash, key, value, expires)
        self.count(STORES)
        self._words[mark] = 0
        return Token(self._words[mark + _INCARNATION], number)

    def remove(self, spot: Spot) -> None:
        """Remove what is there. Raises Damaged."""
        mark = spot.base // 8
        self._words[mark] = 1
        self._kill(spot.base, spot.place, spot.hash)
        self._words[mark] = 0

    def cull(self, base: int, now: float, limit: int) -> int:
        """Remove up to `limit` items of a sub-cache that had expired at `now`; how many. Raises Damaged."""
        mark = base // 8
        culled = 0
        for place in self._in_use(base):
            if culled == limit:
                break
            facts = _PLACE.unpack_from(self._map, self._at(base, place))
            if not facts[_DEAD] and 0 < facts[_EXPIRES] <= now:
                self._words[mark] = 1
                self._kill(base, place, facts[_HASH])
                self.count(EXPIRED)
                culled += 1
        self._words[mark] = 0
        return culled

    def listed(self, base: int, now: float) -> list[tuple[bytes, Item]]:
        """All live items of a sub-cache with their keys, the oldest first. Raises Damaged."""
        found = []
        for place in self._in_use(base):
            at = self._at(base, place)
            digest, number, expires, data_at, size, value_check, key_size, dead, check, _ = (
                _PLACE.unpack_from(self._map, at)
            )
            if dead or 0 < expires <= now:
                continue
            key = self._read(base, data_at, key_size)
            if crc32(key, crc32(self._map[at : at + _FACTS_SIZE])) != check:
                raise Damaged(base)
            spot = Spot(base, digest, place, True, number, expires, data_at + key_size, size, value_check)
            found.append((key, self.item(spot)))
        return found

    def empty(self, base: int, reason: int) -> None:
        """Begin a sub-cache anew, under another incarnation. `reason` is the counter of such."""
        mark = base // 8
        self._words[mark] = 1
        state = new_state()
        self._map[base + STATE_SIZE : base + self._index_at] = bytes(self._index_at - STATE_SIZE)
        self._map[base + 8 : base + STATE_SIZE] = state[8:]
        self.count(reason)
        self._words[mark] = 0

    def _make_room(self, base: int, size: int, now: float) -> None:
        """Let the oldest go until there is room for one more with `size` bytes, and then those that are nothing."""
        words, state = self._words, base // 8
        first, used_places, used = (
            words[state + _FIRST],
            words[state + _USED_PLACES],
            words[state + _USED_DATA],
        )
        if first >= self._places or used_places > self._places or used > self._data:
            raise Damaged(base)
        while used_places:
            facts = _PLACE.unpack_from(self._map, self._at(base, first + 1))
            if not facts[_DEAD]:
                if 0 < facts[_EXPIRES] <= now:
                    self.count(EXPIRED)
                elif used_places < self._places and used + size <= self._data:
                    break
                else:
                    self.count(SCROLLED)
                self._kill(base, first + 1, facts[_HASH])
            used -= facts[_KEY_SIZE] + facts[_VALUE_SIZE]
            if used < 0:
                raise Damaged(base)
            first = (first + 1) % self._places
            used_places -= 1
        words[state + _FIRST], words[state + _USED_PLACES], words[state + _USED_DATA] = (
            first,
            used_places,
            used,
        )

    def _append(self, base: int, digest: int, key: bytes, value: bytes, expires: float) -> int:
        """Put an item behind the youngest, where there is room: its number."""
        number: int
        number, first, used_places, end, used, live = _MOVING.unpack_from(self._map, base + _MOVING_AT)
        size = len(key) + len(value)
        number += 1
        place = (first + used_places) % self._places + 1
        at = self._at(base, place)
        bucket = self._bucket(base, digest)
        self._write(base, end, key)
        self._write(base, end + len(key), value)
        after = self._halves[bucket]
        _PLACE.pack_into(
            self._map, at, digest, number, expires, end, len(value), crc32(value), len(key), 0, 0, after
        )
        self._halves[(at + _CHECKSUM_AT) // 4] = crc32(key, crc32(self._map[at : at + _FACTS_SIZE]))
        self._halves[bucket] = place
        end = (end + size) % self._data
        _MOVING.pack_into(
            self._map, base + _MOVING_AT, number, first, used_places + 1, end, used + size, live + 1
        )
        return number

    def _kill(self, base: int, place: int, digest: int) -> None:
        """Take an item out of its bucket. Its place and its data stay until they are the oldest."""
        halves = self._halves
        here = self._bucket(base, digest)
        for _ in range(self._places):
            next_place = halves[here]
            if not next_place:
                break
            after = (self._at(base, next_place) + _NEXT_AT) // 4
            if next_place == place:
                halves[here] = halves[after]
                self._map[after * 4 - _NEXT_AT + _DEAD_AT] = 1
                self._words[base // 8 + _LIVE] -= 1
                return
            here = after
        raise Damaged(base)

    def _in_use(self, base: int) -> Iterator[int]:
        """The places between the oldest and the youngest, dead ones among them."""
        first, used_places = self._words[base // 8 + _FIRST], self._words[base // 8 + _USED_PLACES]
        if first >= self._places or used_places > self._places:
            raise Damaged(base)
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
