"""The user's row in a unit of work: the time that the work draws, and the times kept beside the high-water mark.

One statement writes the row, last of all: PostgreSQL takes the writes of a work as one statement, in which no
two may touch the same row.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncstore.clock import MS_PER_TICK, Clock
from syncstore.errors import Unavailable
from syncstore.storage.durable import Being, KeptTime
from syncstore.storage.sql import kept as columns
from syncstore.storage.sql.dialects.api import Write
from syncstore.storage.sql.engine import Transaction
from syncstore.storage.sql.statements import Statements

# A user who writes faster than the clock ticks waits for it, this many ticks at most. A clock that is further
# behind (other machines' clocks, a small step back) is overtaken; one that is behind by more than _LOST_TICKS was
# set wrong, here or at an earlier write, and times in the far future would stay with the user for ever.
_WAIT_TICKS = 5
_LOST_TICKS = 60 * 100
_RETRY_AFTER_CLOCK = 60


class UserRow:
    """The locked row. Times are in ticks.

    `mark` is the storage's time before this work. `time` is what the commit makes of it; None leaves the row alone.
    """

    __slots__ = ("_at", "_changes", "_kept", "_uid", "mark", "time")

    def __init__(self, at: Transaction, uid: int) -> None:
        self._at = at
        self._uid = uid
        self._kept: Mapping[str, KeptTime] | None = None
        self._changes: dict[str, KeptTime] | None = None
        self.mark = (at.high_water or 0) // MS_PER_TICK
        self.time: int | None = None

    @property
    def kept(self) -> Mapping[str, KeptTime]:
        """The kept times before this work."""
        if self._kept is None:
            self._kept = columns.decode(self._at.cached)
        return self._kept

    @property
    def kept_bytes(self) -> int:
        """The bytes of all cached-only collections before this work."""
        if self._at.cached is None:
            return 0
        return sum(kept.bytes for kept in self.kept.values())

    def draw(self, clock: Clock, later_than: int = 0) -> int:
        """A time for a write: the present, and later than everything of this user before and than `later_than`."""
        earliest = max(self.mark, later_than) + 1
        ahead = earliest - clock.now()
        if ahead > _LOST_TICKS:
            raise Unavailable(
                f"the clock is {ahead // 100} s behind the last write of user {self._uid}", _RETRY_AFTER_CLOCK
            )
        deadline = clock.monotonic() + _WAIT_TICKS * 0.01
        while 0 < ahead <= _WAIT_TICKS and clock.monotonic() < deadline:
            clock.sleep(ahead * 0.01 - clock.now_ms() % MS_PER_TICK * 0.001)
            ahead = earliest - clock.now()
        return max(earliest, clock.now())

    def keep(self, collection: str, kept: KeptTime) -> None:
        """Keep a time with the commit. Raises RuntimeError before there is a time of this work, or for a later one."""
        if self.time is None or kept.time > self.time:
            raise RuntimeError(f"no time was drawn that covers the kept time {kept.time} of {collection!r}")
        if self._changes is None:
            self._changes = {}
        self._changes[collection] = kept

    def delete_kept(self, time: int) -> None:
        """Have every cached-only collection deleted at `time`, those excepted that were deleted before."""
        if self._at.cached is None:
            return
        gone = KeptTime(time, Being.DELETED)
        self._changes = {name: gone for name, kept in self.kept.items() if kept.being != Being.DELETED}

    def write(self, statements: Statements, time: int) -> Write:
        """The write of the row at the end of a work whose time is `time`."""
        values: dict[str, object] = {"uid": self._uid, "time": time * MS_PER_TICK}
        if not self._changes:
            return statements.set_high_water.write(values)
        values["cached"] = columns.encode({**self.kept, **self._changes})
        return statements.set_times.write(values)
