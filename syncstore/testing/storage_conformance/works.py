"""Units of work: one change, all of it or nothing, and nobody else meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncstore.bso import BSO, Change
from syncstore.clock import SystemClock
from syncstore.errors import Conflict, NotFound
from syncstore.storage.api import Work
from syncstore.testing.storage_conformance.rooms import Fault, OpenStorage, Rooms, User

CHANGES: dict[str, Callable[[Work], object]] = {
    "put": lambda work: work.put([Change("a", "changed"), Change("new", "x")]),
    "delete_item": lambda work: work.delete_item("a"),
    "delete_items": lambda work: work.delete_items(["a", "b"]),
    "delete_collection": lambda work: work.delete_collection(),
    "delete_all": lambda work: work.delete_all(),
    "create_batch": lambda work: work.create_batch(),
}


class WorkRules(Rooms):
    """What a unit of work promises."""

    def filled(self, user: User) -> Sequence[object]:
        """Two items; everything that can be seen."""
        user.put(Change("a", "1", 1, 1000), Change("b", "2"))
        return user.everything()

    @pytest.mark.parametrize("change", CHANGES)
    def test_an_exception_takes_everything_back(self, user: User, change: str) -> None:
        before = self.filled(user)
        with pytest.raises(Fault):
            user.fail(CHANGES[change], "a", "b", "new")
        assert user.everything() == before
        user.put(Change("a", "the user is not locked"))

    @pytest.mark.parametrize("change", CHANGES)
    def test_nothing_is_visible_before_the_block_ends(self, user: User, change: str) -> None:
        before = self.filled(user)
        with ThreadPoolExecutor(1) as elsewhere, user.work("a", "b", "new", create=True) as work:
            CHANGES[change](work)
            assert elsewhere.submit(user.everything).result(20) == before

    def test_a_work_without_a_change_changes_nothing(self, user: User) -> None:
        before = self.filled(user)
        with user.work("a", create=True) as work:
            assert work.item_modified("a")
        assert user.everything() == before

    def test_a_work_that_only_looked_leaves_no_trace_of_a_new_user(self, user: User) -> None:
        with user.at("never-written").work("a"):
            pass
        assert user.everything()[0] == user.storage.collection_times(user.uid)
        assert user.mark() == 0

    @pytest.mark.parametrize("first", CHANGES)
    def test_a_work_makes_one_change(self, user: User, first: str) -> None:
        self.filled(user)
        with user.work("a", "b", "new", create=True) as work:
            CHANGES[first](work)
            with pytest.raises(RuntimeError):
                work.put([Change("b", "second")])
        assert "second" not in [item.payload for item in user.items()]

    def test_a_batch_is_opened_and_filled_in_one_work(self, user: User) -> None:
        with user.work(create=True) as work:
            batch = work.create_batch()
            work.append_to_batch(batch, [Change("a", "1")])
        at = user.commit(batch)
        assert user.items() == [BSO("a", at, "1")]

    def test_deleting_a_missing_item_is_not_found(self, user: User) -> None:
        before = self.filled(user)
        for missing in (user, user.at("never-written")):
            with pytest.raises(NotFound):
                missing.delete("missing")
        assert user.everything() == before

    def test_a_failed_block_is_told_unchanged(self, user: User) -> None:
        error = ZeroDivisionError("mine")
        with pytest.raises(ZeroDivisionError) as caught, user.work(create=True):
            raise error
        assert caught.value is error

    def test_writers_of_one_user_exclude_each_other(self, user: User, open_storage: OpenStorage) -> None:
        """Each adds one to a number that it read inside its work: none is lost."""
        storage = open_storage(SystemClock())
        user.of(storage).put(Change("n", "0"))

        def add_ten(_: int) -> list[int]:
            mine = user.of(storage)
            times: list[int] = []
            while len(times) < 10:
                try:
                    with mine.work("n", create=True) as work:
                        number = int(mine.item("n").payload)
                        times.append(work.put([Change("n", str(number + 1))]))
                except Conflict:
                    continue
            return times

        with ThreadPoolExecutor(4) as threads:
            times = [time for many in threads.map(add_ten, range(4)) for time in many]
        assert user.item("n").payload == "40"
        assert len(set(times)) == 40
        assert max(times) == user.mark()

    def test_first_writers_of_a_new_user_exclude_each_other(
        self, new_user: Callable[[], User], open_storage: OpenStorage
    ) -> None:
        storage = open_storage(SystemClock())
        for _ in range(5):
            user = new_user().of(storage)
            together = threading.Barrier(4)

            def write(number: int, user: User = user, together: threading.Barrier = together) -> int:
                together.wait(20)
                return user.at(f"new{number % 2}").put(Change(str(number), "x"))

            with ThreadPoolExecutor(4) as threads:
                times = list(threads.map(write, range(4)))
            assert len(set(times)) == 4
            assert user.mark() == max(times)
            assert sorted(user.at("new0").ids() + user.at("new1").ids()) == ["0", "1", "2", "3"]

    def test_new_collection_names_are_made_by_many_at_once(
        self, new_user: Callable[[], User], open_storage: OpenStorage
    ) -> None:
        storages = [open_storage(SystemClock()) for _ in range(2)]
        users = [new_user().of(storages[i % 2]) for i in range(4)]
        together = threading.Barrier(4)
        names = [f"same-{users[0].uid}-{i}" for i in range(3)]

        def write(number: int) -> None:
            together.wait(20)
            for name in (*names, f"own-{users[number].uid}"):
                users[number].at(name).put(Change("a", name))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write, range(4)))
        for user in users:
            for name in (*names, f"own-{user.uid}"):
                for storage in storages:
                    assert user.of(storage).at(name).item("a").payload == name
            assert set(user.storage.collection_times(user.uid).collections) == {*names, f"own-{user.uid}"}

    def test_it_shows_a_sign_of_life(self, user: User) -> None:
        user.storage.check()
