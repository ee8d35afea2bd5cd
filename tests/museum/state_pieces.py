"""Pieces about the state of the cache server: who may still believe it, and when it may be believed again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from syncstore.cache.api import Provider
from syncstore.cache.memcached.records import ServerRecord, Standing, after_failure, after_return
from syncstore.cache.memcached.shared_state import SharedState
from syncstore.errors import NotYet, SyncError, Unavailable
from syncstore.storage.durable import DurableWork
from syncstore.storage.layered.metadata import Look, Marked, Metadata, Sight
from syncstore.testing.simulation.configurations import SERVER
from syncstore.testing.simulation.plan import UNCACHED, WRITE_THROUGH, Mix, Plan
from tests.museum.piece import Piece, apart, leased, replaced, shared
from tests.museum.write_pieces import InSteps

ReadEpoch = Callable[[str], int]


class NoLease(SharedState):
    def trusted(self) -> int | None:
        epoch = self._view[0]
        if not epoch or self.troubled():
            return super().trusted()
        return None if epoch & 1 else epoch

    def still(self, epoch: int) -> bool:
        return self._view[0] == epoch


class ChecksBeforehand(SharedState):
    _known: int | None = None

    def trusted(self) -> int | None:
        known = self._known
        self._known = super().trusted()
        return known or self._known


class LeaseFromTheReply(SharedState):
    def learn(self, record: ServerRecord, asked: float) -> None:
        super().learn(record, self._clock.monotonic())


class GoesOnAtOnce(SharedState):
    def judge(self, read_epoch: ReadEpoch) -> int | None:
        try:
            return super().judge(read_epoch)
        except Unavailable:
            if self._odd is None:
                raise
            return None


class CountsFromTheQuestion(SharedState):
    def declare_failed(self, epoch: int, reason: str) -> Unavailable:
        asked = self._clock.monotonic()
        told = super().declare_failed(epoch, reason)
        self._odd = (after_failure(epoch), asked)
        return self._not_yet() if isinstance(told, NotYet) else told


class RejoinsAtOnce(SharedState):
    def probe(self, cache: Provider, *, held: bool = False) -> bool:
        try:
            epoch = self.current()
            if epoch & 1 and self._answers(cache):
                self._advance(epoch, after_return(epoch), Standing.UP, "it answers again")
                self.forget_view()
        except SyncError:
            return False
        return True

    def _answers(self, cache: Provider) -> bool:
        return True


class CountsBlindly(SharedState):
    def declare_failed(self, epoch: int, reason: str) -> Unavailable:
        records = self._servers.records
        try:
            now = records.read([self.row])[0].epoch
            if now & 1:
                records.advance(self.row, now, after_return(now), reason)
                self.forget_view()
                return self._not_yet()
        except SyncError:
            now = epoch
        return super().declare_failed(now, reason)


class EpochOfTheLook(Metadata):
    def settle_epoch(self, sight: Sight | None, read_epoch: ReadEpoch) -> int | None:
        return self._state.judge(read_epoch) if sight is None else sight.epoch


class NoViewNoMark(Metadata):
    def settle_epoch(self, sight: Sight | None, read_epoch: ReadEpoch) -> int | None:
        return None if sight is None else super().settle_epoch(sight, read_epoch)


class EpochBeforeTheLock(InSteps):
    def before_the_lock(self, uid: int, collection: str, look: Look) -> object:
        return self._below.records.read([SERVER])[0].epoch

    def mark(
        self, uid: int, collection: str, look: Look, early: object, durable: DurableWork
    ) -> Marked | None:
        return self._metadata.mark(uid, collection, None, lambda _: early if isinstance(early, int) else 0)


def _long_leases(plan: Plan) -> Plan:
    """Two users, and leases that last until most of it is over."""
    return leased(4.0)(shared(plan))


def _lookers_apart(plan: Plan) -> Plan:
    """One process of writers, and one of readers who renew their lease all the time."""
    return leased(1.0)(apart(plan))


_SQL: Final = (UNCACHED, WRITE_THROUGH)
_ONE: Final = (UNCACHED,)
_LOOKS: Final = ("put", "put", "times", "times", "times")
_SLOW: Final = ("epoch slow", "epoch slow", "cache away", "cache away", "change lost")
_ALL_AWAY: Final = ("cache away for all", "cache away for all", "cache away")
_SLOW_TO_DECLARE: Final = (*("sql read slow",) * 4, "cache away long")
_KINDS: Final = ("put", "put", "times", "times", "read")
_AWAY: Final = ("cache away", "cache away long", "change lost", "time passes")
_MIX: Final = Mix(_SQL, _AWAY, 6, 4, 6, _KINDS, 2)

PIECES: Final = (
    Piece(
        "no-lease",
        "model checking of server states, c0",
        "A process believes for ever what it once knew of the cache server.",
        "One that others cannot reach any more goes on answering what was right before it failed.",
        "stale",
        replaced(NoLease),
        _MIX,
    ),
    Piece(
        "lease-checked-before-the-request",
        "model checking, c3",
        "A request relies on a check that was made before it began.",
        "The first answer after a pause is from before it.",
        "stale",
        replaced(ChecksBeforehand),
        _MIX,
    ),
    Piece(
        "lease-from-the-reply",
        "model checking, l1",
        "A lease is counted from when SQL's answer came, not from when it was asked for.",
        "A slow answer is believed when all others have stopped waiting.",
        "stale",
        replaced(LeaseFromTheReply),
        Mix(_ONE, _SLOW, 6, 5, 6, _LOOKS, 2, eager=True),
        leased(0.4),
    ),
    Piece(
        "no-wait-after-a-failure",
        "model checking, w1",
        "A server that was declared failed just now is left out at once.",
        "Processes whose lease still runs answer from it.",
        "stale",
        replaced(GoesOnAtOnce),
        _MIX,
    ),
    Piece(
        "wait-from-the-question",
        "model checking, w3",
        "The wait after a failure is counted from before it was declared.",
        "The same, for as long as the declaration took.",
        "stale",
        replaced(CountsFromTheQuestion),
        Mix(_ONE, _SLOW_TO_DECLARE, 10, 6, 6, ("put", "put", "times"), 2, eager=True),
        _lookers_apart,
    ),
    Piece(
        "back-at-once",
        "model checking, p1",
        "A failed server is taken back as soon as it answers.",
        "A process that never heard of the failure believes what the server remembers from before.",
        "stale",
        replaced(RejoinsAtOnce),
        _MIX,
    ),
    Piece(
        "failure-counted-blindly",
        "model checking, b1",
        "Who declares a failure counts the epoch up, whatever it is by now.",
        "Of two who do so at once the second one brings the server back.",
        "stale",
        replaced(CountsBlindly),
        Mix(_ONE, _ALL_AWAY, 6, 6, 5, _LOOKS, 3, eager=True),
        _long_leases,
    ),
    Piece(
        "epoch-of-the-look",
        "model checking, e1",
        "A writer marks under the epoch that it knew before it had the lock.",
        "The server failed and came back meanwhile, and a reader has filled the record under its new name.",
        "stale",
        replaced(EpochOfTheLook),
        Mix(_SQL, (*_AWAY, "freeze", "freeze long"), 8, 4, 6, _KINDS, 2),
    ),
    Piece(
        "epoch-asked-before-the-lock",
        "model checking, e2",
        "A writer asks SQL for the epoch, and waits for the user's row afterwards.",
        "The same.",
        "stale",
        replaced(EpochBeforeTheLock),
        Mix(_ONE, _SLOW, 6, 5, 6, _LOOKS, 2, eager=True),
        leased(0.2),
    ),
    Piece(
        "no-view-no-mark",
        "model checking, e1b",
        "A writer whose lease has run out commits as if the server had failed.",
        "Everybody else has a lease, and answers from before the write.",
        "stale",
        replaced(NoViewNoMark),
        Mix(_SQL, ("sql read fails", "fetch lost", "cache away"), 6, 4, 6, _KINDS, 2),
    ),
)
