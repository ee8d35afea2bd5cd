"""What every topic of the suite stands on: the storage, the clock, a fresh user and the neighbour."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest

from syncstore.bso import BSO, Change
from syncstore.clock import Clock
from syncstore.storage.api import Query, Storage, Work
from syncstore.testing.clocks import SteppableClock

BATCH_LIFETIME = 7200
"""The lifetime in seconds that a store under test gives to its batches."""

COLLECTION = "col"
_uids = itertools.count(secrets.randbelow(2**30), 2)


class OpenStorage(Protocol):
    """Opens the store under test, with a quota in bytes or none; all share their data, which may not be empty."""

    def __call__(self, clock: Clock, quota: int | None = None) -> Storage: ...


class Fault(Exception):
    """What a block is left with in `User.fail`."""


class User:
    """One user of a storage: the calls of the interface without the words that never change."""

    def __init__(self, storage: Storage, uid: int, collection: str = COLLECTION) -> None:
        self.storage = storage
        self.uid = uid
        self.collection = collection

    def of(self, storage: Storage) -> User:
        """The same user, seen through another storage."""
        return User(storage, self.uid, self.collection)

    def at(self, collection: str) -> User:
        """The same user in another collection."""
        return User(self.storage, self.uid, collection)

    # -- writes

    def work(self, *items: str, create: bool = False) -> AbstractContextManager[Work]:
        """A unit of work on the collection."""
        return self.storage.lock_for_write(self.uid, self.collection, items, create=create)

    def wipe_work(self) -> AbstractContextManager[Work]:
        """A unit of work on the whole storage."""
        return self.storage.lock_for_write(self.uid, None)

    def put(self, *changes: Change) -> int:
        """Put items in a work of their own."""
        with self.work(*(change.id for change in changes), create=True) as work:
            return work.put(changes)

    def delete(self, item: str) -> int:
        """Delete one item."""
        with self.work(item) as work:
            return work.delete_item(item)

    def delete_ids(self, *items: str) -> int:
        """Delete several items."""
        with self.work(*items) as work:
            return work.delete_items(items)

    def delete_collection(self) -> int:
        """Delete the collection."""
        with self.work() as work:
            return work.delete_collection()

    def delete_all(self) -> int:
        """Delete everything of the user."""
        with self.wipe_work() as work:
            return work.delete_all()

    def open_batch(self, *changes: Change) -> str:
        """Open a batch with its first items."""
        with self.work(create=True) as work:
            batch = work.create_batch()
            if changes:
                work.append_to_batch(batch, changes)
        return batch

    def append(self, batch: str, *changes: Change) -> None:
        """Stage items."""
        with self.work(create=True) as work:
            work.append_to_batch(batch, changes)

    def commit(self, batch: str, *changes: Change) -> int:
        """Commit a batch, with last items."""
        with self.work(create=True) as work:
            return work.commit_batch(batch, changes)

    def fail(self, change: Callable[[Work], object], *items: str) -> None:
        """Make a change in a work, and leave it with a Fault."""
        with self.work(*items, create=True) as work:
            change(work)
            raise Fault

    # -- reads

    def item(self, item: str) -> BSO:
        """One item."""
        return self.storage.item(self.uid, self.collection, item)

    def items(self, **query: Any) -> list[BSO]:
        """The full items of a query."""
        return list(self.storage.find(self.uid, self.collection, Query(full=True, **query)).items)

    def ids(self, **query: Any) -> list[str]:
        """The ids of a query."""
        return list(self.storage.find(self.uid, self.collection, Query(**query)).ids)

    def modified(self) -> int:
        """The collection's time."""
        return self.storage.collection_modified(self.uid, self.collection)

    def mark(self) -> int:
        """The storage's time."""
        return self.storage.collection_times(self.uid).modified

    def everything(self) -> tuple[object, ...]:
        """All that any read tells about the user, to be compared with a later look."""
        times = self.storage.collection_times(self.uid)
        return (
            times,
            self.storage.collection_counts(self.uid),
            self.storage.collection_usage(self.uid),
            {name: self.at(name).items(sort="oldest") for name in times.collections},
        )


class Rooms:
    """The fixtures that all topics share."""

    @pytest.fixture
    def open_storage(self) -> OpenStorage:
        """How the store under test is opened: what a subclass must bring."""
        raise NotImplementedError("a conformance class needs a fixture `open_storage`")

    @pytest.fixture
    def clock(self) -> SteppableClock:
        """The clock of `storage`."""
        return SteppableClock()

    @pytest.fixture
    def storage(self, open_storage: OpenStorage, clock: SteppableClock) -> Storage:
        """The store under test, on the test's clock, without a quota."""
        return open_storage(clock)

    @pytest.fixture
    def user(self, storage: Storage, neighbour: object) -> User:
        """A user that nobody has used."""
        return User(storage, next(_uids))

    @pytest.fixture
    def new_user(self, storage: Storage) -> Callable[[], User]:
        """Makes further users that nobody has used, without neighbour."""
        return lambda: User(storage, next(_uids))

    @pytest.fixture(autouse=True)
    def neighbour(self, storage: Storage, clock: SteppableClock) -> Iterator[None]:
        """A user beside the one to come, who must have at the end what there was at the beginning."""
        theirs = User(storage, next(_uids) + 1)
        theirs.put(Change("a", "theirs", 7), Change("b", "too", ttl=10**8), Change("dead", "x", ttl=0))
        theirs.at("bookmarks").put(Change("a", "marks"))
        theirs.open_batch(Change("a", "staged"))
        clock.step(0.05)
        before, present = theirs.everything(), clock.now_ms()
        yield
        clock.step(max(0, present - clock.now_ms()) / 1000)  # or an expired item would be back
        assert theirs.everything() == before
