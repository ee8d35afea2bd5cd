"""The clocks of simulated processes: wall clocks that differ and jump, and a monotonic side that never does."""

from __future__ import annotations

from syncstore.testing.simulation.scheduler import SECOND, Process, World


class ProcessClock:
    """A `syncstore.clock.Clock` of one process. Its offset from the world's time is in microseconds."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def now(self) -> int:
        """The present time in ticks."""
        return (self._world.now + self._process.clock_offset) // 10_000

    def now_ms(self) -> int:
        """The present time in milliseconds."""
        return (self._world.now + self._process.clock_offset) // 1000

    def seconds(self) -> float:
        """The present time in seconds."""
        return (self._world.now + self._process.clock_offset) / SECOND

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return (self._world.now - self._world.started) / SECOND + 1000.0

    def sleep(self, seconds: float) -> None:
        """Let others go on."""
        self._world.sleep(seconds)
