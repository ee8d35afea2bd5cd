"""Expiry: an item whose time is over is nowhere, though its row may stay until a purge (section 8.5)."""

from __future__ import annotations

import pytest

from syncstore.bso import BSO, Change
from syncstore.errors import NotFound
from syncstore.storage.api import Query
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.rooms import Rooms, User


class ExpiryRules(Rooms):
    """What is left of an expired item: nothing that can be seen."""

    def test_it_ends_at_the_millisecond(self, user: User, clock: SteppableClock) -> None:
        at = user.put(Change("a", "x", ttl=1))
        clock.step((at * 10 + 999 - clock.now_ms()) / 1000)
        assert user.ids() == ["a"]
        clock.step(0.001)
        assert user.ids() == []

    def test_a_ttl_of_zero_ends_at_once(self, user: User) -> None:
        at = user.put(Change("a", "x", ttl=0), Change("b", "y"))
        assert user.ids() == ["b"]
        assert user.modified() == at

    def test_the_longest_ttl_is_far_away(self, user: User, clock: SteppableClock) -> None:
        user.put(Change("a", "x", ttl=999_999_999))
        clock.step(999_999_000)
        assert user.ids() == ["a"]
        clock.step(1000)
        assert user.ids() == []
        clock.step(-999_999_999)

    def test_an_expired_item_is_invisible_everywhere(self, user: User, clock: SteppableClock) -> None:
        user.put(Change("dead", "12345", 3, 10), Change("live", "123"))
        dead_only = user.at("bookmarks")
        dead_only.put(Change("dead", "12345", ttl=10))
        before = user.storage.collection_times(user.uid)
        clock.step(10.5)
        find = user.storage.find
        assert user.storage.collection_times(user.uid) == before
        assert user.storage.collection_counts(user.uid).collections == {"col": 1}
        assert user.storage.collection_usage(user.uid).collections == {"col": 3}
        with pytest.raises(NotFound):
            user.item("dead")
        for query in (
            Query(),
            Query(full=True),
            Query(ids=("dead", "live")),
            Query(sort="index", limit=1),
            Query(sort="oldest", newer=0, limit=1),
        ):
            page = find(user.uid, "col", query)
            assert [*page.ids, *(item.id for item in page.items)] == ["live"]
            assert page.next is None
        assert dead_only.ids() == []
        assert dead_only.modified() == before.collections["bookmarks"]
        with user.work("dead") as work:
            assert work.item_modified("dead") == 0
            with pytest.raises(NotFound):
                work.delete_item("dead")

    def test_deleting_it_changes_nothing(self, user: User, clock: SteppableClock) -> None:
        at = user.put(Change("dead", "x", ttl=1))
        clock.step(2)
        with pytest.raises(NotFound):
            user.delete("dead")
        assert user.mark() == user.modified() == at

    def test_deleting_it_among_others_keeps_the_totals_right(self, user: User, clock: SteppableClock) -> None:
        user.put(Change("dead", "12345", ttl=1), Change("b", "1"), Change("c", "12"))
        clock.step(2)
        user.delete_ids("dead", "b")
        assert user.storage.collection_counts(user.uid).collections == {"col": 1}
        assert user.storage.collection_usage(user.uid).collections == {"col": 2}

    def test_a_new_life_begins_from_defaults(self, user: User, clock: SteppableClock) -> None:
        user.put(Change("a", "old payload", 5, 1))
        clock.step(2)
        at = user.put(Change("a", ttl=100))
        assert user.item("a") == BSO("a", at, "")
        assert user.storage.collection_counts(user.uid).collections == {"col": 1}
        assert user.storage.collection_usage(user.uid).collections == {"col": 0}
        clock.step(50)
        assert user.ids() == ["a"]

    def test_a_ttl_can_be_taken_back_before_it_is_over(self, user: User, clock: SteppableClock) -> None:
        user.put(Change("a", "x", ttl=1))
        user.put(Change("a", ttl=1000))
        clock.step(500)
        assert user.item("a").payload == "x"
        user.put(Change("a", ttl=0))
        assert user.ids() == []
