"""Times: each write of a user has one of its own, greater than all before, come what may (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from syncstore.bso import Change
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable
from syncstore.storage.api import Query, Totals
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.rooms import OpenStorage, Rooms, User


class TimeRules(Rooms):
    """What times a storage gives, and what it never does with them."""

    def test_an_untouched_user_has_time_zero_everywhere(self, user: User) -> None:
        assert user.storage.collection_times(user.uid) == Totals(0, {})
        assert user.modified() == 0
        with user.work("a") as work:
            assert (work.storage_modified, work.collection_modified, work.item_modified("a")) == (0, 0, 0)
        with user.wipe_work() as work:
            assert work.storage_modified == 0

    def test_a_write_gives_its_one_time_to_items_collection_and_storage(
        self, user: User, clock: SteppableClock
    ) -> None:
        at = user.put(Change("a", "1"), Change("b", "2"))
        assert at == clock.now()
        assert {item.modified for item in user.items()} == {at}
        assert user.storage.find(user.uid, "col", Query()).modified == at
        assert user.storage.collection_times(user.uid) == Totals(at, {"col": at})
        assert user.storage.collection_counts(user.uid).modified == at
        assert user.storage.collection_usage(user.uid).modified == at

    def test_times_before_the_work_are_told_inside(self, user: User, clock: SteppableClock) -> None:
        first = user.put(Change("a", "1"), Change("mortal", "m", ttl=1))
        second = user.put(Change("b", "1"))
        third = user.at("other").put(Change("a", "1"))
        clock.step(2)
        with user.work("a", "b", "c", "mortal") as work:
            assert work.storage_modified == third
            assert work.collection_modified == second
            assert work.item_modified("a") == first
            assert work.item_modified("b") == second
            assert work.item_modified("c") == 0
            assert work.item_modified("mortal") == 0

    def test_every_write_of_every_kind_gets_a_greater_time(self, user: User) -> None:
        other = user.at("other")
        batch = user.open_batch(Change("staged", "s"))
        times = [
            user.put(Change("a", "1"), Change("b", "2"), Change("c", "3")),
            other.put(Change("a", "1")),
            user.put(Change("a", "1")),
            user.put(Change("a", ttl=100)),
            user.put(),
            user.delete("a"),
            user.delete_ids("b"),
            user.delete_ids("nothing-like-it"),
            user.commit(batch),
            other.delete_collection(),
            user.put(Change("a", "1")),
            user.delete_all(),
            user.put(Change("a", "1")),
        ]
        assert all(earlier < later for earlier, later in pairwise(times)), times
        assert user.mark() == times[-1]

    @pytest.mark.parametrize("stand_still", [False, True])
    def test_writes_that_are_faster_than_the_clock_stay_apart(
        self, user: User, clock: SteppableClock, *, stand_still: bool
    ) -> None:
        clock.stands_still = stand_still
        times = [user.put(Change("a", str(i))) for i in range(20)]
        assert len(set(times)) == 20
        assert times == sorted(times)
        assert user.mark() == times[-1]

    def test_the_real_clock_is_waited_for(self, user: User, open_storage: OpenStorage) -> None:
        clock = SystemClock()
        mine = user.of(open_storage(clock))
        first = mine.put(Change("a", "1"))
        for _ in range(20):
            last = mine.put(Change("a", "1"))
        assert last >= first + 20
        assert last <= clock.now() + 1

    def test_the_mark_never_goes_back_with_deletes(self, user: User) -> None:
        other = user.at("other")
        user.put(Change("a", "1"), Change("b", "2"))
        other.put(Change("a", "1"))
        marks = [user.mark()]
        deletes: list[Callable[[], int]] = [
            lambda: user.delete("a"),
            lambda: user.delete_ids("b", "c"),
            user.delete_collection,
            user.delete_collection,
            other.delete_collection,
            user.delete_all,
            user.delete_all,
        ]
        for delete in deletes:
            told = delete()
            assert told == user.mark()
            marks.append(user.mark())
        assert marks == sorted(marks)
        assert user.storage.collection_times(user.uid) == Totals(marks[-1], {})

    def test_deletes_move_the_times_that_they_should(self, user: User) -> None:
        user.put(Change("a", "1"), Change("b", "2"))
        assert user.delete("a") == user.modified() == user.mark()
        assert user.delete_ids("b") == user.modified() == user.mark()
        assert user.ids() == []
        at = user.delete_collection()
        assert (user.modified(), user.mark()) == (0, at)

    def test_deleting_what_is_not_there_changes_nothing(self, user: User) -> None:
        assert user.delete_collection() == 0
        assert user.delete_ids("a") == 0
        at = user.put(Change("a", "1"))
        missing = user.at("missing")
        assert missing.delete_collection() == at
        assert missing.delete_ids("a") == at
        assert user.storage.collection_times(user.uid) == Totals(at, {"col": at})

    @pytest.mark.parametrize("seconds", [0.02, 0.5, 30])
    def test_a_clock_set_back_a_little_is_overtaken(
        self, user: User, clock: SteppableClock, seconds: float
    ) -> None:
        first = user.put(Change("a", "1"))
        clock.step(-seconds)
        second = user.put(Change("a", "2"))
        third = user.delete_all()
        assert first < second < third
        assert third <= max(first + 2, clock.now())

    def test_a_clock_far_behind_the_mark_writes_nothing(self, user: User, clock: SteppableClock) -> None:
        batch = user.open_batch(Change("b", "2"))
        first = user.put(Change("a", "1"))
        clock.step(-3600)
        writes: list[Callable[[], int]] = [
            lambda: user.put(Change("a", "2")),
            lambda: user.delete("a"),
            lambda: user.delete_ids("a"),
            user.delete_collection,
            user.delete_all,
            lambda: user.commit(batch),
        ]
        for write in writes:
            with pytest.raises(Unavailable):
                write()
        assert user.item("a").payload == "1"
        assert user.mark() == first
        clock.step(3600)
        assert user.put(Change("a", "2")) > first

    def test_a_collection_that_comes_back_has_a_greater_time_and_no_old_items(self, user: User) -> None:
        user.put(Change("a", "1"), Change("b", "2"))
        gone = user.delete_collection()
        back = user.put(Change("a", "3"))
        assert back > gone
        assert user.ids() == ["a"]
        wiped = user.delete_all()
        assert user.put(Change("z", "4")) > wiped
        assert user.ids() == ["z"]

    def test_one_collection_leaves_the_times_of_others_alone(self, user: User) -> None:
        first = user.put(Change("a", "1"))
        second = user.at("other").put(Change("a", "2"))
        assert user.modified() == first
        assert user.at("other").modified() == second
        user.at("other").delete_collection()
        assert user.modified() == first
        assert user.item("a").payload == "1"
