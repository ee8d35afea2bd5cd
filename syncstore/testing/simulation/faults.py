"""The faults of a history: what is to go wrong, and at which step or at which operation of its kind.

They are part of a history's plan, so a failing history can be made smaller by leaving faults out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final, NamedTuple

# Faults of operations, by the class of the operation that they befall.
OPERATIONS: Final = {
    "fetch": ("fetch lost", "fetch slow"),
    "change": (
        *("change lost", "change half done", "change reply lost", "change late", "change slow"),
        *("storage full", "storage full and dropped", "change later never", "change later late"),
    ),
    "sql read": ("sql read fails", "sql read slow"),
    "sql epoch": ("epoch fails", "epoch slow"),
    "sql lock": ("sql lock fails", "sql connection lost"),
    "commit": (
        *("commit refused", "commit rolled back", "commit reply lost", "commit late", "commit never"),
        "commit slow",
    ),
}
CLASS_OF: Final = {kind: name for name, kinds in OPERATIONS.items() for kind in kinds}

# Faults of the surroundings, which happen at a step.
SURROUNDINGS: Final = (
    *("evict", "evict", "evict all of a user", "restart", "flush", "expire"),
    *("cache away", "cache away for all", "cache away long", "sql away", "freeze", "freeze long", "kill"),
    *("clock jump", "time passes", "time passes long"),
)

# The same, where there are several cache servers: that of most clients is away.
OF_SEVERAL: Final = ("home away for all", "home away for all long")

# The same, of locks in ZooKeeper: only in histories that have such.
OF_ZOOKEEPER: Final = ("session lost", "zookeeper away")


class Fault(NamedTuple):
    """One fault: `at` is a step for the surroundings, else the number of the operation in its class."""

    kind: str
    at: int


class Faults:
    """The faults of one history that befall operations. `injected` counts those that did happen, by kind."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._planned = {(CLASS_OF[kind], at): kind for kind, at in faults if kind in CLASS_OF}
        self._seen: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.off = False

    def hit(self, operation: str) -> str:
        """Count an operation of a class; the fault that befalls it, or an empty string."""
        self._seen[operation] += 1
        if self.off or not self._planned:
            return ""
        kind = self._planned.get((operation, self._seen[operation]), "")
        if kind:
            self.injected[kind] += 1
        return kind
