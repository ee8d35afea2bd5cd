"""One-key calls by those for several, and the checks before them: for providers that do no better for one key."""

from __future__ import annotations

import math
import secrets
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from syncstore.cache.api import (
    BackendError,
    BadKey,
    Change,
    Expect,
    Item,
    NotFound,
    Outcome,
    Remove,
    Store,
    Token,
    TooLarge,
)

MAX_KEY: Final = 250  # as memcached has it, so that what works here works there
_KEPT: Final = 0.0


class OfSeveral(ABC):
    """A provider that has `fetch` and `change` of its own."""

    @abstractmethod
    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """See Provider."""

    @abstractmethod
    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """See Provider."""

    def retrieve(self, key: bytes) -> Item:
        """The value of a key (see Provider). Raises NotFound, BadKey, BackendUnavailable."""
        item = self.fetch((key,))[0]
        if item is None:
            raise NotFound(key)
        return item

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        """Store a value; the token of the new state (see Provider)."""
        outcome = self.change((Store(key, value, expires, expect),))[0]
        if not isinstance(outcome, Token):
            assert isinstance(outcome, Exception)  # noqa: S101 - for mypy: None is the outcome of removals alone
            raise outcome
        return outcome

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove a key (see Provider)."""
        outcome = self.change((Remove(key, expect),))[0]
        if isinstance(outcome, Exception):
            raise outcome

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same as `change`; the changes are made at once, or not at all."""
        try:
            self.change(changes)
        except BackendError:
            return


def check_fetch(keys: Sequence[bytes], reserve: float) -> None:
    """Raise ValueError, BadKey for what cannot be fetched."""
    if not reserve >= 0:
        raise ValueError(f"a reservation for {reserve} s")
    for key in keys:
        if not 1 <= len(key) <= MAX_KEY:
            raise BadKey(len(key), MAX_KEY)


def refusal(change: Change, max_value: int) -> BadKey | TooLarge | None:
    """What speaks against a change whatever is in the cache."""
    if not 1 <= len(change.key) <= MAX_KEY:
        return BadKey(len(change.key), MAX_KEY)
    if isinstance(change, Store) and len(change.value) > max_value:
        return TooLarge(len(change.value), max_value)
    return None


def storable(expires: float) -> float:
    """The same time, where not every service knows a number for one that never comes."""
    return expires if expires < math.inf else _KEPT


def new_number() -> int:
    """A number for a state, from 1 to 2**63 - 1, that no other state of any key has had or will have.

    It is random. A counter would be one place that all writers meet in, and would have to be asked; and it would begin
    anew, or from before, with a server that has lost what it had or got a backup back. A token of a state that has
    passed fits by chance in one of nine million million million tries.
    """
    return secrets.randbits(63) or 1
