"""What a test knows of the cache behind the server: what lives in it alone, and when it may have forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CacheLife:
    """`only` are the collections that live in the cache alone; `losses` are the times from and to which it may have
    lost some or all of what it held, in seconds of the monotonic clock."""

    only: frozenset[str] = frozenset()
    losses: Sequence[tuple[float, float]] = ()

    def may_lose(self, stored: float, missed: float) -> bool:
        """Whether what was stored not before `stored` may be missing in an answer that came at `missed`."""
        return any(begin <= missed and stored <= end for begin, end in self.losses)


NO_CACHE = CacheLife()
