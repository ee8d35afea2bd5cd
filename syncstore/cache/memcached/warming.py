"""A new cache that is filled from an old one, for as long as it takes to move (see `cache.api.Provider`).

What the new one misses is looked up in the old one, and moved under a mark that was put into its place before: so a
value that somebody changes meanwhile is not overtaken by what it was. Every change takes away what the old one has,
before the new one is changed: so nothing that was removed or replaced comes back, whoever dies in between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

from syncstore.cache.api import (
    ABSENT,
    BackendError,
    BackendUnavailable,
    BadKey,
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
    check_expiry,
)
from syncstore.clock import Clock

LONGEST: Final = 300.0
"""Seconds for which a value that came from the old cache lives in the new one."""

_MOVING: Final = (
    b"syncstore:moving:\x00\xf7\x9b\xe2"  # in the place of a value that is on its way: nobody's value
)
_MOVE: Final = 30.0  # seconds, longer than a move takes
_NO_TOKEN: Final = Token("nowhere", 0)  # of what is not in the new cache: whoever expects it is refused


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
        found = self._new.fetch(keys, reserve=reserve)
        # An empty value may be somebody's reservation; whoever stored one took the old one away.
        missing = [
            number for number, item in enumerate(found) if item is None or item.value in (b"", _MOVING)
        ]
        if missing:
            old = self._look([keys[number] for number in missing])
            for number, item in zip(missing, old, strict=True):
                seen = found[number]
                if item is not None:
                    found[number] = self._move(keys[number], seen, item)
                elif (
                    seen is not None and seen.value == _MOVING
                ):  # somebody has just begun to move what is gone by now
                    found[number] = Item(b"", seen.token, seen.expires) if reserve else None
        return found

    def _look(self, keys: Sequence[bytes]) -> list[Item | None]:
        try:
            return self._old.fetch(keys)
        except BackendError:
            return [None] * len(keys)

    def _move(self, key: bytes, seen: Item | None, item: Item) -> Item | None:
        """Put what the old cache has into the new one, over what was `seen` there before the old one was asked."""
        if seen is None:
            try:
                mark = self._new.store(key, _MOVING, self._clock.seconds() + _MOVE, expect=ABSENT)
            except BackendError:
                return item._replace(
                    token=_NO_TOKEN
                )  # somebody changes it, or moves it: it was right when it was read
            again = self._look((key,))[0]  # what was read before the mark may have been taken away since
            if again is None:
                self._give_up(key, mark)
                return None
            seen, item = Item(_MOVING, mark), again
        now = self._clock.seconds()
        expires = min(item.expires or now + LONGEST, now + LONGEST)
        try:
            token = self._new.store(key, item.value, expires, expect=seen.token)
        except (BackendError, ValueError):
            token = _NO_TOKEN
        return item._replace(token=token)

    def _give_up(self, key: bytes, mark: Token) -> None:
        try:
            self._new.remove(key, expect=mark)
        except (BackendError, NotFound):
            return  # somebody has changed it meanwhile

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        """Forget in the old cache, and store in the new one (see Provider)."""
        self._check((Store(key, value, expires),))
        self._prepare(key, expect)
        return self._new.store(key, value, expires, expect=expect)

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove from both (see Provider): found when it was in either."""
        found = self._prepare(key, expect)
        try:
            self._new.remove(key, expect=expect)
        except NotFound:
            if not found:
                raise

    def _check(self, changes: Sequence[Change]) -> None:
        """Raise ValueError for what has expired before: the old cache must not be told of it."""
        check_expiry(changes, self._clock.seconds())

    def _prepare(self, key: bytes, expect: Expect) -> bool:
        """Take a key from the old cache; whether it had it.

        What is expected is expected of the new one, so the value is moved there first.
        """
        if expect is not None:
            self.fetch((key,))
        try:
            self._old.remove(key)
        except (NotFound, BadKey):
            return False
        return True

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Several changes, one after the other (see Provider)."""
        self._check(changes)
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
        """Changes of both that nobody waits for (see Provider), unless they expect something."""
        self._check(changes)
        if any(change.expect is not None for change in changes):
            with suppress(BackendUnavailable):
                self.change(changes)
            return
        self._old.change_later([Remove(change.key) for change in changes])
        self._new.change_later(changes)

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """What the new cache has (see Provider)."""
        return (pair for pair in self._new.iterate() if pair[1].value != _MOVING)

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
