"""Batches: staged where nobody sees it, applied at one time, closed for good (sync-api section 13)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import pytest

from syncstore.bso import BSO, Change
from syncstore.errors import InvalidBatch
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.rooms import BATCH_LIFETIME, Fault, Rooms, User

GIVEN = list(itertools.product((None, "new"), (None, 5), (None, 200)))


class BatchRules(Rooms):
    """What a batch is, from its opening to its end."""

    def test_nothing_is_visible_before_the_commit(self, user: User) -> None:
        user.put(Change("a", "live"))
        before = user.everything()
        batch = user.open_batch(Change("a", "staged"), Change("b", "staged"))
        user.append(batch, Change("c", "staged"))
        assert user.everything() == before
        assert user.ids(ids=("b", "c")) == []
        fresh = user.at("fresh")
        fresh.open_batch(Change("a", "x"))
        assert user.everything() == before
        assert fresh.modified() == 0

    def test_staging_tells_and_moves_no_time(self, user: User) -> None:
        at = user.put(Change("a", "live"))
        batch = user.open_batch()
        with user.work(create=True) as work:
            assert (work.collection_modified, work.storage_modified) == (at, at)
            work.append_to_batch(batch, [Change("b", "x")])
            assert (work.collection_modified, work.storage_modified) == (at, at)

    def test_everything_gets_the_time_of_the_commit(self, user: User, clock: SteppableClock) -> None:
        user.put(Change("a", "old"), Change("touched", "old"))
        batch = user.open_batch(Change("a", "1"), Change("touched", ttl=500))
        clock.step(5)
        user.append(batch, Change("b", "2"))
        clock.step(5)
        at = user.commit(batch, Change("c", "3"))
        assert at == clock.now()
        assert {item.id: item.modified for item in user.items()} == dict.fromkeys(
            ("a", "b", "c", "touched"), at
        )
        assert user.modified() == user.mark() == at

    @pytest.mark.parametrize("state", ["new", "live", "expired"])
    @pytest.mark.parametrize(("payload", "sortindex", "ttl"), GIVEN)
    def test_absent_fields_fall_back_to_the_live_item_then_to_defaults(
        self,
        user: User,
        clock: SteppableClock,
        state: str,
        payload: str | None,
        sortindex: int | None,
        ttl: int | None,
    ) -> None:
        if state != "new":
            user.put(Change("i", "old", 17, 100))
        batch = user.open_batch(Change("i", payload, sortindex, ttl))
        clock.step(101 if state == "expired" else 50)
        at = user.commit(batch)
        live = state == "live"
        assert user.item("i") == BSO(
            "i",
            at,
            payload if payload is not None else "old" if live else "",
            sortindex if sortindex is not None else 17 if live else None,
        )
        left = 200 if ttl is not None else 49 if live else 10**7
        clock.step(left - 1)
        assert user.ids() == ["i"]
        if ttl is not None or live:
            clock.step(3)
            assert user.ids() == []

    def test_later_fields_override_earlier_ones_field_by_field(
        self, user: User, clock: SteppableClock
    ) -> None:
        batch = user.open_batch(Change("i", "first", 1), Change("j", "first", 1, 10))
        user.append(batch, Change("i", None, 2), Change("j", "second"))
        user.append(batch, Change("i", None, None, 30))
        at = user.commit(batch, Change("i", "last"))
        assert user.item("i") == BSO("i", at, "last", 2)
        assert user.item("j") == BSO("j", at, "second", 1)
        clock.step(11)
        assert user.ids() == ["i"]
        clock.step(20)
        assert user.ids() == []

    def test_a_ttl_counts_from_the_commit(self, user: User, clock: SteppableClock) -> None:
        batch = user.open_batch(Change("i", "x", ttl=10))
        clock.step(60)
        at = user.commit(batch)
        clock.step((at * 10 + 9_999 - clock.now_ms()) / 1000)
        assert user.ids() == ["i"]
        clock.step(0.001)
        assert user.ids() == []

    def test_a_batch_of_three_thousand_items(self, user: User) -> None:
        user.put(*(Change(f"{i:05}", "old", i) for i in range(0, 100, 2)))
        batch = user.open_batch()
        for start in range(0, 3000, 100):
            user.append(batch, *(Change(f"{i:05}", f"payload {i}") for i in range(start, start + 100)))
        at = user.commit(batch)
        items = user.items(sort="oldest")
        assert items == [
            BSO(f"{i:05}", at, f"payload {i}", i if i < 100 and i % 2 == 0 else None) for i in range(3000)
        ]
        assert user.storage.collection_counts(user.uid).collections == {"col": 3000}
        assert user.storage.collection_usage(user.uid).collections == {
            "col": sum(len(item.payload) for item in items)
        }

    def test_an_empty_batch_commits_to_an_empty_collection(self, user: User) -> None:
        batch = user.open_batch()
        at = user.commit(batch)
        assert user.storage.collection_times(user.uid).collections == {"col": at}
        assert user.ids() == []

    def test_an_empty_commit_applies_what_was_staged(self, user: User) -> None:
        batch = user.open_batch(Change("a", "1"))
        user.append(batch)
        at = user.commit(batch)
        assert user.items() == [BSO("a", at, "1")]

    def test_a_batch_is_closed_by_its_commit(self, user: User) -> None:
        batch = user.open_batch(Change("a", "1"))
        user.commit(batch)
        before = user.everything()
        self.refused_batch(user, batch)
        assert user.everything() == before

    def refused_batch(self, user: User, batch: str) -> None:
        """Nothing can be done with the batch."""
        with pytest.raises(InvalidBatch):
            user.append(batch, Change("x", "intruder"))
        with pytest.raises(InvalidBatch):
            user.commit(batch, Change("x", "intruder"))

    def test_another_collection_cannot_use_it(self, user: User) -> None:
        user.at("other").put()
        batch = user.open_batch(Change("a", "1"))
        self.refused_batch(user.at("other"), batch)
        self.refused_batch(user.at("never-written"), batch)
        user.commit(batch)
        assert user.ids() == ["a"]

    def test_another_user_cannot_use_it(self, user: User, new_user: Callable[[], User]) -> None:
        other = new_user()
        batch = user.open_batch(Change("a", "1"))
        self.refused_batch(other, batch)
        mine = other.open_batch(Change("b", "2"))
        assert mine != batch
        user.commit(batch)
        assert user.ids() == ["a"]
        assert other.ids() == []

    def test_two_batches_of_one_collection_do_not_mix(self, user: User) -> None:
        one, two = user.open_batch(Change("a", "1")), user.open_batch(Change("b", "2"))
        assert one != two
        user.append(one, Change("c", "3"))
        user.commit(two)
        assert user.ids() == ["b"]
        user.commit(one)
        assert sorted(user.ids()) == ["a", "b", "c"]

    @pytest.mark.parametrize(
        "batch", ["", "sammich", "123456", "true", "A" * 11, "A" * 12, "=", "\u0661", "-" * 11]
    )
    def test_an_id_that_was_never_given_out_is_refused(self, user: User, batch: str) -> None:
        self.refused_batch(user, batch)

    def test_ids_are_opaque_and_url_safe(self, user: User) -> None:
        ids = {user.open_batch() for _ in range(20)}
        assert len(ids) == 20
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", batch) for batch in ids)

    def test_an_expired_batch_is_refused_and_staging_does_not_prolong_it(
        self, user: User, clock: SteppableClock
    ) -> None:
        batch = user.open_batch(Change("a", "1"))
        other = user.open_batch(Change("b", "1"))
        clock.step(BATCH_LIFETIME - 10)
        user.append(batch, Change("c", "2"))
        user.commit(other)
        assert user.ids() == ["b"]
        clock.step(11)
        self.refused_batch(user, batch)
        assert user.ids() == ["b"]

    def test_wiping_the_storage_forgets_batches(self, user: User) -> None:
        user.put(Change("a", "1"))
        batch = user.open_batch(Change("b", "2"))
        user.delete_all()
        self.refused_batch(user, batch)
        assert user.ids() == []

    def test_a_batch_survives_the_deletion_of_its_collection(self, user: User) -> None:
        user.put(Change("a", "1"))
        batch = user.open_batch(Change("b", "2"))
        gone = user.delete_collection()
        at = user.commit(batch)
        assert at > gone
        assert user.items() == [BSO("b", at, "2")]

    def test_a_commit_that_fails_leaves_the_batch_open(self, user: User) -> None:
        user.put(Change("a", "1"))
        batch = user.open_batch(Change("a", "2"))
        before = user.everything()
        with pytest.raises(Fault):
            user.fail(lambda work: work.commit_batch(batch, [Change("b", "3")]))
        assert user.everything() == before
        user.commit(batch)
        assert [(item.id, item.payload) for item in user.items()] == [("a", "2")]
