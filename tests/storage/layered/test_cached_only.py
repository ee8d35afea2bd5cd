"""What readers and writers make of items in the cache, when others are at work between two of their steps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from syncstore.bso import Change
from syncstore.cache.api import Item
from syncstore.cache.memory import MemoryProvider
from syncstore.cache.states import AlwaysUp
from syncstore.clock import Clock
from syncstore.storage.api import Query
from syncstore.storage.durable import StoredItem
from syncstore.storage.layered import contents
from syncstore.storage.layered.cached_only import cached_only_key
from syncstore.storage.layered.contents import Contents
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.store import LayeredStorage
from syncstore.storage.sql import migrate
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.sql_store import open_sql_store

_users = itertools.count(1)


class WatchedProvider(MemoryProvider):
    """Calls `after_fetch` once, when it has answered; so others are served between two steps of a writer."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, max_value=1_000_000)
        self.after_fetch: Callable[[], None] | None = None

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        found = super().fetch(keys, reserve=reserve)
        call, self.after_fetch = self.after_fetch, None
        if call is not None:
            call()
        return found


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def cache(clock: SteppableClock) -> WatchedProvider:
    return WatchedProvider(clock)


@pytest.fixture
def storage(tmp_path: Path, clock: SteppableClock, cache: WatchedProvider) -> Iterator[LayeredStorage]:
    url = f"sqlite:///{tmp_path / 'sync.db'}"
    migrate.upgrade(url)
    below = open_sql_store(url, clock)
    layered = LayeredStorage(
        below.storage, cache, AlwaysUp(), Kinds(cached_only=["tabs"], write_through=["meta"]), clock
    )
    yield layered
    layered.close()


@pytest.fixture
def uid(storage: LayeredStorage) -> int:
    """A user with tabs; others have some, too."""
    other, user = next(_users), next(_users)
    put(storage, other, "theirs")
    put(storage, user, "first")
    storage.collection_times(user)
    return user


def put(storage: LayeredStorage, uid: int, item: str) -> int:
    with storage.lock_for_write(uid, "tabs", (item,), create=True) as work:
        return work.put([Change(item, "x")])


def rolled_back_then_evicted_and_replaced(storage: LayeredStorage, cache: WatchedProvider, uid: int) -> None:
    """Puts items there that a writer stored for the next time before it was rolled back; the next fetch finds them.

    Then they are evicted, and another writer draws the same time.
    """
    time = storage.collection_times(uid).collections["tabs"]
    before = storage.find(uid, "tabs", Query(full=True)).items
    stray = [StoredItem(one.id, one.modified, "x", None, None) for one in before]
    stray.append(StoredItem("stray", time + 1, "x", None, None))
    key = cached_only_key(uid, "tabs")
    held = cache.retrieve(key).value

    def evict_and_replace() -> None:
        cache.store(key, held)
        assert put(storage, uid, "second") == time + 1

    cache.store(key, contents.encode(Contents(time + 1, stray)))
    cache.after_fetch = evict_and_replace


def test_a_writer_does_not_believe_items_that_were_rolled_back_and_whose_time_was_drawn_again(
    storage: LayeredStorage, cache: WatchedProvider, uid: int
) -> None:
    rolled_back_then_evicted_and_replaced(storage, cache, uid)

    with storage.lock_for_write(uid, "tabs", ("second",)) as work:
        assert (work.item_modified("stray"), work.item_modified("second") > 0) == (0, True)


def test_nor_writes_them(storage: LayeredStorage, cache: WatchedProvider, uid: int) -> None:
    rolled_back_then_evicted_and_replaced(storage, cache, uid)

    put(storage, uid, "third")

    assert {one.id for one in storage.find(uid, "tabs", Query(full=True)).items} == {
        "first",
        "second",
        "third",
    }


@pytest.mark.parametrize("collection", ["tabs", "meta"])
def test_an_item_that_expires_while_the_cache_is_asked_is_still_told(
    storage: LayeredStorage, cache: WatchedProvider, clock: SteppableClock, uid: int, collection: str
) -> None:
    """Somebody may have given it a longer life meanwhile, which changes neither its time nor the collection's."""
    with storage.lock_for_write(uid, collection, ("short",), create=True) as work:
        work.put([Change("short", "x", ttl=10)])
    for _ in range(2):
        storage.find(uid, collection, Query(full=True))

    cache.after_fetch = lambda: clock.step(11)
    assert "short" in {one.id for one in storage.find(uid, collection, Query(full=True)).items}
    assert "short" not in {one.id for one in storage.find(uid, collection, Query(full=True)).items}

    clock.step(-11)
    cache.after_fetch = lambda: clock.step(11)
    assert storage.item(uid, collection, "short").payload == "x"


class TestItemsOfAWriterWhoseClockWasAhead:
    """He stored them, and never came to his commit."""

    @pytest.fixture
    def ahead(self, storage: LayeredStorage, cache: WatchedProvider, clock: SteppableClock, uid: int) -> int:
        """Their time, in ticks."""
        time = clock.now() + 3600 * 100
        items = [
            StoredItem("first", clock.now(), "x", None, None),
            StoredItem("ahead", time, "x", None, None),
        ]
        cache.store(cached_only_key(uid, "tabs"), contents.encode(Contents(time, items)))
        return time

    def test_are_taken_over_at_the_present_time(
        self, storage: LayeredStorage, clock: SteppableClock, uid: int, ahead: int
    ) -> None:
        put(storage, uid, "next")
        page = storage.find(uid, "tabs", Query(full=True))
        assert {one.id for one in page.items} == {"first", "ahead", "next"}
        assert all(one.modified <= page.modified <= clock.now() + 10 for one in page.items)
        assert page.modified == storage.collection_times(uid).collections["tabs"]

    def test_do_not_keep_an_operator_from_clearing(
        self, storage: LayeredStorage, clock: SteppableClock, uid: int, ahead: int
    ) -> None:
        assert storage.lose(uid, "tabs") is not None
        assert storage.find(uid, "tabs", Query(full=True)).items == []
        assert put(storage, uid, "again") <= clock.now() + 10
