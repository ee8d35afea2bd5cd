"""The metadata record: all times of one user in one cached value, and its codec. Pure; it asks nobody.

An entry is a collection's time, or a mark: a writer was about to commit, and only SQL knows what became of it. In
a complete record a collection that has no entry does not exist; in another one nothing is known of it. The
storage's time is a field of its own and not the greatest of the entries, which deletions take away
(coherence.md, V24). Nothing outside this module knows the layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from syncstore.storage.durable import Being, KeptTime, Times

_VERSION: Final = 1
# One byte instead of a name for what clients have; append only, never reorder.
_NAMES: Final = (
    *("clients", "crypto", "forms", "history", "keys", "meta", "bookmarks", "prefs", "tabs", "passwords"),
    *("addons", "addresses", "creditcards"),
)
_BY_NUMBER: Final = dict(enumerate(_NAMES))
_NUMBERS: Final = {name: number for number, name in _BY_NUMBER.items()}

Mark = bytes
"""8 random bytes, new for every attempt to write (coherence.md, V34)."""

Entry = int | KeptTime | Mark
"""A collection's time in ticks; the kept time of a cached-only one that is gone; or a writer's mark."""


class _Layout(msgspec.Struct, array_like=True):
    """Times as their distance from `base`, the storage's time or 0: one to five bytes each."""

    version: int
    kinds: int
    complete: bool
    storage: int | None
    entries: dict[int | str, int | tuple[int, int] | bytes]


_decode = msgspec.msgpack.Decoder(_Layout).decode
_encode = msgspec.msgpack.Encoder().encode


class Record(msgspec.Struct, frozen=True):
    """What the cache knows of one user's times. `storage` is None while it is not known."""

    complete: bool
    storage: int | None
    entries: Mapping[str, Entry]

    def times(self) -> Times | None:
        """All times, if every one is known: `kept` has those of collections that are gone."""
        if not self.complete or self.storage is None:
            return None
        times: dict[str, int] = {}
        gone: dict[str, KeptTime] = {}
        for name, entry in self.entries.items():
            if type(entry) is int:
                times[name] = entry
            elif type(entry) is bytes:
                return None
            else:
                gone[name] = entry  # type: ignore[assignment]  # the only kind that is left
        return Times(self.storage, times, gone)

    def marked(self, collection: str, mark: Mark) -> Record:
        """The same with a mark for one collection, whatever was there: a foreign mark, too (V13)."""
        return Record(self.complete, self.storage, {**self.entries, collection: mark})

    def published(self, collection: str, entry: Entry | None, time: int) -> Record:
        """The same after a commit at `time`: the new entry, None when the collection was deleted."""
        entries = {**self.entries}
        if entry is None:
            entries.pop(collection, None)
        else:
            entries[collection] = entry
        return Record(self.complete, time if self.storage is None else max(self.storage, time), entries)


EMPTY: Final = Record(complete=False, storage=None, entries={})
"""A record that knows nothing: a placeholder, or what cannot be read."""


def record_of(times: Times, cached_only: Iterable[str]) -> Record:
    """The complete record of all times that SQL has."""
    entries: dict[str, Entry] = dict(times.collections)
    for name in cached_only:
        entries.pop(name, None)
        kept = times.kept.get(name)
        if kept is not None:
            entries[name] = kept.time if kept.being is Being.LIVE else kept
    return Record(complete=True, storage=times.modified, entries=entries)


def encode(record: Record, kinds: int) -> bytes:
    """The cached value. `kinds` is a number for the configuration under which it is right."""
    base = record.storage or 0
    entries: dict[int | str, int | tuple[int, int] | bytes] = {}
    for name, entry in record.entries.items():
        key = _NUMBERS.get(name, name)
        if isinstance(entry, KeptTime):
            entries[key] = (base - entry.time, int(entry.being))
        else:
            entries[key] = base - entry if isinstance(entry, int) else entry
    return _encode(_Layout(_VERSION, kinds, record.complete, record.storage, entries))


def decode(value: bytes, kinds: int) -> Record:
    """The record in a cached value; EMPTY for a placeholder and for whatever is not ours, damaged or newer.

    So a value that cannot be read is a miss, and is replaced by the next one that is stored over it.
    """
    if not value:
        return EMPTY
    try:
        layout = _decode(value)
        if layout.version != _VERSION or layout.kinds != kinds:
            return EMPTY
        base = layout.storage or 0
        entries: dict[str, Entry] = {}
        for key, told in layout.entries.items():
            name = _BY_NUMBER[key] if type(key) is int else key
            if type(told) is int:
                entries[name] = base - told  # type: ignore[index]  # a name by now
            elif type(told) is bytes:
                entries[name] = told  # type: ignore[index]  # as above
            else:
                entries[name] = KeptTime(base - told[0], Being(told[1]))  # type: ignore[index]  # as above
    except (msgspec.MsgspecError, KeyError, ValueError):
        return EMPTY
    return Record(layout.complete, layout.storage, entries)
