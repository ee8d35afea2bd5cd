"""One process's view of one memcached: whether it may be believed, has failed, or is back, and who says so.

A view may be relied on for `lease` seconds, counted from before it was asked for. The rules are those of
server-states.md, model-checked; its name for what each of them prevents stands beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from syncstore.cache.api import BackendError, Provider
from syncstore.cache.memcached.records import (
    FORGOTTEN,
    NEW,
    RecordStore,
    ServerRecord,
    Standing,
    after_failure,
    after_return,
    first_epoch,
    on_return,
    standing,
)
from syncstore.clock import Clock
from syncstore.errors import NotYet, SyncError, Unavailable

log = logging.getLogger(__name__)

DRIFT: Final = 1.01
"""By how much longer than a lease one waits for its end: clocks of two machines differ by far less; it also covers the
grain of a deadline."""

_PROBE_KEY = b"probe"
_ATTEMPTS = 10
# Seconds after which the thread that claims servers has most likely done so.
_CLAIMED_SOON = 0.5
_NEVER = float("-inf")


class Rules(NamedTuple):
    """How a group is run: the same for all processes that share its states.

    `lease` is in seconds: for so long a view may be used, and for so long a failure must be known before anybody
    goes on without the server. `failure_limit` faults in a row are a failure; a mark that a writer could not place is
    one at once. `stand_ins` says that others may hold a failed server's values, so that its return takes two steps.
    `pause` is how many seconds a process leaves a server alone that did not answer it, and the store of states, where
    the cache can be done without.
    """

    lease: float = 1.0
    failure_limit: int = 3
    stand_ins: bool = False
    pause: float = 1.0


class Transition(NamedTuple):
    """A change of a server's state that this process has made: nobody else has."""

    server: str
    standing: Standing
    reason: str


Listener = Callable[[Transition], None]


class Around(Protocol):
    """What the state of one server needs of its group's."""

    @property
    def records(self) -> RecordStore:
        """Where the states are kept."""

    @property
    def clock(self) -> Clock:
        """The time."""

    @property
    def rules(self) -> Rules:
        """How the group is run."""

    @property
    def in_sql(self) -> bool:
        """Whether writers read the states in their own transactions."""

    @property
    def tell(self) -> Listener:
        """Hears of each transition that this process makes."""

    @property
    def left(self) -> bool:
        """Whether another group is in use by now."""

    def refresh(self, wanted: SharedState) -> bool:
        """See to it that the view of a server may be relied on; whether it may."""

    def check_group(self, read_epoch: Callable[[str], int]) -> None:
        """Raise Unavailable when another group is in use by now."""


