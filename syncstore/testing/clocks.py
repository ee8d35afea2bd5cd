"""A clock that tests step by hand: time passes when a test says so, or when somebody sleeps.

It may stand still or go backwards, as machines' clocks do, and then its monotonic side still runs.
"""

from __future__ import annotations

from syncstore.clock import MS_PER_TICK

START_MS = 1_700_000_000_000


class SteppableClock:
    """A `syncstore.clock.Clock` that starts in November 2023, on a whole second."""

    def __init__(self, ms: int = START_MS) -> None:
        self._ms = ms
        self._monotonic = 1_000.0
        self._left_over = 0.0
        self.stands_still = False  # while it is set, even those who sleep find the same time when they wake
        self.slept = 0.0

    def now(self) -> int:
        """The present time in ticks."""
        return self._ms // MS_PER_TICK

    def now_ms(self) -> int:
        """The present time in milliseconds."""
        return self._ms

    def seconds(self) -> float:
        """The present time in seconds."""
        return self._ms / 1000

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.slept += seconds
        self._monotonic += seconds
        if not self.stands_still:
            exact = seconds * 1000 + self._left_over
            self._left_over = exact - int(exact + 1e-6)
            self._ms += int(exact + 1e-6)

    def step(self, seconds: float) -> None:
        """Let `seconds` pass; a negative number sets the clock back, whose monotonic side does not notice."""
        self._ms += round(seconds * 1000)
        self._monotonic += max(0.0, seconds)
