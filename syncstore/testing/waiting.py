"""Waiting in tests for what nothing tells of: a condition that is looked at again and again, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 40.0
"""Seconds that a busy machine may need for what takes a moment."""

_STEP = 0.005


def await_that(condition: Callable[[], object], seconds: float = PATIENCE, what: str = "") -> None:
    """Return once the condition is true. Raises AssertionError after so many seconds, which says `what` was awaited."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(_STEP)
