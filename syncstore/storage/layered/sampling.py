"""A storage that compares some of its answers with SQL while it serves: it counts and logs where the cache was wrong.

A sampled answer is held against what the same layer says when it trusts neither records nor copies, before and
after. An answer that equals one of them is right. One that differs from both was given wrongly, if nothing was
committed in between, which the storage's time tells since each commit has its own; and so was one that is older
than what was committed before, or newer than anything committed after. So a difference that is counted is one, also
where the cache has mended it since, and a user who is being written gives no false alarm. It costs an answer of SQL
or two for each sampled read, more where there is a difference, and nothing for the others but a random number.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeVar

from syncstore.bso import BSO
from syncstore.cache.states import ServerState
from syncstore.clock import Clock, format_ticks
from syncstore.errors import NotFound, SyncError, Unavailable
from syncstore.storage.api import Page, Query, Storage, Totals, Work

log = logging.getLogger(__name__)

_REST = 30.0
"""Seconds without samples after SQL did not answer one: requests that the cache can answer are not to wait for it."""

Answer = Totals | Page | BSO | int | None
"""What a read gave; None is NotFound."""

_T = TypeVar("_T", Totals, Page, BSO, int)


class _Truth(NamedTuple):
    """What SQL said, and the storage's time that was read with it."""

    stamp: int
    answer: Answer


class Untrusting:
    """The state of a cache server, for a layer that is to trust nothing in it (see ServerState)."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def trusted(self) -> int | None:
        """Never."""
        return None

    def still(self, epoch: int) -> bool:
        """As it is: for what must be written."""
        return self._state.still(epoch)

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """As it is: for what must be written."""
        return self._state.judge(read_epoch)

    def trouble(self, reason: str) -> None:
        """As it is."""
        self._state.trouble(reason)

    def answered(self) -> None:
        """As it is."""
        self._state.answered()

    def troubled(self) -> bool:
        """As it is."""
        return self._state.troubled()

    def declare_failed(self, epoch: int, reason: str) -> Unavailable:
        """As it is."""
        return self._state.declare_failed(epoch, reason)


class SampledStorage:
    """A storage whose reads are sampled (see Storage). `reference` is the same data without the cache.

    `share` is how many reads of all are sampled, from 0 to 1. The counters only grow: `compared` samples, of
    which `disagreements` were wrong and `undecided` ones differed while the user was written.
    """

    def __init__(
        self,
        storage: Storage,
        reference: Storage,
        share: float,
        clock: Clock,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._storage = storage
        self._reference = reference
        self._share = share
        self._clock = clock
        self._draw = draw
        self._resume = float("-inf")
        self._counting = threading.Lock()
        self.compared = 0
        self.disagreements = 0
        self.undecided = 0

    # -- reads

    def collection_times(self, uid: int) -> Totals:
        """The time of every existing collection (see Storage)."""
        if self._spared():
            return self._storage.collection_times(uid)
        return self._sampled(uid, "the times of all collections", lambda one: one.collection_times(uid))

    def collection_counts(self, uid: int) -> Totals:
        """The number of live items of every collection that has any (see Storage)."""
        return self._storage.collection_counts(uid)  # which SQL counts

    def collection_usage(self, uid: int) -> Totals:
        """The payload bytes of the live items of every collection that has any (see Storage)."""
        return self._storage.collection_usage(uid)  # which SQL counts

    def collection_modified(self, uid: int, collection: str) -> int:
        """The collection's time (see Storage)."""
        if self._spared():
            return self._storage.collection_modified(uid, collection)
        return self._sampled(
            uid, f"the time of {collection}", lambda one: one.collection_modified(uid, collection)
        )

    def find(self, uid: int, collection: str, query: Query) -> Page:
        """The items that match (see Storage)."""
        if self._spared():
            return self._storage.find(uid, collection, query)
        return self._sampled(uid, f"items of {collection}", lambda one: one.find(uid, collection, query))

    def item(self, uid: int, collection: str, item: str) -> BSO:
        """One live item (see Storage)."""
        if self._spared():
            return self._storage.item(uid, collection, item)
        return self._sampled(uid, f"an item of {collection}", lambda one: one.item(uid, collection, item))

    def _spared(self) -> bool:
        """Whether this read is none of the sample."""
        return self._draw() >= self._share or self._clock.monotonic() < self._resume

    def _sampled(self, uid: int, what: str, read: Callable[[Storage], _T]) -> _T:
        try:
            # The storage's time comes first here and last in _settle: all that is read lies between them.
            before = self._truth(read, self._stamp(uid))
        except SyncError:
            self._resume = self._clock.monotonic() + _REST
            return read(self._storage)
        try:
            answer = read(self._storage)
        except NotFound:
            self._compare(uid, what, read, before, None)
            raise
        self._compare(uid, what, read, before, answer)
        return answer

    def _stamp(self, uid: int) -> int:
        return self._reference.collection_times(uid).modified

    def _truth(self, read: Callable[[Storage], _T], stamp: int) -> _Truth:
        try:
            return _Truth(stamp, read(self._reference))
        except NotFound:
            return _Truth(stamp, None)

    def _compare(
        self, uid: int, what: str, read: Callable[[Storage], _T], before: _Truth, answer: Answer
    ) -> None:
        verdict = True if _equal(answer, before.answer) else self._settle(uid, what, read, before, answer)
        with self._counting:
            self.compared += 1
            self.disagreements += verdict is False
            self.undecided += verdict is None

    def _settle(
        self, uid: int, what: str, read: Callable[[Storage], _T], before: _Truth, answer: Answer
    ) -> bool | None:
        """Whether the answer was right; None when that cannot be told, because the user was written meanwhile."""
        try:
            after = self._truth(read, 0)
            stamp = self._stamp(uid)
        except SyncError:
            return None
        if _equal(answer, after.answer):
            return True
        if before.stamp != stamp and not _impossible(answer, before, stamp):
            return None
        log.error(
            "the cache was wrong about user %d, %s: %s; SQL had %s, with the storage's time %s before and %s after",
            uid,
            what,
            _facts(answer),
            _facts(before.answer),
            format_ticks(before.stamp),
            format_ticks(stamp),
        )
        return False

    # -- the rest is the storage's

    def lock_for_write(
        self, uid: int, collection: str | None, items: Sequence[str] = (), *, create: bool = False
    ) -> AbstractContextManager[Work]:
        """Open a unit of work (see Storage)."""
        return self._storage.lock_for_write(uid, collection, items, create=create)

    def check(self) -> None:
        """Ask the store for a sign of life (see Storage)."""
        self._storage.check()

    def close(self) -> None:
        """Give back what the storage holds, of which the reference has no more."""
        self._storage.close()


