"""Deleting what has expired: items, batches and their staged items, in bounded steps.

All goes under the user's lock: with items the counts and sizes of their collections change, and a batch may be
in the hands of a commit. No time changes, because clients have known all along that the items would go. A step
looks at a bounded number of users or rows, so that the purge never holds anything for long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from syncstore.clock import Clock
from syncstore.errors import SyncError
from syncstore.locks.api import WHOLE_STORAGE, Locks
from syncstore.locks.sql import SqlGrant
from syncstore.storage.sql.engine import Database, Transaction
from syncstore.storage.sql.statements import Statements

log = logging.getLogger(__name__)

# For a user at work; on SQLite for anybody who writes.
_PATIENCE_SECONDS = 0.2


class Purged(msgspec.Struct, frozen=True):
    """What one step did. `users` counts those looked at, the rest what was deleted."""

    users: int = 0
    items: int = 0
    batches: int = 0
    skipped: int = 0


class Purge:
    """The purge of one database. `grace` and `batch_lifetime` are in seconds, `step` is a number of rows."""

    def __init__(
        self,
        database: Database,
        statements: Statements,
        locks: Locks,
        clock: Clock,
        *,
        grace: int,
        batch_lifetime: int,
        step: int,
    ) -> None:
        self._database = database
        self._statements = statements
        self._locks = locks
        self._clock = clock
        self._grace_ms = grace * 1000
        self._batch_lifetime_ms = batch_lifetime * 1000
        self._step = step

    def steps(self) -> Iterator[Purged]:
        """One pass over the whole database, a step at a time."""
        yield from self._batches()
        yield from self._items()
        yield from self._lock_remains()

    # -- batches: under the user's lock, too, or one that ends just now would lose its items to the purge while a
    # commit, perhaps by a clock that is behind ours, still finds it open

    def _batches(self) -> Iterator[Purged]:
        oldest = self._clock.now_ms() - self._batch_lifetime_ms - self._grace_ms
        left: set[tuple[int, int]] = set()
        while True:
            limit = self._step + len(left)
            rows = self._database.query(self._statements.old_batches, {"oldest": oldest, "limit": limit})
            found = {(int(userid), int(batch)) for userid, batch in rows} - left
            busy = {(uid, batch) for uid, batch in found if not self._delete_batch(uid, batch)}
            left |= busy
            yield Purged(batches=len(found) - len(busy), skipped=len(busy))
            if len(rows) < limit:
                return

    def _delete_batch(self, uid: int, batch: int) -> bool:
        """Delete a batch with its items; False when its user is at work, and the next pass comes by again."""
        statements, values = self._statements, {"uid": uid, "batch": batch}
        try:
            with self._locked(uid) as at:
                at.finish([statements.delete_staged.write(values), statements.close_batch.write(values)])
        except SyncError as error:
            log.info("a batch of user %d is purged later: %s", uid, error)
            return False
        return True

    # -- items, user by user

    def _items(self) -> Iterator[Purged]:
        latest = self._clock.now_ms() - self._grace_ms
        after = -1
        while True:
            users = self._database.query(self._statements.users_after, {"uid": after, "limit": self._step})
            if not users:
                return
            values = {"after": after, "uid": users[-1][0], "latest": latest}
            items = skipped = 0
            for (userid,) in self._database.query(self._statements.users_with_expired, values):
                try:
                    items += self._user(int(userid), latest)
                except SyncError as error:
                    # A busy user is hardly waited for: the next pass comes by again.
                    skipped += 1
                    log.info("user %d is purged later: %s", userid, error)
            yield Purged(users=len(users), items=items, skipped=skipped)
            after = int(users[-1][0])

    # -- what dead holders have left where the locks are kept

    def _lock_remains(self) -> Iterator[Purged]:
        try:
            for _ in self._locks.sweep():
                yield Purged()
        except SyncError as error:
            log.info("what is left of locks is removed later: %s", error)

    def _user(self, uid: int, latest: int) -> int:
        with self._locked(uid) as at:
            return self._delete_expired(at, uid, latest)

    @contextmanager
    def _locked(self, uid: int) -> Iterator[Transaction]:
        """The transaction that holds the user's row; rolled back when the block fails."""
        with self._locks.write(uid, WHOLE_STORAGE, _PATIENCE_SECONDS) as handle:
            grant = handle.grant
            lent = grant.transaction if isinstance(grant, SqlGrant) else None
            at = lent if isinstance(lent, Transaction) else self._lock_user(uid)
            try:
                yield at
            except BaseException:
                at.rollback()
                raise

    def _lock_user(self, uid: int) -> Transaction:
        return self._database.lock_user(uid, exclusive=True, timeout=_PATIENCE_SECONDS)

    def _delete_expired(self, at: Transaction, uid: int, latest: int) -> int:
        statements = self._statements
        values = {"uid": uid, "now": latest}
        rows = at.query(statements.expired_by_collection, values)
        writes = [
            statements.shrink_collection.write(
                {"uid": uid, "collection": number, "items": items, "bytes": size}
            )
            for number, items, size in rows
        ]
        at.finish([statements.delete_expired.write(values), *writes] if rows else [])
        return sum(int(items) for _, items, _ in rows)


class Passes(Protocol):
    """A purge, as whoever repeats it sees it."""

    def steps(self) -> Iterator[Purged]:
        """One pass, a step at a time."""


class Sweeper:
    """A thread that purges every `interval` seconds inside the serving process; 0 seconds: none."""

    def __init__(self, purge: Passes, interval: float) -> None:
        self._purge = purge
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; the first pass comes after one interval."""
        if self._interval > 0:
            self._thread = threading.Thread(target=self._run, name="syncstore-purge", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End, after the step at hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            try:
                self._sweep()
            except SyncError as error:
                log.warning("the purge stopped early and begins anew in %g s: %s", self._interval, error)
            except Exception:
                # The edge of the thread: a fault that ended it would end all purging, and nobody would see.
                log.exception("the purge failed and begins anew in %g s", self._interval)

    def _sweep(self) -> None:
        items = batches = 0
        for step in self._purge.steps():
            items += step.items
            batches += step.batches
            if self._stop.is_set():
                break
        if items or batches:
            log.info("purged %d items and %d batches", items, batches)
