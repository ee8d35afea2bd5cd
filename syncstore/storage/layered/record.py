"""The metadata record: all times of one user in one cached value, and its codec. Pure; it asks nobody.

An entry is a collection's time, or a mark: a writer was about to commit, and only SQL knows what became of it. In
a complete record a collection that has no entry does not exist; in another one nothing is known of it. The
storage's time is a field of its own and not the greatest of the entries, which deletions take away
(coherence.md, V24). Nothing outside this module knows the layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec

from syncstore.storage.durable import Being, KeptTime, Times

_VERSION: Final = 1
# One byte instead of a name for what clients have; append only, never reorder.
_NAMES: Final = (
    *("clients", "crypto", "forms", "history", "keys", "meta", "bookmarks", "prefs", "tabs", "passwords"),
    *("addons", "addresses", "creditcards"),
)
_BY_NUMBER: Final = dict(enumerate(_NAMES))
_NUMBERS: Final[dict[str, int | str]] = {name: number for number, name in _BY_NUMBER.items()}

Mark = bytes
"""8 random bytes, new for every attempt to write (coherence.md, V34)."""

Entry = int | KeptTime | Mark
"""A collection's time in ticks; the kept time of a cached-only one that is gone; or a writer's mark."""

_Key = Annotated[int, msgspec.Meta(ge=0, lt=len(_NAMES))] | str


class Record(msgspec.Struct, array_like=True, frozen=True):
    """What the cache knows of one user's times, as it is encoded but for the header.

    Times are told as their distance from `base`, which stays what it was when the record was filled: one to five
    bytes each, and who marks or publishes one entry leaves the others as they are. `ahead` is how far the storage's
    time is after `base`, None while it is not known; entries say how far they are before it.
    """

    complete: bool
    base: int
    ahead: int | None
    told: dict[_Key, int | tuple[int, Being] | bytes]

    @property
    def storage(self) -> int | None:
        """The storage's time; to be told to clients only when no entry is a mark."""
        return None if self.ahead is None else self.base + self.ahead

    def entry(self, collection: str) -> Entry | None:
        """What is known of one collection: None is nothing, or in a complete record that it does not exist."""
        told = self.told.get(_NUMBERS.get(collection, collection))
        return None if told is None else self._entry(told)

    @property
    def entries(self) -> dict[str, Entry]:
        """All entries by name."""
        return {_name(key): self._entry(told) for key, told in self.told.items()}

    def _entry(self, told: int | tuple[int, Being] | bytes) -> Entry:
        if isinstance(told, int):
            return self.base - told
        return told if isinstance(told, bytes) else KeptTime(self.base - told[0], told[1])

    def times(self) -> Times | None:
        """All times, if every one is known: `kept` has those of collections that are gone."""
        if not self.complete or self.ahead is None:
            return None
        base, names = self.base, _BY_NUMBER
        times: dict[str, int] = {}
        gone: dict[str, KeptTime] = {}
        for key, told in self.told.items():
            name = names[key] if isinstance(key, int) else key
            if isinstance(told, int):
                times[name] = base - told
            elif isinstance(told, bytes):
                return None
            else:
                gone[name] = KeptTime(base - told[0], told[1])
        return Times(base + self.ahead, times, gone)

    def marked(self, collection: str, mark: Mark) -> Record:
        """The same with a mark for one collection, whatever was there: a foreign mark, too (V13)."""
        told = {**self.told, _NUMBERS.get(collection, collection): mark}
        return Record(self.complete, self.base, self.ahead, told)

    def published(self, collection: str, entry: Entry | None, time: int) -> Record:
        """The same after a commit at `time`: the new entry, None when the collection was deleted."""
        key = _NUMBERS.get(collection, collection)
        told = {**self.told}
        if entry is None:
            told.pop(key, None)
        else:
            told[key] = _tell(entry, self.base)
        ahead = time - self.base
        return Record(self.complete, self.base, ahead if self.ahead is None else max(self.ahead, ahead), told)


def _name(key: int | str) -> str:
    return _BY_NUMBER[key] if isinstance(key, int) else key


def _tell(entry: Entry, base: int) -> int | tuple[int, Being] | bytes:
    if isinstance(entry, KeptTime):
        return base - entry.time, entry.being
    return base - entry if isinstance(entry, int) else entry


def record(*, complete: bool, storage: int | None, entries: Mapping[str, Entry]) -> Record:
    """A record of what is known; `storage` is None while that time is not."""
    base = storage or 0
    told = {_NUMBERS.get(name, name): _tell(entry, base) for name, entry in entries.items()}
    return Record(complete, base, None if storage is None else 0, told)


EMPTY: Final = record(complete=False, storage=None, entries={})
"""A record that knows nothing: a placeholder, or what cannot be read."""


def record_of(times: Times, cached_only: Iterable[str]) -> Record:
    """The complete record of all times that SQL has."""
    entries: dict[str, Entry] = dict(times.collections)
    for name in cached_only:
        entries.pop(name, None)
        kept = times.kept.get(name)
        if kept is not None:
            entries[name] = kept.time if kept.being is Being.LIVE else kept
    return record(complete=True, storage=times.modified, entries=entries)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Codec:
    """Records as cached values. `kinds` is a number for the configuration under which they are right."""

    def __init__(self, kinds: int) -> None:
        self._header = bytes([_VERSION]) + (kinds & 0xFFFFFFFF).to_bytes(4, "big")

    def encode(self, known: Record) -> bytes:
        """The cached value."""
        return self._header + _encode(known)

    def decode(self, value: bytes) -> Record:
        """The record in a cached value; EMPTY for a placeholder and for whatever is not ours, damaged or newer.

        So a value that cannot be read is a miss, and is replaced by the next one that is stored over it.
        """
        if value[:5] != self._header:
            return EMPTY
        try:
            return _decode(memoryview(value)[5:])
        except msgspec.MsgspecError:
            return EMPTY
