"""The states of a group of memcacheds as one process knows them: one question tells of all servers, for one lease.

The states are shared by all processes (`records`); what each one means is in shared_state.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from syncstore.cache.memcached.new_record import check_name
from syncstore.cache.memcached.records import (
    GROUP,
    NEW,
    GroupRecord,
    HomeRecords,
    RecordStore,
    ServerRecord,
    first_epoch,
)
from syncstore.cache.memcached.shared_state import Listener, Rules, SharedState, Transition
from syncstore.clock import Clock
from syncstore.errors import SyncError, Unavailable
from syncstore.forks import in_each_child

# Seconds for which one waits for the answer that another thread has asked for: many times what SQL takes.
_PATIENCE: Final = 0.25
_NEVER: Final = float("-inf")


def _silence(_: Transition) -> None:
    """Nobody listens."""


class Servers:
    """The states of a group's servers, by name.

    `scope` comes before their names in the store of states, so that several groups may share one. With `in_sql` they
    are in the database of the data: then writers read them in their own transactions.
    """

    def __init__(
        self,
        records: RecordStore,
        names: Sequence[str],
        clock: Clock,
        rules: Rules,
        *,
        scope: str = "",
        in_sql: bool = True,
        tell: Listener = _silence,
    ) -> None:
        self.records = records
        self.clock = clock
        self.rules = rules
        self.in_sql = in_sql
        self.tell = tell
        self._scope = scope
        self._states: dict[str, SharedState] = {}
        self._refreshing = threading.Lock()
        self._ask_from = _NEVER  # after the store did not answer
        self._home: HomeRecords | None = None
        self._group = GroupRecord()
        self.left = False
        """Whether another group is in use: then nothing may be read or written here any more, for good."""
        for name in names:
            self.add(name)
        in_each_child(self.unlock)

    def add(self, name: str) -> SharedState:
        """The state of a server that joins the group, or is in it. Raises ValueError for a name that no store keeps."""
        with self._refreshing:
            if name not in self._states:
                row = f"{self._scope}@{name}" if self._scope else name
                check_name(row)
                self._states = {**self._states, name: SharedState(self, name, row)}
            return self._states[name]

    def join(self, home: HomeRecords, group: GroupRecord) -> None:
        """Believe the states only as long as this group is the one in use, by the database of the data."""
        self._group = group
        self._home = home

    def check_group(self, read_epoch: Callable[[str], int]) -> None:
        """For a writer that has locked its user's row: raise Unavailable when another group is in use by now."""
        if self._home is not None and read_epoch(GROUP) != self._group.number:
            self._leave_group()
            raise Unavailable(self._refusal())

    def _leave_group(self) -> None:
        self.left = True
        for state in self:
            state.refuse(self._refusal())

    def _refusal(self) -> str:
        return (
            "this database is used by servers that were started later, with other memcacheds or other settings of "
            "them: stop all servers, then start them with the same settings"
        )

    def __getitem__(self, name: str) -> SharedState:
        return self._states[name]

    def __iter__(self) -> Iterator[SharedState]:
        return iter(self._states.values())

    def unlock(self) -> None:
        """Whatever another thread was asking for: in a child it is not there, and what it held is held for ever."""
        self._refreshing = threading.Lock()

    def refresh(self, wanted: SharedState) -> bool:
        """See to it that the view of one server, and so of all, is one that was asked for since this was called, or
        whose lease runs. Whether it is. Never raises."""
        # With the store silent, those who queue here would wait for it one after the other.
        if not self._refreshing.acquire(timeout=min(_PATIENCE, self.rules.lease)):
            return False
        try:
            now = self.clock.monotonic()
            if now < wanted.known_until:
                return True  # somebody else has just asked
            return now >= self._ask_from and self._ask()
        finally:
            self._refreshing.release()

    def _ask(self) -> bool:
        # The lease counts from before the question: the answer may be old when it arrives (l1).
        asked = self.clock.monotonic()
        try:
            states = list(self._states.values())
            rows, home = [state.row for state in states], self._home
            group = self._group
            if home is None:
                records = self.records.read(rows)
            elif self.in_sql:
                records, group = home.read_with_group(rows)
            else:
                records, group = self.records.read(rows), home.group()
            if group.number != self._group.number:
                self._leave_group()
                return True
            for state, record in zip(states, records, strict=True):
                state.learn(record if record.epoch else self._begin(state), asked)
        except SyncError:
            self._ask_from = self.clock.monotonic() + self.rules.pause
            return False
        return True

    def _begin(self, state: SharedState) -> ServerRecord:
        # A store that was lost is created anew, at once, while others may rely for a lease on what it said before. So
        # its servers begin as failed. The database is not lost like that: what is new in it, nobody has used yet.
        first = first_epoch(self.clock.seconds()) | (not self.in_sql)
        if self.records.advance(state.row, 0, first, NEW):
            return ServerRecord(first, reason=NEW)
        return self.records.read([state.row])[0]
