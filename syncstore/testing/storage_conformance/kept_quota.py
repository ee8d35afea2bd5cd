"""The quota of a user with cached-only collections, whose bytes count like all others."""

from __future__ import annotations

from typing import cast

import pytest

from syncstore.bso import Change
from syncstore.errors import OverQuota
from syncstore.storage.durable import Being, DurableStorage
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.durable_rooms import DurableRooms, keep
from syncstore.testing.storage_conformance.rooms import OpenStorage, User

QUOTA = 100


class KeptQuotaRules(DurableRooms):
    """A user of a storage with a quota of 100 bytes."""

    @pytest.fixture
    def limited(self, user: User, open_storage: OpenStorage, clock: SteppableClock) -> User:
        """The user, with a quota of 100 bytes."""
        return user.of(open_storage(clock, QUOTA))

    def store_of(self, limited: User) -> DurableStorage:
        return cast("DurableStorage", limited.storage)

    def test_kept_bytes_count_for_every_write(self, limited: User) -> None:
        store = self.store_of(limited)
        keep(store, limited.uid, "tabs", items=1, size=60)
        with pytest.raises(OverQuota) as caught:
            limited.put(Change("a", "x" * 41))
        assert (caught.value.used, caught.value.quota) == (101, QUOTA)
        batch = limited.open_batch(Change("a", "x" * 41))
        with pytest.raises(OverQuota):
            limited.commit(batch)
        with limited.work("a", create=True) as work:
            work.put([Change("a", "x" * 40)])
            assert work.quota_left == 0
        with pytest.raises(OverQuota):
            keep(store, limited.uid, "other", items=1, size=1)
        assert set(store.times(limited.uid).kept) == {"tabs"}

    def test_a_collection_is_charged_for_what_it_grows_by(self, limited: User) -> None:
        store = self.store_of(limited)
        limited.put(Change("a", "x" * 40))
        keep(store, limited.uid, "tabs", items=1, size=60)
        before = store.times(limited.uid)
        with pytest.raises(OverQuota) as caught:
            keep(store, limited.uid, "tabs", items=1, size=61)
        assert caught.value.used == 101
        assert store.times(limited.uid) == before
        keep(store, limited.uid, "tabs", items=2, size=60)
        keep(store, limited.uid, "tabs", items=2, size=30)
        with store.lock_for_times(limited.uid, "tabs") as work:
            work.draw_time()
            work.charge(20)
            assert work.quota_left == 10

    def test_who_is_over_the_quota_may_still_shrink(self, durable: DurableStorage, limited: User) -> None:
        store = self.store_of(limited)
        keep(durable, limited.uid, "tabs", items=9, size=300)
        keep(store, limited.uid, "tabs", items=9, size=300)
        keep(store, limited.uid, "tabs", items=9, size=299)
        with pytest.raises(OverQuota):
            keep(store, limited.uid, "tabs", items=9, size=300)
        keep(store, limited.uid, "tabs", being=Being.DELETED)
        limited.put(Change("a", "x" * 100))

    def test_expired_items_leave_room_for_kept_bytes(self, limited: User, clock: SteppableClock) -> None:
        limited.put(Change("dead", "x" * 50, ttl=1), Change("live", "x" * 50))
        with pytest.raises(OverQuota):
            keep(self.store_of(limited), limited.uid, "tabs", items=1, size=1)
        clock.step(2)
        keep(self.store_of(limited), limited.uid, "tabs", items=1, size=50)

    def test_a_wipe_frees_kept_bytes(self, limited: User) -> None:
        keep(self.store_of(limited), limited.uid, "tabs", items=1, size=60)
        limited.delete_all()
        limited.put(Change("a", "x" * 100))

    def test_there_is_nothing_to_charge_without_a_quota(self, user: User, durable: DurableStorage) -> None:
        with durable.lock_for_times(user.uid, "tabs") as work:
            work.draw_time()
            work.charge(10**9)
            assert work.quota_left is None

    def test_a_refused_charge_writes_nothing_even_if_the_block_goes_on(self, limited: User) -> None:
        store = self.store_of(limited)
        keep(store, limited.uid, "tabs", items=1, size=60)
        before = store.times(limited.uid)
        with store.lock_for_times(limited.uid, "tabs") as work:
            work.draw_time()
            with pytest.raises(OverQuota):
                work.charge(41)
        assert store.times(limited.uid) == before
