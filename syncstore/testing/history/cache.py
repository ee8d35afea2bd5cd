"""What a test knows of the cache behind the server, and what else a judgement depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec


class CacheLife(msgspec.Struct, frozen=True):
    """`only` are the collections that live in the cache alone; `losses` are the times from and to which it may have
    lost some or all of what it held, in seconds of the monotonic clock."""

    only: frozenset[str] = frozenset()
    losses: Sequence[tuple[float, float]] = ()

    def may_lose(self, stored: float, missed: float) -> bool:
        """Whether what was stored not before `stored` may be missing in an answer that came at `missed`."""
        return any(begin <= missed and stored <= end for begin, end in self.losses)


NO_CACHE: Final = CacheLife()
_FILE = "conditions.json"


class Conditions(msgspec.Struct, frozen=True):
    """What `problems` has to know beside the history."""

    refused_may_count: bool = True
    cache: CacheLife = NO_CACHE
    late: float = 60.0

    def write(self, folder: Path) -> None:
        """Keep them beside the histories of the clients."""
        (folder / _FILE).write_bytes(msgspec.json.encode(self))


def read_conditions(folder: Path) -> Conditions:
    """What was kept there; where nothing was, the usual."""
    path = folder / _FILE
    return msgspec.json.decode(path.read_bytes(), type=Conditions) if path.exists() else Conditions()
