"""Pieces about writers: when they mark the record, when they commit, and what they publish."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from syncstore.cache.api import BackendError, BackendUnavailable, Conflict, Store, Token
from syncstore.errors import RolledBack, Unavailable
from syncstore.storage.api import Work
from syncstore.storage.durable import DurableWork
from syncstore.storage.layered.metadata import Look, Marked, Metadata, Sight, Unconfirmed
from syncstore.storage.layered.record import Entry, record_of
from syncstore.storage.layered.sql_backed import NotedWork, SqlBacked
from syncstore.testing.simulation.plan import CACHED_ONLY, UNCACHED, WRITE_THROUGH, Mix
from tests.museum.fill_pieces import AddsRecords
from tests.museum.piece import Piece, calm, replaced

ReadEpoch = Callable[[str], int]


class InSteps(SqlBacked):
    """The unit of work taken apart, so that its steps can come in another order. Copies are left out."""

    @contextmanager
    def work(self, uid: int, collection: str, items: Sequence[str], *, create: bool) -> Iterator[Work]:
        look = self._metadata.look(uid)
        marked = None
        noted: NotedWork | None = None
        try:
            early = self.before_the_lock(uid, collection, look)
            with self._below.lock_for_write(uid, collection, items, create=create) as durable:
                noted = NotedWork(durable)
                yield noted
                if noted.time:
                    marked = self.mark(uid, collection, look, early, durable)
                    self.before_the_commit(uid, collection, noted, marked)
        except Unconfirmed as error:
            raise self._state.declare_failed(error.epoch, error.cause) from error
        except Unavailable as error:
            if marked is not None and noted is not None:
                self.after_a_failure(uid, collection, noted, marked, error)
            raise
        if marked is not None:
            self.after_the_commit(uid, collection, noted, marked)

    def before_the_lock(self, uid: int, collection: str, look: Look) -> object:
        """Nothing. What is returned is handed to `mark`."""

    def mark(
        self, uid: int, collection: str, look: Look, early: object, durable: DurableWork
    ) -> Marked | None:
        """Place the mark."""
        return self._metadata.mark(uid, collection, look.sight, durable.epoch)

    def before_the_commit(self, uid: int, collection: str, noted: NotedWork, marked: Marked | None) -> None:
        """Nothing."""

    def after_a_failure(
        self, uid: int, collection: str, noted: NotedWork, marked: Marked, error: Unavailable
    ) -> None:
        """Nothing."""

    def after_the_commit(self, uid: int, collection: str, noted: NotedWork, marked: Marked) -> None:
        """Publish."""
        self.publish(uid, marked, collection, noted.entry, noted.time)

    def publish(self, uid: int, marked: Marked, collection: str, entry: int | None, time: int) -> None:
        """Store an entry over the mark."""
        self._metadata.later([self._metadata.publication(uid, marked, collection, entry, time)])


class MarksBeforeTheLock(InSteps):
    def before_the_lock(self, uid: int, collection: str, look: Look) -> Marked | None:
        def read_epoch(server: str) -> int:
            return self._below.records.read([server])[0].epoch

        return self._metadata.mark(uid, collection, look.sight, read_epoch)

    def mark(
        self, uid: int, collection: str, look: Look, early: object, durable: DurableWork
    ) -> Marked | None:
        return early if isinstance(early, Marked) else None


class PublishesBeforeTheCommit(InSteps):
    def before_the_commit(self, uid: int, collection: str, noted: NotedWork, marked: Marked | None) -> None:
        if marked is not None:
            self.publish(uid, marked, collection, noted.entry, noted.time)

    def after_the_commit(self, uid: int, collection: str, noted: NotedWork, marked: Marked) -> None:
        pass


class RestoresWhatItReads(InSteps):
    def after_a_failure(
        self, uid: int, collection: str, noted: NotedWork, marked: Marked, error: Unavailable
    ) -> None:
        times = self._below.times(uid)
        self.publish(uid, marked, collection, times.collections.get(collection), times.modified)


class Restores(InSteps):
    def after_a_failure(
        self, uid: int, collection: str, noted: NotedWork, marked: Marked, error: Unavailable
    ) -> None:
        self.publish(uid, marked, collection, noted.collection_modified or None, marked.record.storage or 0)


class RestoresAfterRollback(Restores):
    def after_a_failure(
        self, uid: int, collection: str, noted: NotedWork, marked: Marked, error: Unavailable
    ) -> None:
        if isinstance(error, RolledBack):
            super().after_a_failure(uid, collection, noted, marked, error)


class PublishesBlindly(Metadata):
    def publication(self, uid: int, marked: Marked, collection: str, entry: Entry | None, time: int) -> Store:
        return super().publication(uid, marked, collection, entry, time)._replace(expect=None)


class LeavesForeignMarks(Metadata):
    def mark(self, uid: int, collection: str, sight: Sight | None, read_epoch: ReadEpoch) -> Marked | None:
        sight = self.look(uid).sight
        if sight is not None and isinstance(sight.record.entry(collection), bytes):
            return None
        return super().mark(uid, collection, sight, read_epoch)


class TakesAnyMarkForItsOwn(Metadata):
    def publication(self, uid: int, marked: Marked, collection: str, entry: Entry | None, time: int) -> Store:
        seen = self.look(uid).sight
        if seen is not None and isinstance(seen.record.entry(collection), bytes):
            marked = Marked(seen.epoch, seen.token, seen.record)
        return super().publication(uid, marked, collection, entry, time)


class IgnoresFailedMarks(Metadata):
    def mark(self, uid: int, collection: str, sight: Sight | None, read_epoch: ReadEpoch) -> Marked | None:
        try:
            return super().mark(uid, collection, sight, read_epoch)
        except Unconfirmed:
            return None


class MarksWithoutWaiting(Metadata):
    def mark(self, uid: int, collection: str, sight: Sight | None, read_epoch: ReadEpoch) -> Marked | None:
        if sight is None:
            return super().mark(uid, collection, sight, read_epoch)
        change, after = self.marking(uid, sight, collection)
        self._cache.change_later([change])
        return Marked(sight.epoch, Token(None, 0), after)


class IgnoresRefusedMarks(Metadata):
    def mark(self, uid: int, collection: str, sight: Sight | None, read_epoch: ReadEpoch) -> Marked | None:
        if sight is None:
            return super().mark(uid, collection, sight, read_epoch)
        change, after = self.marking(uid, sight, collection)
        try:
            token = self._cache.store(change.key, change.value, change.expires, expect=change.expect)
        except Conflict:
            return None
        except BackendError as error:
            raise Unconfirmed(sight.epoch, str(error)) from None
        return Marked(sight.epoch, token, after)


class NoMarkAfterAMiss(Metadata):
    def mark(self, uid: int, collection: str, sight: Sight | None, read_epoch: ReadEpoch) -> Marked | None:
        if sight is not None and not sight.record.told and not sight.record.complete:
            return None
        return super().mark(uid, collection, sight, read_epoch)


class MarksWithSqlValues(Metadata):
    def mark(self, uid: int, collection: str, sight: Sight | None, read_epoch: ReadEpoch) -> Marked | None:
        epoch = self.settle_epoch(sight, read_epoch)
        if epoch is None:
            return None
        known = record_of(self._below.times(uid), self._kinds.cached_only)
        after = known.marked(collection, secrets.token_bytes(8))
        change = self._put(epoch, uid, after, Token(None, 0))
        for _ in range(2):
            try:
                return Marked(epoch, self._cache.store(change.key, change.value, change.expires), after)
            except BackendUnavailable:
                continue
            except BackendError:
                break
        raise Unconfirmed(epoch, "")


class SendsMarksAgain(Metadata):
    def mark(self, uid: int, collection: str, sight: Sight | None, read_epoch: ReadEpoch) -> Marked | None:
        mark = secrets.token_bytes(8)
        epoch = self.settle_epoch(sight, read_epoch)
        if epoch is None:
            return None
        for _ in range(3):
            try:
                if sight is None or sight.epoch != epoch:
                    sight = self._see(epoch, uid)
                if sight.record.entry(collection) == mark:
                    return Marked(epoch, sight.token, sight.record)
                after = sight.record.marked(collection, mark)
                change = self._put(epoch, uid, after, sight.token)
                token = self._cache.store(change.key, change.value, change.expires, expect=change.expect)
                return Marked(epoch, token, after)
            except BackendUnavailable:
                continue  # the very same again
            except BackendError:
                sight = None
        raise Unconfirmed(epoch, "")


class PublishesByItsMark(SendsMarksAgain):
    """Looks for its own mark after the commit, and publishes over whatever state of the record has it."""

    def publication(self, uid: int, marked: Marked, collection: str, entry: Entry | None, time: int) -> Store:
        seen = self.look(uid).sight
        if seen is not None and seen.record.entry(collection) == marked.record.entry(collection):
            marked = Marked(seen.epoch, seen.token, seen.record)
        return super().publication(uid, marked, collection, entry, time)


_ALL: Final = (UNCACHED, WRITE_THROUGH, CACHED_ONLY)
_SQL: Final = (UNCACHED, WRITE_THROUGH)
_ONE: Final = (UNCACHED,)
_KINDS: Final = ("put", "put", "times", "times", "modified")

PIECES: Final = (
    Piece(
        "mark-before-the-lock",
        "a draft of the protocol; model checking, V4",
        "A writer marks the record, and waits for the user's row afterwards.",
        "A reader fills the record in between, and is right; then the commit makes it wrong.",
        "stale",
        replaced(MarksBeforeTheLock),
        Mix(_ONE, kinds=_KINDS),
        calm,
    ),
    Piece(
        "publish-by-blind-set",
        "the 2012 layer, M2 and M3; model checking, V5",
        "A writer stores its copy of the whole record, whatever others have put there since.",
        "A device's upload is taken back for all others: they never learn of it, and their next write overwrites it.",
        "stale",
        replaced(PublishesBlindly),
        Mix(_SQL, kinds=_KINDS),
        calm,
    ),
    Piece(
        "publish-before-commit",
        "the 2012 layer, M4, M5 and M6; model checking, V6",
        "The new time is published while the transaction is still open.",
        "A device remembers a time at which it read the old items, and skips the change; or one that never was.",
        "never committed",
        replaced(PublishesBeforeTheCommit),
        Mix(_ONE, ("commit rolled back", "commit refused", "kill"), kinds=_KINDS),
    ),
    Piece(
        "foreign-mark-left-standing",
        "a draft of the protocol; model checking, V13",
        "A writer that finds the entry marked already does not mark it.",
        "The first writer's late publication covers the second one's commit.",
        "stale",
        replaced(LeavesForeignMarks),
        Mix(_ONE, ("change later late", "commit slow"), kinds=_KINDS),
    ),
    Piece(
        "anonymous-mark",
        "model checking, V14",
        "A writer looks at the record after its commit, and publishes over any mark it finds.",
        "It replaces the mark of a second writer, whose commit then stays hidden.",
        "stale",
        replaced(TakesAnyMarkForItsOwn),
        Mix(_ONE, ("change slow", "commit slow"), kinds=_KINDS),
    ),
    Piece(
        "failed-mark-ignored",
        "model checking, V15 and w5",
        "A writer that cannot reach the cache commits without it, and tells nobody.",
        "Processes that do reach the cache go on answering with the old times.",
        "stale",
        replaced(IgnoresFailedMarks),
        Mix(_ALL, ("cache away", "cache away long", "change lost"), kinds=_KINDS),
    ),
    Piece(
        "mark-not-waited-for",
        "model checking, V15",
        "A mark is sent, and the commit does not wait until it is known to be there.",
        "As long as it is on its way, or when it is lost, the old time is told after the write.",
        "stale",
        replaced(MarksWithoutWaiting),
        Mix(_ONE, ("change later never", "change later late"), kinds=_KINDS),
    ),
    Piece(
        "refused-mark-ignored",
        "model checking, V22c",
        "A writer whose mark is refused, since the record was changed meanwhile, goes on without.",
        "What changed it may have been a fill: the record is clean and stays as it is.",
        "stale",
        replaced(IgnoresRefusedMarks),
        Mix(_SQL, ("evict",), kinds=_KINDS),
        calm,
    ),
    Piece(
        "no-mark-after-an-early-miss",
        "model checking, V22b",
        "A writer that found no record before it had the lock places no mark.",
        "A reader's fill between look and lock stands as it is after the commit.",
        "stale",
        replaced(NoMarkAfterAMiss),
        Mix(_ONE, ("evict", "evict"), kinds=_KINDS),
    ),
    Piece(
        "mark-with-values-from-sql",
        "model checking, V26g",
        "A mark is set blindly, and the record that it is set with has the other times as SQL has them.",
        "When it is delayed it arrives after another collection's write, and takes that back.",
        "stale",
        replaced(MarksWithSqlValues),
        Mix(_SQL, ("change late",), kinds=_KINDS),
    ),
    Piece(
        "restore-after-an-unanswered-commit",
        "model checking, V16",
        "After a COMMIT without an answer the writer reads SQL, and takes its mark back.",
        "The COMMIT was still on its way: it comes, and nobody is told.",
        "stale",
        replaced(RestoresWhatItReads),
        Mix(_ONE, ("commit late",), kinds=_KINDS),
    ),
    Piece(
        "restore-after-a-failed-commit",
        "the 2012 layer; model checking, V29b",
        "A writer whose commit fails puts the old time back into the record.",
        "The commit had taken place after all.",
        "stale",
        replaced(Restores),
        Mix(_ONE, ("commit late", "commit reply lost", "sql connection lost"), kinds=_KINDS),
    ),
    Piece(
        "restore-after-a-rollback",
        "model checking, V29c",
        "Even after a sure rollback: the entry is restored, under the storage's time of the record.",
        "Another writer's commit, never published, is missing in the storage's time.",
        "stale",
        replaced(RestoresAfterRollback),
        Mix(_ONE, ("commit rolled back", "change later never"), kinds=_KINDS),
    ),
    Piece(
        "mark-sent-again",
        "a draft of the protocol; model checking, V34",
        "A mark that was not answered is sent again, the same.",
        "Nothing here.",
        "",
        replaced(SendsMarksAgain),
        Mix(_ONE, ("change late", "change reply lost", "evict"), kinds=_KINDS),
        harmless="Marks are stored over a state of the record, never where nothing is: of the two only one can be "
        "carried out, and what is published goes over that state and no other. New bits each time are a second belt.",
    ),
    Piece(
        "mark-added-again",
        "a draft of the protocol; model checking, V34",
        "The same by `add`, with a publication over any state that has the writer's mark.",
        "The first `add` arrives after a second writer's commit and an eviction, and the old time is published.",
        "stale",
        replaced(AddsRecords, PublishesByItsMark),
        Mix(_ONE, ("change late", "evict"), kinds=_KINDS),
    ),
    Piece(
        "tokens-of-another-life",
        "model checking, V8",
        "A token does not say which life of the server it is from, and numbers begin anew after a restart.",
        "A late store from before a restart hits what happens to have the same number.",
        "stale",
        replaced(),
        Mix(_SQL, ("restart", "restart", "change later late", "freeze"), kinds=_KINDS),
        bound=False,
    ),
)
