"""Snapshots: what has a time <= that of the answer is in the answer, while writers write (section 18)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from syncstore.bso import Change
from syncstore.clock import SystemClock
from syncstore.storage.api import Query
from syncstore.testing.storage_conformance.rooms import OpenStorage, Rooms, User

ROUNDS = 40


class SnapshotRules(Rooms):
    """One writer, readers beside it, and every answer held to the rule."""

    def test_a_listing_never_has_a_time_without_its_items(
        self, user: User, open_storage: OpenStorage
    ) -> None:
        storage = open_storage(SystemClock())
        mine = user.of(storage)
        mine.put(Change("0", "0"))
        done = threading.Event()
        seen: list[tuple[int, frozenset[int]]] = []

        def write() -> list[int]:
            try:
                return [mine.put(Change(str(i), str(i)), Change("count", str(i))) for i in range(1, ROUNDS)]
            finally:
                done.set()

        def read() -> None:
            while not done.is_set():
                page = storage.find(mine.uid, "col", Query(full=True, sort="oldest"))
                times = [item.modified for item in page.items]
                assert times == sorted(times)
                assert max(times) == page.modified, "the collection's time is that of its newest item here"
                numbers = frozenset(int(item.id) for item in page.items if item.id != "count")
                assert numbers == frozenset(range(max(numbers) + 1))
                count = next((int(item.payload) for item in page.items if item.id == "count"), 0)
                assert count == max(numbers), "two items of one write were seen apart"
                seen.append((page.modified, numbers))

        with ThreadPoolExecutor(3) as threads:
            writer = threads.submit(write)
            readers = [threads.submit(read) for _ in range(2)]
            written = [0, *writer.result(60)]
            for reader in readers:
                reader.result(20)
        for modified, numbers in seen:
            assert {i for i, time in enumerate(written) if time <= modified} == numbers

    def test_the_maps_belong_to_their_time(self, user: User, open_storage: OpenStorage) -> None:
        storage = open_storage(SystemClock())
        mine, other = user.of(storage), user.of(storage).at("other")
        mine.put(Change("0", "0"))
        done = threading.Event()

        def write() -> None:
            try:
                for i in range(1, ROUNDS):
                    (mine if i % 2 else other).put(Change(str(i), "x"))
            finally:
                done.set()

        def read() -> None:
            last = 0
            while not done.is_set():
                times = storage.collection_times(mine.uid)
                assert max(times.collections.values()) == times.modified
                counts = storage.collection_counts(mine.uid)
                usage = storage.collection_usage(mine.uid)
                assert last <= times.modified <= counts.modified <= usage.modified
                assert sum(usage.collections.values()) >= sum(counts.collections.values())
                last = usage.modified

        with ThreadPoolExecutor(3) as threads:
            writer = threads.submit(write)
            readers = [threads.submit(read) for _ in range(2)]
            writer.result(60)
            for reader in readers:
                reader.result(20)

    def test_a_batch_appears_whole(self, user: User, open_storage: OpenStorage) -> None:
        storage = open_storage(SystemClock())
        mine = user.of(storage)
        started = mine.put(Change("x", "x"))
        batch = mine.open_batch(*(Change(f"{i:03}", "x") for i in range(200)))
        done = threading.Event()
        seen: set[tuple[int, int]] = set()

        def read() -> None:
            while not done.is_set():
                page = storage.find(mine.uid, "col", Query())
                seen.add((page.modified, len(page.ids)))

        with ThreadPoolExecutor(2) as threads:
            reader = threads.submit(read)
            try:
                committed = mine.commit(batch)
            finally:
                done.set()
            reader.result(20)
        assert seen <= {(started, 1), (committed, 201)}
