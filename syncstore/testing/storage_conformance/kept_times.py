"""Kept times: written with the row of the user, in one order with all other times, gone with a wipe."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import pytest

from syncstore.bso import Change
from syncstore.errors import Unavailable
from syncstore.storage.api import Totals
from syncstore.storage.durable import WIPE, Being, DurableStorage, DurableWork, KeptTime, Sums, Times
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.durable_rooms import DurableRooms, keep
from syncstore.testing.storage_conformance.rooms import Fault, User

_BIG = 10**9


class KeptTimeRules(DurableRooms):
    """What becomes of the times of cached-only collections."""

    def test_an_untouched_user_has_nothing(self, user: User, durable: DurableStorage) -> None:
        assert durable.times(user.uid) == Times(0, {}, {})
        assert durable.sums(user.uid) == Sums(0, {}, {}, {})
        assert durable.settled_times(user.uid) is None
        with durable.lock_for_times(user.uid, "tabs") as work:
            assert (work.storage_modified, dict(work.kept)) == (0, {})

    def test_a_kept_time_is_read_as_it_was_written(self, user: User, durable: DurableStorage) -> None:
        at = user.put(Change("a", "1"))
        written = {
            "tabs": keep(durable, user.uid, "tabs", items=2, size=10),
            "clients": keep(durable, user.uid, "clients", being=Being.DELETED),
            "x" * 32: keep(durable, user.uid, "x" * 32, being=Being.LOST),
        }
        last = written["x" * 32].time
        assert at < last
        expected = Times(last, {"col": at}, written)
        assert durable.times(user.uid) == expected
        assert durable.settled_times(user.uid) == expected
        assert durable.sums(user.uid) == Sums(last, {"col": 1}, {"col": 1}, written)
        with user.work() as work:
            assert work.storage_modified == last
            assert work.collection_modified == at
            assert dict(cast("DurableWork", work).kept) == written

    def test_a_kept_collection_is_none_of_the_collections(self, user: User, durable: DurableStorage) -> None:
        kept = keep(durable, user.uid, "tabs", items=2, size=10)
        assert durable.collection_times(user.uid) == Totals(kept.time, {})
        assert durable.collection_counts(user.uid) == Totals(kept.time, {})
        assert durable.collection_usage(user.uid) == Totals(kept.time, {})
        assert durable.collection_modified(user.uid, "tabs") == 0

    def test_the_last_time_of_a_collection_is_kept(self, user: User, durable: DurableStorage) -> None:
        keep(durable, user.uid, "tabs", items=2, size=10)
        other = keep(durable, user.uid, "other")
        last = keep(durable, user.uid, "tabs", being=Being.LOST)
        assert durable.times(user.uid) == Times(last.time, {}, {"tabs": last, "other": other})

    def test_one_work_may_keep_several_times(self, user: User, durable: DurableStorage) -> None:
        with durable.lock_for_times(user.uid, "tabs") as work:
            at = work.draw_time()
            work.keep_time("tabs", KeptTime(at))
            work.keep_time("tabs", KeptTime(at, Being.LIVE, 1, 2))
            work.keep_time(WIPE, KeptTime(at, Being.DELETED))
        expected = {"tabs": KeptTime(at, Being.LIVE, 1, 2), WIPE: KeptTime(at, Being.DELETED)}
        assert durable.times(user.uid) == Times(at, {}, expected)

    def test_many_collections_are_kept(self, user: User, durable: DurableStorage) -> None:
        with durable.lock_for_times(user.uid, "tabs") as work:
            kept = KeptTime(work.draw_time(), Being.LIVE, _BIG, _BIG)
            for number in range(200):
                work.keep_time(f"a-collection-of-a-long-name-{number:04}", kept)
        assert len(durable.times(user.uid).kept) == 200
        assert set(durable.times(user.uid).kept.values()) == {kept}

    def test_other_writes_leave_kept_times_alone(self, user: User, durable: DurableStorage) -> None:
        kept = {"tabs": keep(durable, user.uid, "tabs", items=2, size=10)}
        user.put(Change("a", "1"), Change("b", "1"))
        user.delete("a")
        user.commit(user.open_batch(Change("c", "1")))
        last = user.delete_collection()
        assert durable.times(user.uid) == Times(last, {}, kept)

    def test_a_work_with_another_change_keeps_a_time_too(self, user: User, durable: DurableStorage) -> None:
        with durable.lock_for_write(user.uid, "col", ["a"], create=True) as work:
            at = work.put([Change("a", "1")])
            work.keep_time("tabs", KeptTime(at, Being.LIVE, 1, 1))
        assert durable.times(user.uid) == Times(at, {"col": at}, {"tabs": KeptTime(at, Being.LIVE, 1, 1)})

    def test_without_a_time_none_is_kept(self, user: User, durable: DurableStorage) -> None:
        user.put(Change("a", "1"))
        before = durable.times(user.uid)
        with durable.lock_for_times(user.uid, "tabs") as work, pytest.raises(RuntimeError):
            work.keep_time("tabs", KeptTime(before.modified))
        with durable.lock_for_write(user.uid, "col", create=True) as work:
            work.create_batch()
            with pytest.raises(RuntimeError):
                work.keep_time("tabs", KeptTime(before.modified))
        with durable.lock_for_write(user.uid, "never-written", ["a"]) as work:
            work.delete_items(["a"])  # of a collection that is not there: no change, no time
            with pytest.raises(RuntimeError):
                work.keep_time("tabs", KeptTime(before.modified))
        assert durable.times(user.uid) == before

    def test_drawing_a_time_is_a_works_one_change(self, user: User, durable: DurableStorage) -> None:
        with durable.lock_for_times(user.uid, "tabs") as work:
            work.draw_time()
            with pytest.raises(RuntimeError):
                work.draw_time()
        with durable.lock_for_write(user.uid, "col", ["a"], create=True) as work:
            work.put([Change("a", "1")])
            with pytest.raises(RuntimeError):
                work.draw_time()
        with durable.lock_for_write(user.uid, "col", ["a"], create=True) as work:
            work.draw_time()
            with pytest.raises(RuntimeError):
                work.put([Change("b", "1")])
        assert user.ids() == ["a"]

    def test_a_work_on_times_alone_has_no_collection(self, user: User, durable: DurableStorage) -> None:
        at = user.put(Change("a", "1"))
        with durable.lock_for_times(user.uid, "col") as work:
            assert work.storage_modified == at
            with pytest.raises(RuntimeError):
                work.put([Change("a", "2")])
        assert [item.payload for item in user.items()] == ["1"]

    # -- how works end

    def test_an_exception_takes_the_kept_time_back(self, user: User, durable: DurableStorage) -> None:
        keep(durable, user.uid, "tabs", items=2, size=10)
        before = durable.times(user.uid)

        def fail(collection: str) -> None:
            with durable.lock_for_times(user.uid, collection) as work:
                work.keep_time(collection, KeptTime(work.draw_time()))
                raise Fault

        for collection in ("tabs", "other"):
            with pytest.raises(Fault):
                fail(collection)
        with pytest.raises(Fault):
            user.fail(lambda work: work.delete_all())
        assert durable.times(user.uid) == before
        assert durable.settled_times(user.uid) == before

    def test_no_kept_time_is_visible_before_the_block_ends(self, user: User, durable: DurableStorage) -> None:
        keep(durable, user.uid, "tabs", items=2, size=10)
        before = durable.times(user.uid)
        with durable.lock_for_times(user.uid, "tabs") as work:
            at = work.draw_time()
            work.keep_time("tabs", KeptTime(at))
            assert durable.times(user.uid) == before
            assert durable.sums(user.uid).kept == before.kept
            assert work.kept == before.kept
        assert durable.times(user.uid) == Times(at, {}, {"tabs": KeptTime(at)})

    def test_a_work_on_times_that_draws_none_changes_nothing(
        self, user: User, durable: DurableStorage
    ) -> None:
        keep(durable, user.uid, "tabs", items=2, size=10)
        before = durable.times(user.uid)
        with durable.lock_for_times(user.uid, "tabs") as work:
            work.charge(10)
        assert durable.times(user.uid) == before

    # -- times

    def test_kept_times_are_in_one_order_with_all_others(
        self, user: User, durable: DurableStorage, clock: SteppableClock
    ) -> None:
        clock.stands_still = True
        batch = user.open_batch(Change("staged", "s"))
        times = [
            user.put(Change("a", "1")),
            keep(durable, user.uid, "tabs").time,
            user.put(Change("a", "2")),
            user.delete_collection(),
            keep(durable, user.uid, "tabs", being=Being.DELETED).time,
            user.commit(batch),
            user.delete_all(),
            keep(durable, user.uid, "other").time,
            user.put(Change("a", "3")),
        ]
        assert all(earlier < later for earlier, later in pairwise(times)), times
        assert user.mark() == times[-1]

    def test_a_drawn_time_is_the_storages_time_even_if_none_is_kept(
        self, user: User, durable: DurableStorage
    ) -> None:
        user.put(Change("a", "1"))
        with durable.lock_for_times(user.uid, "tabs") as work:
            at = work.draw_time()
        assert durable.times(user.uid).modified == at
        assert user.put(Change("a", "2")) > at

    def test_a_time_is_later_than_what_it_must_be_later_than(
        self, user: User, durable: DurableStorage, clock: SteppableClock
    ) -> None:
        ahead = clock.now() + 50 * 100
        with durable.lock_for_times(user.uid, "tabs") as work:
            at = work.draw_time(ahead)
            work.keep_time("tabs", KeptTime(at))
        assert at == ahead + 1
        assert user.put(Change("a", "1")) > at
        with durable.lock_for_times(user.uid, "tabs") as work:
            assert work.draw_time(clock.now() - 100) > at

    def test_a_time_far_ahead_is_refused(
        self, user: User, durable: DurableStorage, clock: SteppableClock
    ) -> None:
        keep(durable, user.uid, "tabs")
        before = durable.times(user.uid)

        def keep_far_ahead() -> None:
            with durable.lock_for_times(user.uid, "tabs") as work:
                work.keep_time("tabs", KeptTime(work.draw_time(clock.now() + 3600 * 100)))

        with pytest.raises(Unavailable):
            keep_far_ahead()
        clock.step(-3600)
        with pytest.raises(Unavailable):
            keep(durable, user.uid, "tabs")
        clock.step(3600)
        assert durable.times(user.uid) == before

    # -- the wipe

    def test_a_wipe_deletes_what_was_live_or_lost(self, user: User, durable: DurableStorage) -> None:
        user.put(Change("a", "1"))
        keep(durable, user.uid, "live", items=2, size=10)
        keep(durable, user.uid, "lost", being=Being.LOST)
        deleted = keep(durable, user.uid, "deleted", being=Being.DELETED)
        at = user.delete_all()
        gone = KeptTime(at, Being.DELETED)
        expected = Times(at, {}, {"live": gone, "lost": gone, "deleted": deleted})
        assert durable.times(user.uid) == expected
        assert durable.settled_times(user.uid) == expected

    def test_the_time_of_a_wipe_can_be_kept(self, user: User, durable: DurableStorage) -> None:
        keep(durable, user.uid, "tabs", items=2, size=10)
        for _ in range(2):
            with durable.lock_for_write(user.uid, None) as work:
                at = work.delete_all()
                work.keep_time(WIPE, KeptTime(at, Being.DELETED))
            assert durable.times(user.uid).kept[WIPE] == KeptTime(at, Being.DELETED)
        assert set(durable.times(user.uid).kept) == {"tabs", WIPE}

    def test_a_wipe_without_kept_times_keeps_none(self, user: User, durable: DurableStorage) -> None:
        user.put(Change("a", "1"))
        assert durable.times(user.uid).kept == {}
        at = user.delete_all()
        assert durable.times(user.uid) == Times(at, {}, {})