class SharedState:
    """The state of one server (see ServerState). `row` is its name in the store of states."""

    def __init__(self, servers: Around, name: str, row: str) -> None:
        self.name = name
        self.row = row
        self._servers = servers
        self._clock = servers.clock
        self._lease = servers.rules.lease
        self._view: tuple[int, float] = (0, _NEVER)  # the epoch, and until when it may be believed
        self.known_until = _NEVER
        """Until when the view need not be asked for again, on the monotonic clock."""
        self._odd: tuple[int, float] | None = None  # a failure's epoch, and since when it is known here
        self._why: tuple[int, str] = (0, "")  # an epoch, and the reason for it
        self._leave_until = _NEVER
        self._faults = 0
        self._claimed_until = float("inf")
        self._refusal = ""

    # -- readers

    def trusted(self) -> int | None:
        """The epoch to read and write under (see ServerState)."""
        now = self._clock.monotonic()
        if now < self._leave_until:
            return None
        epoch, until = self._view
        if now >= until:
            if now >= self._claimed_until or not self._servers.refresh(self) or self._refusal:
                return None
            epoch = self._view[0]
        return None if epoch & 1 else epoch

    def look(self) -> None:
        """Know the state, where it can be known, for a lease. Never raises."""
        if self._clock.monotonic() >= self.known_until:
            self._servers.refresh(self)

    def still(self, epoch: int) -> bool:
        """Whether the view is the same and its lease has not run out (see ServerState).

        Asked by a writer after it has locked its user's row. Then no later epoch's values exist yet: a server
        comes back one lease after its failure was declared at the earliest, and this view is younger than that.
        """
        known, until = self._view
        return known == epoch and self._clock.monotonic() < until

    def learn(self, record: ServerRecord, asked: float) -> None:
        """Take a record for the view: it was asked for at that time."""
        self.known_until = asked + self._lease
        self._view = (record.epoch, min(self.known_until, self._claimed_until))
        self._note(record.epoch, record.reason)

    def _note(self, epoch: int, reason: str = "") -> None:
        """Remember since when a failure is known: from after the answer, by this clock (w3)."""
        odd = self._odd
        if reason:
            self._why = epoch, reason
        if not epoch & 1:
            if odd is not None:
                log.info("the cache %s is used again, with epoch %d", self.name, epoch)
            self._odd = None
        elif odd is None or odd[0] != epoch:
            log.info(
                "the cache %s is out of use since epoch %d: %s", self.name, epoch, reason or "declared failed"
            )
            self._odd = (epoch, self._clock.monotonic())

    def forget_view(self) -> None:
        """What is known is out of date: ask before relying on it."""
        self.known_until = _NEVER
        self._view = (self._view[0], _NEVER)

    # -- writers

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """The epoch to mark under, None to go without a mark (see ServerState)."""
        epoch = self.judged(read_epoch)
        return None if epoch & 1 else epoch

    def judged(self, read_epoch: Callable[[str], int]) -> int:
        """The epoch as it is, for a writer that has locked its user's row: one of a failure when that is known long
        enough. Raises as `judge`."""
        if self._refusal:
            raise Unavailable(self._refusal)
        self._servers.check_group(read_epoch)
        epoch = read_epoch(self.row) if self._servers.in_sql else self.current()
        if not epoch:
            raise Unavailable(f"nothing is known of the cache {self.name} yet", 1)
        self._note(epoch)
        if not epoch & 1:
            if self._clock.monotonic() >= self._claimed_until:
                raise NotYet(f"the cache {self.name} has not been seen to be ours for a while", _CLAIMED_SOON)
            return epoch
        # A bare "it has failed" is not enough: others may read under the old epoch until their leases end (w1).
        if self._known_for(epoch) >= self._lease * DRIFT:
            return epoch
        raise self._not_yet()

    def settled(self) -> int | None:
        """The epoch of a failure that has been known for a lease, so that nobody uses the server any more; None
        otherwise, and when it is about to return. May ask, as `trusted` does."""
        if self._odd is None and self._clock.monotonic() < self.known_until:
            return None
        self.look()
        return self.settled_still()

    def settled_still(self) -> int | None:
        """The same, asking nobody."""
        epoch, odd = self._view[0], self._odd
        if (
            odd is None
            or odd[0] != epoch
            or self._refusal
            or self._clock.monotonic() >= self.known_until
            or standing(epoch) is Standing.RETURNING
            or self._known_for(epoch) < self._lease * DRIFT
        ):
            return None
        return epoch

    def _known_for(self, epoch: int) -> float:
        """Seconds since when this failure is known here; 0 when another thread knows of a later state by now."""
        odd = self._odd
        return self._clock.monotonic() - odd[1] if odd is not None and odd[0] == epoch else 0.0

    def _not_yet(self) -> NotYet:
        return NotYet(f"the cache {self.name} was declared failed just now", self.wait)

    def trouble(self, reason: str) -> None:
        """Leave the server alone for a moment, and declare it failed after several in a row (see ServerState)."""
        self._leave_alone()
        self._faults += 1
        if self._faults >= self._servers.rules.failure_limit:
            epoch = self._view[0]
            if epoch and not epoch & 1:
                self.declare_failed(epoch, f"{self._faults} faults in a row: {reason}")

    def _leave_alone(self) -> None:
        self._leave_until = self._clock.monotonic() + self._servers.rules.pause

    def answered(self) -> None:
        """The server did answer: faults before do not count any more (see ServerState)."""
        if self._faults:
            self._faults = 0

    def troubled(self) -> bool:
        """Whether it is being left alone (see ServerState)."""
        return self._clock.monotonic() < self._leave_until

    def declare_failed(self, epoch: int, reason: str) -> Unavailable:
        """Advance the epoch, unless somebody did (see ServerState)."""
        self._leave_alone()
        records = self._servers.records
        try:
            # Only this very epoch (b1): after a failure and a return it is another server that has failed.
            failed = after_failure(epoch)
            if records.advance(self.row, epoch, failed, reason):
                self._note(failed, reason)  # the answer is the first to say so, and comes after the commit
                self._announce(Standing.FAILED, reason)
            else:
                self.current()
            self.forget_view()
        except SyncError as error:
            return Unavailable(
                f"the cache {self.name} does not answer, and neither does the store of its state: {error}"
            )
        return self._not_yet()

    def _announce(self, standing: Standing, reason: str) -> None:
        log.warning("the cache %s is %s: %s", self.name, standing.value, reason)
        self._servers.tell(Transition(self.name, standing, reason))

    # -- whose server it is

    def claimed(self, until: float) -> None:
        """The server was seen to be this group's: that may be relied on until then, on the monotonic clock."""
        self._claimed_until = until

    @property
    def claimed_for(self) -> float:
        """Seconds for which that may be relied on yet; negative when it may not."""
        return self._claimed_until - self._clock.monotonic()

    def give_up(self, reason: str) -> None:
        """Declare the server failed, whatever its epoch is. Never raises."""
        try:
            epoch = self.current()
        except SyncError:
            return
        if epoch and not epoch & 1:
            self.declare_failed(epoch, reason)

    def refuse(self, reason: str) -> None:
        """The server is another group's: nothing is read from it any more, and no write is right that others read from
        it without knowing of ours."""
        if reason == self._refusal or (self._servers.left and self._refusal):
            return
        if reason:
            log.error("%s", reason)
        self._refusal = reason
        self._leave_until = float("inf") if reason else _NEVER
        self.forget_view()

    # -- coming back

    @property
    def failed(self) -> bool:
        """Whether the server is known to be out of use."""
        return self._odd is not None

    @property
    def held(self) -> bool:
        """Whether it is known to be so by an operator's wish."""
        return self._odd is not None and standing(self._odd[0]) is Standing.HELD

    @property
    def proven(self) -> bool:
        """Whether somebody has found that it failed, or said so, and nobody has begun to bring it back: else only
        nothing is known of what it holds."""
        epoch, reason = self._why
        odd = self._odd
        if odd is None or odd[0] != epoch:
            return True
        return reason not in (NEW, FORGOTTEN) and standing(epoch) is not Standing.RETURNING

    @property
    def wait(self) -> float:
        """Seconds until the failure that is known here has been known for a lease; 0 when that is so, or none is."""
        odd = self._odd
        left = 0.0 if odd is None else self._lease * DRIFT - self._known_for(odd[0])
        return left + 0.001 if left > 0 else 0.0  # a little more than what rounding may take away

    def take_turn(self, seconds: float) -> bool:
        """Be the one who probes the server, for so long; False while another process is. Raises Unavailable."""
        row, now = f"turn:{self.row}", self._clock.now_ms()
        until = self._servers.records.read([row])[0].epoch
        if now < until <= now + 4000 * seconds:  # later than that it was said by a clock that is wrong
            return False
        return self._servers.records.advance(row, until, max(until + 1, now + int(1000 * seconds)), "probing")

    def probe(self, cache: Provider, *, held: bool = False) -> bool:
        """Bring a failed server back, if it is time and it answers; whether it may be trusted now.

        Not before one lease after the failure was first seen here (p1): until then others may use its old names.
        Where it may have stand-ins, not before these have been given up for a lease either. One that an operator
        holds comes back when `held`.
        """
        try:
            epoch = self.current()
            if not epoch & 1:
                return epoch != 0  # with 0 nothing is known of it yet
            now = standing(epoch)
            if self._known_for(epoch) < self._lease * DRIFT or (now is Standing.HELD and not held):
                return False
            cache.store(_PROBE_KEY, b"%d" % epoch)
            cache.retrieve(_PROBE_KEY)
            if self._servers.rules.stand_ins and now is not Standing.RETURNING:
                self._advance(epoch, on_return(epoch), Standing.RETURNING, "it answers again")
                return False
            if not self._advance(epoch, after_return(epoch), Standing.UP, "it answers again") and (
                self.current() & 1
            ):
                return False  # somebody has taken it out of use meanwhile
        except (SyncError, BackendError, LookupError):
            return False
        self._leave_until = _NEVER
        self._faults = 0
        self.forget_view()
        return True

    def _advance(self, seen: int, to: int, standing: Standing, reason: str) -> bool:
        done = self._servers.records.advance(self.row, seen, to, reason)
        if done:
            self._note(to, reason)  # the answer is the first to say so, and comes after the commit
            self._announce(standing, reason)
        return done

    # -- an operator's wish

    def current(self) -> int:
        """The epoch, asked now. Raises Unavailable."""
        record = self._servers.records.read([self.row])[0]
        self._note(record.epoch, record.reason)
        return record.epoch

    def hold(self, reason: str) -> None:
        """Declare the server failed until somebody brings it back by hand. Raises Unavailable."""
        for _ in range(_ATTEMPTS):
            seen = self.current()
            # Of one that nothing is known of an earlier life of the store may have known: see _begin.
            held = after_failure(seen or first_epoch(self._clock.seconds()), held=True)
            if standing(seen) is Standing.HELD or self._advance(seen, held, Standing.HELD, reason):
                self.forget_view()
                return
        raise Unavailable(f"others change the state of the cache {self.name} all the time")

    def forget_all(self) -> None:
        """Declare the server failed under an epoch whose successor no life of the store has used.

        Counting up would not do: a store that was restored from a backup has an old epoch, and what was stored under
        the epochs that it counts up to once more is still there. Seconds of the clock run ahead of any count, since a
        failure and a return take seconds. Raises Unavailable.
        """
        for _ in range(_ATTEMPTS):
            record = self._servers.records.read([self.row])[0]
            seen = record.epoch
            held = standing(seen) is Standing.HELD  # which it then stays
            reason = record.reason if seen & 1 else FORGOTTEN
            first = after_failure(first_epoch(self._clock.seconds()), held=held)
            failed = max(after_failure(seen, held=held), first)
            if self._servers.records.advance(self.row, seen, failed, reason):
                self.forget_view()
                self._note(failed, reason)
                return
        raise Unavailable(f"others change the state of the cache {self.name} all the time")
