"""Running statements of the provider `sql`: on a connection of the pool, in time, and again where that is safe.

Again is safe after what was certainly not done: the database gave way to others and rolled back, or there was no table.
After a connection was lost a read is repeated once, on another connection; a change never is. One that was idle is
looked at before it is used, so those that a restart of the database ended cost nobody an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

from syncstore.cache.api import BackendUnavailable, StorageFull
from syncstore.cache.pooled import Pool
from syncstore.cache.sql.kinds import Kind, Link, NotAllowed, first_line
from syncstore.cache.sql.statements import TABLE

log = logging.getLogger(__name__)

_TRIES: Final = 8
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0002, 0.005
_ROOM_BESIDE: Final = 64 * 1024  # of a statement's text beside its value

T = TypeVar("T")


class Database:
    """A database as this process uses it. Each wait ends after `timeout` seconds."""

    def __init__(self, kind: Kind, *, connections: int, timeout: float) -> None:
        self.kind = kind
        self._timeout = timeout
        self._pool = Pool(self._connect, size=kind.size or connections, where=kind.shown)
        self._room: int | None = None
        self._knows_room = not kind.shared_hosts

    def run(self, work: Callable[[Link], T], *, again: bool) -> T:
        """What `work` gives, which is called again when others were in its way, and when a connection was lost if
        `again`. Raises BackendUnavailable, Busy, StorageFull."""
        end = time.monotonic() + self._timeout
        tries, lost, made = 0, False, False
        pause = _FIRST_PAUSE
        while True:
            tries += 1
            try:
                link = self._pool.take(end)
            except _InTheWay:
                if time.monotonic() >= end:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                continue
            try:
                link.wait_until(end)
                result = work(link)
            except self.kind.error as error:
                fault = self._put_in_order(link, error)
                if fault == "in the way" and time.monotonic() < end and (self.kind.patient or tries < _TRIES):
                    time.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE)
                elif fault == "gone" and again and not lost and time.monotonic() < end:
                    lost = True
                elif fault == "missing" and not made:
                    made = True  # by the next connection
                elif fault == "full":
                    raise StorageFull(f"{self.kind.shown} has no room: {first_line(error)}") from error
                else:
                    raise BackendUnavailable(self._words(fault, error)) from error
            except BaseException:
                self._pool.discard(link)
                raise
            else:
                self._pool.give(link)
                return result

    def largest_value(self) -> int | None:
        """How many bytes the database takes at once, None for more than anybody stores. May ask it, once."""
        if not self._knows_room:
            room = self.run(lambda link: link.room, again=True)
            self._room = None if room is None else max(0, room - _ROOM_BESIDE)
            self._knows_room = True
        return self._room

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()

    def _connect(self) -> Link:
        kind = self.kind
        try:
            return kind.connect()
        except NotAllowed as error:
            raise BackendUnavailable(
                f"{kind.shown}: the table {TABLE} is missing, and cannot be made ({first_line(error)}): make it with"
                f" the statements of CREATE in {type(kind).__module__}, or let this user make tables once"
            ) from error
        except OSError as error:
            raise BackendUnavailable(f"{kind.shown}: {error.strerror or error}") from error
        except kind.error as error:
            fault = kind.fault(error, None)
            if fault == "full":
                raise StorageFull(f"{kind.shown} has no room: {first_line(error)}") from error
            if fault == "in the way" and kind.patient:
                raise _InTheWay(self._words(fault, error)) from error
            raise BackendUnavailable(f"{kind.shown}: {first_line(error)}") from error

    def _put_in_order(self, link: Link, error: Exception) -> str:
        """Put the connection back, in order or not; what the error was."""
        fault = self.kind.fault(error, link)
        if fault in ("gone", "missing", "elsewhere"):
            self._pool.discard(link)
            self._pool.close()  # they ended together most likely, or know of another table
            return fault
        try:
            link.restore()
        except self.kind.error:
            self._pool.discard(link)
        else:
            self._pool.give(link)
        return fault

    def _words(self, fault: str, error: Exception) -> str:
        where = self.kind.shown
        if fault == "in the way":
            return f"{where}: others have been in the way for {self._timeout:g} s ({first_line(error)})"
        if fault == "gone":
            return f"{where} went away: {first_line(error)}"
        return f"{where}: {first_line(error)}"


class _InTheWay(BackendUnavailable):
    """Others were in the way of connecting, which may be tried again."""
