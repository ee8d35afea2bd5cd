"""Settled times: read while no writer of the user is at work, or not at all."""

from __future__ import annotations

import pytest

from syncstore.bso import Change
from syncstore.storage.durable import DurableStorage, KeptTime, Times
from syncstore.testing.storage_conformance.durable_rooms import DurableRooms
from syncstore.testing.storage_conformance.rooms import Fault, User


class SettledRules(DurableRooms):
    """When times are settled, seen by one thread."""

    def test_times_are_not_settled_while_a_writer_is_at_work(
        self, user: User, durable: DurableStorage
    ) -> None:
        """None at once: whoever waited here would wait for itself."""
        before = user.put(Change("a", "1"))
        with durable.lock_for_write(user.uid, "col", ["a"], create=True) as work:
            assert durable.settled_times(user.uid) is None
            at = work.put([Change("a", "2")])
            assert durable.settled_times(user.uid) is None
            assert durable.times(user.uid) == Times(before, {"col": before}, {})
        assert durable.settled_times(user.uid) == Times(at, {"col": at}, {})
        with durable.lock_for_write(user.uid, None) as work:
            assert durable.settled_times(user.uid) is None
        with durable.lock_for_times(user.uid, "tabs") as work:
            assert durable.settled_times(user.uid) is None
            kept = KeptTime(work.draw_time())
            work.keep_time("tabs", kept)
            assert durable.settled_times(user.uid) is None
        assert durable.settled_times(user.uid) == Times(kept.time, {"col": at}, {"tabs": kept})

    def test_times_are_settled_again_after_a_rollback(self, user: User, durable: DurableStorage) -> None:
        at = user.put(Change("a", "1"))
        with pytest.raises(Fault):
            user.fail(lambda work: work.put([Change("a", "2")]), "a")
        assert durable.settled_times(user.uid) == Times(at, {"col": at}, {})

    def test_times_of_a_user_who_is_being_made_are_not_settled(
        self, user: User, durable: DurableStorage
    ) -> None:
        with durable.lock_for_write(user.uid, "col", ["a"], create=True) as work:
            assert durable.settled_times(user.uid) is None
            at = work.put([Change("a", "1")])
            assert durable.settled_times(user.uid) is None
        assert durable.settled_times(user.uid) == Times(at, {"col": at}, {})

    def test_whoever_read_settled_times_is_in_nobodys_way(self, user: User, durable: DurableStorage) -> None:
        """And each look has what was committed before it."""
        for number in range(20):
            at = user.put(Change("a", str(number)))
            assert durable.settled_times(user.uid) == Times(at, {"col": at}, {})
            assert durable.settled_times(user.uid) == durable.times(user.uid)
