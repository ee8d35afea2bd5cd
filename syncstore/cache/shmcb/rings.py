"""The sub-caches of a mapped file: in each an index ring, a data ring, and buckets that find the way into them.

New items go behind the youngest, in the index and in the data; the oldest make room. What is replaced or removed in
between is dead until it is the oldest, and much of that lets the live ones before it go behind the youngest. An item's
data is its key and its value, and may go over the end of the ring.

Everything here is called in a turn (`turns`), so nobody sees a change half made but after a kill. For that there is the
dirty mark, set before the first byte of a change and taken away after the last one: the stores of a processor that is
stopped at some instruction are those before it, and the next turn's lock comes after them. Who finds the mark empties
the sub-cache. Its incarnation is a new one then, so a token of before fits nothing.

A checksum stands beside all that is handed out, the key and the facts of an item in one, the value in another. Where
one is wrong, or a place is none, all of the sub-cache is in doubt (Damaged), and `empty` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple
from zlib import crc32

from syncstore.cache.api import Item, Token
from syncstore.cache.shmcb.geometry import HEADER_SIZE, STATE_SIZE
from syncstore.cache.shmcb.layout import (
    CHECKSUM,
    CHECKSUM_AT,
    DATA_AT,
    DEAD,
    DEAD_AT,
    EXPIRED,
    EXPIRES,
    FACTS_SIZE,
    FIRST,
    HASH,
    INCARNATION,
    INTERRUPTED,
    KEY_SIZE,
    LIVE,
    LIVE_DATA,
    MOVING,
    MOVING_AT,
    NEXT_AT,
    NUMBER,
    PLACE,
    REPLACED,
    SCROLLED,
    STORES,
    USED_DATA,
    USED_PLACES,
    VALUE_SIZE,
    Damaged,
    Layout,
    new_state,
)

_MOST_MOVES = 8  # of one store: it is to take microseconds


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


class Rings(Layout):
    """What is done in the sub-caches, each of which is named by where it begins."""

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
            found, number, expires, data_at, size, value_check, key_size, _, check, after = PLACE.unpack_from(
                self._map, at
            )
            if found == digest and key_size == len(key) and self._read(base, data_at, key_size) == key:
                if crc32(key, crc32(self._map[at : at + FACTS_SIZE])) != check:
                    raise Damaged(base)
                live = not 0 < expires <= now
                return Spot(base, digest, place, live, number, expires, data_at + key_size, size, value_check)
            place = after
        raise Damaged(base)

    def token(self, spot: Spot) -> Token:
        """The token of what is there."""
        return Token(self._words[spot.base // 8 + INCARNATION], spot.number)

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
        self._check(base)
        if spot.place:
            self._kill(base, spot.place, spot.hash)
            self.count(REPLACED if spot.live else EXPIRED)
        self._make_room(base, len(key) + len(value), now)
        number = self._words[mark + NUMBER] + 1
        self._append(base, spot.hash, number, expires, key, value, crc32(value))
        self.count(STORES)
        self._words[mark] = 0
        return Token(self._words[mark + INCARNATION], number)

    def remove(self, spot: Spot) -> None:
        """Remove what is there. Raises Damaged."""
        mark = spot.base // 8
        self._words[mark] = 1
        self._check(spot.base)
        self._kill(spot.base, spot.place, spot.hash)
        self._words[mark] = 0

    def cull(self, base: int, now: float, limit: int) -> int:
        """Remove up to `limit` items of a sub-cache that had expired at `now`; how many. Raises Damaged."""
        mark = base // 8
        culled = 0
        for place in self._in_use(base):
            if culled == limit:
                break
            facts = PLACE.unpack_from(self._map, self._at(base, place))
            if not facts[DEAD] and 0 < facts[EXPIRES] <= now:
                self._words[mark] = 1
                self._kill(base, place, facts[HASH])
                self.count(EXPIRED)
                culled += 1
        self._words[mark] = 0
        return culled

    def listed(self, base: int, now: float) -> list[tuple[bytes, Item]]:
        """All live items of a sub-cache with their keys, the oldest first. Raises Damaged."""
        found = []
        for place in self._in_use(base):
            facts = PLACE.unpack_from(self._map, self._at(base, place))
            digest, number, expires, data_at, size, value_check, key_size, dead, *_ = facts
            if dead or 0 < expires <= now:
                continue
            key = self._checked(base, place, facts)
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
        """Let the oldest go until there is room for one more with `size` bytes, and then those that are nothing.

        While much of a ring is dead, by values that were replaced, the oldest go behind the youngest instead: or else
        one key that is stored again and again would drive out all others.
        """
        words, state = self._words, base // 8
        moves = _MOST_MOVES
        while words[state + USED_PLACES]:
            first = words[state + FIRST]
            facts = PLACE.unpack_from(self._map, self._at(base, first + 1))
            moved = None
            if not facts[DEAD]:
                if 0 < facts[EXPIRES] <= now:
                    self.count(EXPIRED)
                elif (
                    words[state + USED_PLACES] < self._places
                    and words[state + USED_DATA] + size <= self._data
                ):
                    break
                elif moves and self._much_is_dead(base, size):
                    moves -= 1
                    moved = self._checked(base, first + 1, facts)
                else:
                    self.count(SCROLLED)
                self._kill(base, first + 1, facts[HASH])
            used = words[state + USED_DATA] - facts[KEY_SIZE] - facts[VALUE_SIZE]
            if used < 0:
                raise Damaged(base)
            words[state + USED_DATA] = used
            words[state + FIRST] = (first + 1) % self._places
            words[state + USED_PLACES] -= 1
            if moved is not None:
                digest, number, expires, start, value_size, value_check, key_size, *_ = facts
                value = self._read(base, start + key_size, value_size)
                self._append(base, digest, number, expires, moved, value, value_check)

    def _much_is_dead(self, base: int, size: int) -> bool:
        """Whether there would be room for `size` bytes more if no more than three quarters of the rings were used."""
        live, live_data = self._words[base // 8 + LIVE], self._words[base // 8 + LIVE_DATA]
        return (live + 1) * 4 <= self._places * 3 and (live_data + size) * 4 <= self._data * 3

    def _append(
        self, base: int, digest: int, number: int, expires: float, key: bytes, value: bytes, value_check: int
    ) -> None:
        """Put an item behind the youngest, where there is room."""
        last, first, used_places, end, used, live, live_data = MOVING.unpack_from(self._map, base + MOVING_AT)
        size = len(key) + len(value)
        place = (first + used_places) % self._places + 1
        at = self._at(base, place)
        bucket = self._bucket(base, digest)
        self._write(base, end, key)
        self._write(base, end + len(key), value)
        after = self._halves[bucket]
        PLACE.pack_into(
            self._map, at, digest, number, expires, end, len(value), value_check, len(key), 0, 0, after
        )
        self._halves[(at + CHECKSUM_AT) // 4] = crc32(key, crc32(self._map[at : at + FACTS_SIZE]))
        self._halves[bucket] = place
        end = (end + size) % self._data
        MOVING.pack_into(
            self._map,
            base + MOVING_AT,
            max(number, last),
            first,
            used_places + 1,
            end,
            used + size,
            live + 1,
            live_data + size,
        )

    def _checked(self, base: int, place: int, facts: Sequence[int]) -> bytes:
        """The key of a place, which must be whole, as the facts must be."""
        at = self._at(base, place)
        key = self._read(base, facts[DATA_AT], facts[KEY_SIZE])
        if crc32(key, crc32(self._map[at : at + FACTS_SIZE])) != facts[CHECKSUM]:
            raise Damaged(base)
        return key

    def _kill(self, base: int, place: int, digest: int) -> None:
        """Take an item out of its bucket. Its place and its data stay until they are the oldest."""
        halves = self._halves
        here = self._bucket(base, digest)
        for _ in range(self._places):
            next_place = halves[here]
            if not next_place:
                break
            after = (self._at(base, next_place) + NEXT_AT) // 4
            if next_place == place:
                halves[here] = halves[after]
                at = after * 4 - NEXT_AT
                self._map[at + DEAD_AT] = 1
                facts = PLACE.unpack_from(self._map, at)
                state = base // 8
                live, data = self._words[state + LIVE], self._words[state + LIVE_DATA]
                size = facts[KEY_SIZE] + facts[VALUE_SIZE]
                if not live or data < size:
                    raise Damaged(base)
                self._words[state + LIVE], self._words[state + LIVE_DATA] = live - 1, data - size
                return
            here = after
        raise Damaged(base)
