"""What clients did and what they were told, and whether a correct server could have answered so.

`records` is what clients write down; `problems` judges it, from `order`, `doubts` and `losses`; `figures` counts.
"""

from syncstore.testing.history.cache import NO_CACHE, CacheLife, Conditions
from syncstore.testing.history.problems import problems
from syncstore.testing.history.records import (
    Answered,
    Exchange,
    Op,
    Recorder,
    Sent,
    payload_of,
    read_history,
    tag_of,
)

__all__ = [
    "NO_CACHE",
    "Answered",
    "CacheLife",
    "Conditions",
    "Exchange",
    "Op",
    "Recorder",
    "Sent",
    "payload_of",
    "problems",
    "read_history",
    "tag_of",
]
