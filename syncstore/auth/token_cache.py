"""A bounded memory of verified tokens, approximately the most recently used ones.

Two generations of a dict: what is found in the old one moves to the young one; when the young one is full
it becomes the old one and the old one is dropped. Each step is a single dict operation or assignment, which
the interpreter makes atomic, so threads need no lock: two that turn the generations over at the same moment
lose some entries, which costs a second verification and nothing else.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class TokenCache(Generic[Entry]):
    """Maps the text of a token to what its verification yielded."""

    __slots__ = ("_old", "_per_generation", "_young")

    def __init__(self, size: int) -> None:
        """At most `size` entries (2 or more) are kept, and at least half as many of the latest used."""
        if size < 2:
            raise ValueError("a token cache holds at least two entries")
        self._per_generation = size // 2
        self._young: dict[str, Entry] = {}
        self._old: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def get(self, token: str) -> Entry | None:
        """What was put for exactly this text, or None."""
        found = self._young.get(token)
        if found is None:
            found = self._old.get(token)
            if found is not None:
                self.put(token, found)
        return found

    def put(self, token: str, entry: Entry) -> None:
        """Remember `entry`."""
        young = self._young
        if len(young) >= self._per_generation:
            self._old = young
            self._young = young = {}
        young[token] = entry

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}
