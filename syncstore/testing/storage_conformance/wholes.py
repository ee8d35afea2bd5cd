"""What copies are made of: sums, and collections as a whole."""

from __future__ import annotations

from syncstore.bso import Change
from syncstore.storage.api import Totals
from syncstore.storage.durable import DurableStorage, StoredItem, Sums, Whole
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.durable_rooms import DurableRooms, keep
from syncstore.testing.storage_conformance.rooms import User

_BIG = 10**9


class WholeRules(DurableRooms):
    """What a store tells of collections as a whole."""

    def test_sums_are_counts_and_usage_at_once(
        self, user: User, durable: DurableStorage, clock: SteppableClock
    ) -> None:
        user.put(Change("a", "\u20ac"), Change("b", "12"), Change("dead", "x", ttl=1))
        user.at("other").put(Change("dead", "x", ttl=1))
        user.at("empty").put()
        kept = keep(durable, user.uid, "tabs", items=2, size=10)
        clock.step(2)
        sums = durable.sums(user.uid)
        assert sums == Sums(kept.time, {"col": 2}, {"col": 5}, {"tabs": kept})
        assert Totals(sums.modified, sums.items) == durable.collection_counts(user.uid)
        assert Totals(sums.modified, sums.bytes) == durable.collection_usage(user.uid)

    def test_a_whole_collection_has_everything_of_its_items(
        self, user: User, durable: DurableStorage
    ) -> None:
        first = user.put(Change("a", "\u20ac\0\U0001f600", -5, 100), Change("B", ""), Change("b", "x", 7))
        user.at("other").put(Change("z", "other"))
        last = user.put(Change("b", "y"))
        whole = durable.whole(user.uid, "col", _BIG)
        assert whole.modified == last
        assert whole.items is not None
        assert sorted(whole.items, key=lambda item: item.id) == [
            StoredItem("B", first, ""),
            StoredItem("a", first, "\u20ac\0\U0001f600", -5, first * 10 + 100_000),
            StoredItem("b", last, "y", 7),
        ]

    def test_a_whole_collection_has_all_that_live(
        self, user: User, durable: DurableStorage, clock: SteppableClock
    ) -> None:
        user.put(Change("dead", "x", ttl=1), *(Change(str(number), "y") for number in range(150)))
        clock.step(2)
        items = durable.whole(user.uid, "col", _BIG).items
        assert items is not None
        live = [item.id for item in items if item.expires is None or item.expires > clock.now_ms()]
        assert sorted(live) == sorted(user.ids())

    def test_a_collection_without_items_is_whole_too(self, user: User, durable: DurableStorage) -> None:
        for name in ("never-written", "col"):
            whole = durable.whole(user.uid, name, _BIG)
            assert (whole.modified, list(whole.items or ())) == (0, [])
        at = user.put()
        whole = durable.whole(user.uid, "col", 0)
        assert whole.modified == at
        assert whole.items is not None
        assert list(whole.items) == []

    def test_a_collection_that_is_too_large_is_not_read(self, user: User, durable: DurableStorage) -> None:
        at = user.put(Change("a", "\u20ac"), Change("b", "12"))
        items = durable.whole(user.uid, "col", 5).items
        assert items is not None
        assert len(items) == 2
        assert durable.whole(user.uid, "col", 4) == Whole(at, None)