def _equal(one: Answer, other: Answer) -> bool:
    if isinstance(one, Page) and isinstance(other, Page):
        return (one.modified, one.next, list(one.items), list(one.ids)) == (
            other.modified,
            other.next,
            list(other.items),
            list(other.ids),
        )
    return one == other


def _impossible(answer: Answer, before: _Truth, stamp: int) -> bool:
    """Whether the answer is wrong at any moment between what SQL said before and the storage's time after."""
    time = _modified(answer)
    if isinstance(answer, Totals):
        return not before.stamp <= time <= stamp
    # A collection's time never goes back, nor an item's, but to nothing when it is deleted.
    return time > stamp or 0 < time < _modified(before.answer)


def _modified(answer: Answer) -> int:
    if isinstance(answer, int):
        return answer
    return 0 if answer is None else answer.modified


def _facts(answer: Answer) -> str:
    """Times and numbers; nothing of what users wrote."""
    if answer is None:
        return "nothing"
    if isinstance(answer, Totals):
        times = " ".join(f"{name}={format_ticks(time)}" for name, time in sorted(answer.collections.items()))
        return f"storage={format_ticks(answer.modified)} {times}".rstrip()
    if isinstance(answer, Page):
        return f"{len(answer.items) + len(answer.ids)} items at {format_ticks(answer.modified)}"
    return format_ticks(_modified(answer))
