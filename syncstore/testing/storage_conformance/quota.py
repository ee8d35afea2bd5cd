"""Quota: exact to the byte, charged before anything is written, never in the way of deletes (section 14)."""

from __future__ import annotations

import pytest

from syncstore.bso import Change
from syncstore.errors import OverQuota
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.rooms import OpenStorage, Rooms, User

QUOTA = 100


class QuotaRules(Rooms):
    """A user of a storage with a quota of 100 bytes."""

    @pytest.fixture
    def poor(self, user: User, open_storage: OpenStorage, clock: SteppableClock) -> User:
        """The user, with a quota."""
        return user.of(open_storage(clock, QUOTA))

    def put_and_ask(self, user: User, *changes: Change) -> int | None:
        """Put; what the work says is left."""
        with user.work(*(change.id for change in changes), create=True) as work:
            work.put(changes)
            return work.quota_left

    def refused_put(self, user: User, *changes: Change) -> OverQuota:
        """The put is refused and changes nothing at all."""
        before = user.everything()
        with pytest.raises(OverQuota) as caught:
            user.put(*changes)
        assert user.everything() == before
        return caught.value

    def test_there_is_none_without_a_quota(self, user: User) -> None:
        assert self.put_and_ask(user, Change("a", "x" * 1000)) is None

    def test_it_is_exact(self, poor: User) -> None:
        assert self.put_and_ask(poor, Change("a", "x" * 99)) == 1
        error = self.refused_put(poor, Change("b", "xx"))
        assert (error.used, error.quota) == (101, QUOTA)
        assert self.put_and_ask(poor, Change("b", "x")) == 0
        self.refused_put(poor, Change("c", "x"))
        assert self.put_and_ask(poor, Change("c", "")) == 0

    def test_bytes_of_utf8_count(self, poor: User) -> None:
        self.refused_put(poor, Change("a", "\u20ac" * 34))
        assert self.put_and_ask(poor, Change("a", "\u20ac" * 33)) == 1

    def test_all_collections_count(self, poor: User) -> None:
        poor.at("other").put(Change("a", "x" * 60))
        self.refused_put(poor, Change("a", "x" * 41))
        assert self.put_and_ask(poor, Change("a", "x" * 40)) == 0

    def test_overwritten_bytes_are_credited(self, poor: User) -> None:
        poor.put(Change("a", "x" * 100))
        assert self.put_and_ask(poor, Change("a", "y" * 100)) == 0
        assert self.put_and_ask(poor, Change("a", "y" * 10), Change("b", "y" * 90)) == 0
        self.refused_put(poor, Change("a", "y" * 11))
        assert self.put_and_ask(poor, Change("a", sortindex=5), Change("b", ttl=50)) == 0

    def test_expired_items_do_not_count(self, poor: User, clock: SteppableClock) -> None:
        poor.put(Change("dead", "x" * 50, ttl=1), Change("live", "x" * 50))
        self.refused_put(poor, Change("b", "x"))
        clock.step(2)
        assert self.put_and_ask(poor, Change("b", "x" * 20)) == 30
        assert self.put_and_ask(poor, Change("c", "x" * 30)) == 0
        self.refused_put(poor, Change("d", "x"))

    def test_expired_items_are_not_missing_from_what_is_left(self, poor: User, clock: SteppableClock) -> None:
        poor.put(Change("dead", "x" * 30, ttl=1))
        clock.step(2)
        assert self.put_and_ask(poor, Change("a", "x" * 10)) == 90
        assert self.put_and_ask(poor, Change("dead", "x" * 10)) == 80

    def test_an_expired_item_that_is_replaced_gives_no_credit(
        self, poor: User, clock: SteppableClock
    ) -> None:
        poor.put(Change("dead", "x" * 50, ttl=1), Change("live", "x" * 50))
        clock.step(2)
        poor.put(Change("more", "x" * 40))
        self.refused_put(poor, Change("dead", "x" * 11))
        assert self.put_and_ask(poor, Change("dead", "x" * 10)) == 0

    def test_an_expired_item_that_a_batch_replaces_gives_no_credit(
        self, poor: User, clock: SteppableClock
    ) -> None:
        poor.put(Change("dead", "x" * 50, ttl=1), Change("live", "x" * 50))
        clock.step(2)
        poor.put(Change("more", "x" * 40))
        with pytest.raises(OverQuota):
            poor.commit(poor.open_batch(Change("dead", "x" * 11)))
        poor.commit(poor.open_batch(Change("dead", "x" * 10)))

    def test_a_whole_request_is_refused(self, poor: User) -> None:
        self.refused_put(poor, Change("a", "x" * 50), Change("b", "x" * 51))
        assert poor.ids() == []

    def test_deletes_are_never_refused(self, user: User, poor: User) -> None:
        user.put(*(Change(id_, "x" * 60) for id_ in "abcd"))
        user.at("other").put(Change("a", "x" * 60))
        poor.delete("a")
        poor.delete_ids("b", "c")
        poor.delete_collection()
        poor.delete_all()
        assert poor.storage.collection_times(poor.uid).collections == {}

    def test_who_is_over_it_may_still_shrink_and_touch(self, user: User, poor: User) -> None:
        user.put(Change("a", "x" * 200))
        assert self.put_and_ask(poor, Change("a", sortindex=1)) == 0
        assert self.put_and_ask(poor, Change("a", "x" * 199)) == 0
        self.refused_put(poor, Change("a", "x" * 200))
        self.refused_put(poor, Change("b", "x"))
        assert self.put_and_ask(poor, Change("a", "x" * 20)) == 80

    def test_a_batch_is_charged_when_it_is_committed(self, poor: User) -> None:
        poor.put(Change("a", "x" * 60))
        batch = poor.open_batch(Change("a", "y" * 70), Change("b", "y" * 30))
        poor.append(batch, Change("c", "y"))
        before = poor.everything()
        with pytest.raises(OverQuota):
            poor.commit(batch)
        assert poor.everything() == before
        poor.append(batch, Change("b", "y" * 29))
        with poor.work(create=True) as work:
            work.commit_batch(batch, [])
            assert work.quota_left == 0
        assert poor.storage.collection_usage(poor.uid).collections == {"col": 100}

    def test_a_refused_work_may_end_without_an_error_and_still_writes_nothing(self, poor: User) -> None:
        poor.put(Change("a", "1"))
        batch = poor.open_batch(Change("z", "z"))
        before = poor.everything()
        with poor.work("a", create=True) as work, pytest.raises(OverQuota):
            work.put([Change("a", "x" * 101)])
        with poor.work(create=True) as work, pytest.raises(OverQuota):
            work.commit_batch(batch, [Change("a", "x" * 101)])
        assert poor.everything() == before
