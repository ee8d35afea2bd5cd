"""A new cache that is filled from an old one, for as long as it takes to move (see `cache.api.Provider`).

What the new one misses is looked up in the old one, and stored in the new one over a reservation that was made before:
so a value that somebody changes meanwhile is not overtaken by what it was. Every change goes to the new one, and
takes away what the old one has, and is confirmed by both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from syncstore.cache.api import (
    BackendError,
    BackendUnavailable,
    Change,
    Expect,
    Features,
    Item,
    Limits,
    NotFound,
    Outcome,
    Provider,
    Remove,
    Store,
    Token,
)
from syncstore.clock import Clock

LONGEST: Final = 300.0
"""Seconds for which a value that came from the old cache lives in the new one."""

_RESERVE: Final = 30.0


class WarmingCache:
    """`new`, which the values of `old` come into as they are asked for."""

    def __init__(self, new: Provider, old: Provider, clock: Clock) -> None:
        self._new = new
        self._old = old
        self._clock = clock

    @property
    def name(self) -> str:
        """The new cache's (see Provider)."""
        return self._new.name

    @property
    def features(self) -> Features:
        """The new cache's (see Provider)."""
        return self._new.features

    @property
    def limits(self) -> Limits:
        """The new cache's (see Provider)."""
        return self._new.limits

    def retrieve(self, key: bytes) -> Item:
        """The value of a key, from the old cache if the new one misses it (see Provider)."""
        found = self.fetch((key,))[0]
        if found is None:
            raise NotFound(key)
        return found

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys (see Provider). What comes from the old cache has the new one's token.

        The old cache is not waited for in vain: when it is away, a miss is a miss.
        """
        found = self._new.fetch(keys, reserve=reserve or _RESERVE)
        missing = [number for number, item in enumerate(found) if item is None or not item.value]
        if missing:
            old = self._look([keys[number] for number in missing])
            for number, item in zip(missing, old, strict=True):
                mine = found[number]
                found[number] = mine if reserve else None
                if item is not None and mine is not None:
                    found[number] = self._warm(keys[number], item, mine.token)
        return found

    def _look(self, keys: Sequence[bytes]) -> list[Item | None]:
        try:
            return self._old.fetch(keys)
        except BackendError:
            return [None] * len(keys)

    def _warm(self, key: bytes, item: Item, over: Token) -> Item:
        now = self._clock.seconds()
        expires = min(item.expires or now + LONGEST, now + LONGEST)
        try:
            token = self._new.store(key, item.value, expires, expect=over)
        except BackendError:
            token = over  # somebody has changed it meanwhile: what was read was right when it was
        return Item(item.value, token, item.expires)

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        """Store in the new cache, and forget in the old one (see Provider)."""
        token = self._new.store(key, value, expires, expect=expect)
        self._forget(key)
        return token

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove from both (see Provider): found when it was in either."""
        found = True
        try:
            self._new.remove(key, expect=expect)
        except NotFound:
            found = False
        if not self._forget(key) and not found:
            raise NotFound(key)

    def _forget(self, key: bytes) -> bool:
        """Take a key from the old cache; whether it had it. Raises BackendUnavailable: it would be old from now on."""
        try:
            self._old.remove(key)
        except NotFound:
            return False
        return True

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Several changes, one after the other (see Provider)."""
        outcomes: list[Outcome] = []
        for change in changes:
            try:
                outcomes.append(self._made(change))
            except BackendUnavailable:
                raise
            except (BackendError, NotFound) as refusal:
                outcomes.append(refusal)
        return outcomes

    def _made(self, change: Change) -> Token | None:
        if isinstance(change, Store):
            return self.store(change.key, change.value, change.expires, expect=change.expect)
        self.remove(change.key, expect=change.expect)
        return None

    def change_later(self, changes: Sequence[Change]) -> None:
        """Changes of the new cache that nobody waits for, and of the old one, too (see Provider)."""
        self._new.change_later(changes)
        self._old.change_later([Remove(change.key) for change in changes])

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """What the new cache has (see Provider)."""
        return self._new.iterate()

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """In the new cache (see Provider)."""
        return self._new.cull(now, limit)

    def status(self) -> Mapping[str, int | float | str]:
        """The new cache's (see Provider)."""
        return self._new.status()

    def close(self) -> None:
        """Close both."""
        self._new.close()
        self._old.close()
