"""Counts and sizes: always what a sum over the live items would say."""

from __future__ import annotations

from syncstore.bso import Change
from syncstore.storage.api import Totals
from syncstore.testing.storage_conformance.rooms import Rooms, User


class TotalRules(Rooms):
    """The three maps of info/*."""

    def compare_with_sums(self, user: User) -> None:
        """Compare the maps with the items."""
        times = user.storage.collection_times(user.uid)
        found = {name: user.at(name).items() for name in times.collections}
        counts = {name: len(items) for name, items in found.items() if items}
        usage = {
            name: sum(len(item.payload.encode()) for item in items) for name, items in found.items() if items
        }
        assert user.storage.collection_counts(user.uid) == Totals(times.modified, counts)
        assert user.storage.collection_usage(user.uid) == Totals(times.modified, usage)

    def test_an_untouched_user_has_none(self, user: User) -> None:
        assert user.storage.collection_counts(user.uid) == Totals(0, {})
        assert user.storage.collection_usage(user.uid) == Totals(0, {})

    def test_they_follow_every_kind_of_write(self, user: User) -> None:
        other = user.at("other")
        user.put(Change("a", "12345"), Change("b", "\u00e9"), Change("c"))
        self.compare_with_sums(user)
        other.put(Change("a", "1"))
        user.put(Change("a", "123"), Change("b", sortindex=1), Change("d", "1234567"))
        self.compare_with_sums(user)
        user.put(Change("a", ""))
        self.compare_with_sums(user)
        user.delete("a")
        self.compare_with_sums(user)
        user.delete_ids("b", "c", "missing")
        self.compare_with_sums(user)
        batch = user.open_batch(Change("a", "12"), Change("d", sortindex=3), Change("e", "12345678"))
        self.compare_with_sums(user)
        user.commit(batch, Change("e", "1"))
        self.compare_with_sums(user)
        other.delete_collection()
        self.compare_with_sums(user)
        user.delete_all()
        self.compare_with_sums(user)
        assert user.storage.collection_counts(user.uid).collections == {}

    def test_an_empty_collection_has_a_time_but_no_count(self, user: User) -> None:
        user.put(Change("a", "1"))
        at = user.delete("a")
        assert user.storage.collection_times(user.uid) == Totals(at, {"col": at})
        assert user.storage.collection_counts(user.uid) == Totals(at, {})
        assert user.storage.collection_usage(user.uid) == Totals(at, {})

    def test_an_item_without_bytes_counts(self, user: User) -> None:
        at = user.put(Change("a"))
        assert user.storage.collection_counts(user.uid) == Totals(at, {"col": 1})
        assert user.storage.collection_usage(user.uid) == Totals(at, {"col": 0})

    def test_an_id_named_twice_is_deleted_once(self, user: User) -> None:
        user.put(Change("a", "123"), Change("b", "1"))
        user.delete_ids("a", "a", "a")
        assert user.storage.collection_counts(user.uid).collections == {"col": 1}
        assert user.storage.collection_usage(user.uid).collections == {"col": 1}
