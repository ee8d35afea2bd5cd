"""Partial updates: every field given or not, over a new, a live and an expired item (sync-api section 8.4)."""

from __future__ import annotations

import itertools

import pytest

from syncstore.bso import BSO, Change
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.rooms import Rooms, User

GIVEN = list(itertools.product((None, "new"), (None, 5), (None, 200)))
STATES = ("new", "live", "expired")


class UpdateRules(Rooms):
    """What a change makes of the item that it meets."""

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize(("payload", "sortindex", "ttl"), GIVEN)
    def test_an_absent_field_keeps_what_a_live_item_has_and_is_default_else(
        self,
        user: User,
        clock: SteppableClock,
        state: str,
        payload: str | None,
        sortindex: int | None,
        ttl: int | None,
    ) -> None:
        before = 0
        if state != "new":
            before = user.put(Change("i", "old", 17, 100))
            clock.step(10 if state == "live" else 101)
        at = user.put(Change("i", payload, sortindex, ttl))
        live = state == "live"
        kept = live and payload is None and sortindex is None
        expected = BSO(
            "i",
            before if kept else at,
            payload if payload is not None else "old" if live else "",
            sortindex if sortindex is not None else 17 if live else None,
        )
        assert user.item("i") == expected
        assert user.items() == [expected]
        assert user.modified() == user.mark() == at
        self._check_expiry(user, clock, at, 200 if ttl is not None else 90 if live else None)

    def _check_expiry(self, user: User, clock: SteppableClock, at: int, left: int | None) -> None:
        """The item ends exactly `left` seconds after `at`; None: never."""
        if left is None:
            clock.step(10**7)
            assert user.ids() == ["i"]
            return
        end_ms = at * 10 + left * 1000
        if left == 90:  # counted from the first write, which a clock that moved by itself cannot say exactly
            clock.step(89)
            assert user.ids() == ["i"]
            clock.step(1.1)
        else:
            clock.step((end_ms - 1 - clock.now_ms()) / 1000)
            assert user.ids() == ["i"]
            clock.step(0.001)
        assert user.ids() == []

    def test_a_change_of_the_expiry_alone_moves_the_collection_but_not_the_item(self, user: User) -> None:
        first = user.put(Change("a", "x"), Change("b", "y"))
        second = user.put(Change("a", ttl=50), Change("b", "z"), Change("c", ttl=50))
        assert {item.id: item.modified for item in user.items()} == {"a": first, "b": second, "c": second}
        assert user.modified() == second

    def test_one_request_may_hold_all_kinds_of_changes(self, user: User) -> None:
        user.put(Change("whole", "1", 1, 60), Change("touched", "2", 2, 60))
        at = user.put(
            Change("touched", sortindex=9), Change("new"), Change("whole", "one"), Change("other", "4", 4)
        )
        assert sorted(user.items(), key=lambda item: item.id) == [
            BSO("new", at, "", None),
            BSO("other", at, "4", 4),
            BSO("touched", at, "2", 9),
            BSO("whole", at, "one", 1),
        ]

    def test_an_empty_payload_is_a_payload(self, user: User) -> None:
        user.put(Change("a", "something"))
        at = user.put(Change("a", ""))
        assert user.item("a") == BSO("a", at, "")

    def test_a_sortindex_of_zero_or_less_is_a_sortindex(self, user: User) -> None:
        user.put(Change("zero", "", 5), Change("least", "", 5))
        user.put(Change("zero", sortindex=0), Change("least", sortindex=-999_999_999))
        assert user.item("zero").sortindex == 0
        assert user.item("least").sortindex == -999_999_999

    def test_writing_nothing_creates_the_collection_and_moves_its_time(self, user: User) -> None:
        first = user.put()
        assert user.storage.collection_times(user.uid).collections == {"col": first}
        assert user.storage.collection_counts(user.uid).collections == {}
        assert user.put() > first
        assert user.ids() == []

    def test_a_hundred_items_are_written_at_once(self, user: User) -> None:
        changes = [Change(f"{i:03}", f"payload {i}", i) for i in range(100)]
        at = user.put(*changes)
        assert user.items(sort="index") == [
            BSO(change.id, at, str(change.payload), change.sortindex) for change in reversed(changes)
        ]
        again = user.put(*(Change(change.id, sortindex=0) for change in changes))
        assert {(item.modified, item.sortindex) for item in user.items()} == {(again, 0)}
