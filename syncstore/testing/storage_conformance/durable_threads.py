"""A DurableStorage that many threads use at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from syncstore.bso import Change
from syncstore.clock import SystemClock
from syncstore.errors import Conflict
from syncstore.storage.durable import Being, DurableStorage, KeptTime
from syncstore.testing.storage_conformance.durable_rooms import DurableRooms
from syncstore.testing.storage_conformance.rooms import OpenStorage, User


class DurableThreads(DurableRooms):
    """What a DurableStorage does when many use it at once."""

    def test_writers_of_kept_times_exclude_each_other(self, user: User, open_storage: OpenStorage) -> None:
        """Each adds one to what it read inside its work, in a collection of its own and in one of all."""
        store = cast("DurableStorage", open_storage(SystemClock()))

        def add_ten(thread: int) -> list[int]:
            times: list[int] = []
            while len(times) < 10:
                try:
                    with store.lock_for_times(user.uid, f"own-{thread}") as work:
                        time = work.draw_time()
                        for name in (f"own-{thread}", "all"):
                            before = work.kept.get(name, KeptTime(0))
                            work.keep_time(name, KeptTime(time, Being.LIVE, before.items + 1))
                except Conflict:
                    continue
                times.append(time)
            return times

        with ThreadPoolExecutor(4) as threads:
            times = [time for many in threads.map(add_ten, range(4)) for time in many]
        kept = store.times(user.uid).kept
        assert len(set(times)) == 40
        assert kept["all"] == KeptTime(max(times), Being.LIVE, 40)
        assert {kept[f"own-{thread}"].items for thread in range(4)} == {10}

    def test_times_are_not_settled_while_another_thread_writes(
        self, user: User, durable: DurableStorage
    ) -> None:
        user.put(Change("a", "1"))
        with ThreadPoolExecutor(1) as elsewhere, user.work("a", create=True) as work:
            assert elsewhere.submit(durable.settled_times, user.uid).result(20) is None
            work.put([Change("a", "2")])
            assert elsewhere.submit(durable.settled_times, user.uid).result(20) is None
            assert elsewhere.submit(durable.times, user.uid).result(20) is not None

    def test_settled_times_are_never_older_than_what_was_acknowledged(
        self, user: User, open_storage: OpenStorage
    ) -> None:
        """And never of two moments: here each write gives one time to storage, collection and a kept time."""
        store = cast("DurableStorage", open_storage(SystemClock()))
        done = threading.Event()
        written = [0]

        def write() -> None:
            try:
                for number in range(100):
                    with store.lock_for_write(user.uid, "col", ["a"], create=True) as work:
                        at = work.put([Change("a", str(number))])
                        work.keep_time("tabs", KeptTime(at))
                    written.append(at)
            finally:
                done.set()

        def read() -> int:
            settled = 0
            while not done.is_set():
                acknowledged = written[-1]
                times = store.settled_times(user.uid)
                if times is not None and times.modified:
                    assert times.modified >= acknowledged
                    assert times.collections == {"col": times.modified}
                    assert times.kept == {"tabs": KeptTime(times.modified)}
                    settled += 1
            return settled

        with ThreadPoolExecutor(3) as threads:
            writer = threads.submit(write)
            readers = [threads.submit(read) for _ in range(2)]
            writer.result(60)
            for reader in readers:
                reader.result(20)
        assert store.settled_times(user.uid) == store.times(user.uid)

    def test_one_of_eight_advances_an_epoch(self, user: User, durable: DurableStorage) -> None:
        name = f"contended-{user.uid}"
        together = threading.Barrier(8)

        def advance(_: int) -> list[bool]:
            won: list[bool] = []
            for seen in range(5):
                together.wait(20)
                try:
                    won.append(durable.records.advance(name, 8 * seen, 8 * seen + 8, ""))
                except Conflict:  # a store may be too busy to say; then it was not this one
                    won.append(False)
            return won

        with ThreadPoolExecutor(8) as threads:
            rounds = list(threads.map(advance, range(8)))
        assert [sum(won) for won in zip(*rounds, strict=True)] == [1] * 5
        assert durable.records.read([name])[0].epoch == 40
