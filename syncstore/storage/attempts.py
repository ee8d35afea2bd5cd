"""Doing a request's work again, where a store asks for that: after a deadlock, or once a failure is known to everybody.

The request is whole in memory, nothing of it was changed, and nothing is held while it waits. Its client would only
send it again, seconds later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from syncstore.clock import Clock
from syncstore.errors import NotYet, RolledBack

T = TypeVar("T")

ATTEMPTS: Final = 3
"""How often the work is begun in all when others are preferred to it."""

PATIENCE: Final = 5.0
"""Seconds that it waits in all for moments that are to come: some leases of a cache's state, of usual length."""

SHORTEST: Final = 0.1
"""Seconds that any wait counts for, so that those of none have an end."""


def attempted(work: Callable[[], T], clock: Clock) -> T:
    """What the work gives in the end. Raises what it raises, RolledBack and NotYet only when enough was tried."""
    left, waits = ATTEMPTS - 1, PATIENCE
    while True:
        try:
            return work()
        except RolledBack:
            if not left:
                raise
            left -= 1
        except NotYet as error:
            waits -= max(error.after, SHORTEST)
            if waits < 0:
                raise
            clock.sleep(error.after)
