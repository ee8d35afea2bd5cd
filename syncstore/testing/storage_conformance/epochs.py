"""Epochs of cache servers: counted up by whoever saw the last one, and by nobody else."""

from __future__ import annotations

from typing import cast

from syncstore.storage.durable import DurableStorage, DurableWork, KeptTime
from syncstore.testing.storage_conformance.durable_rooms import DurableRooms
from syncstore.testing.storage_conformance.rooms import User


class EpochRules(DurableRooms):
    """What a store knows of cache servers."""

    def test_a_server_that_nobody_heard_of_is_at_epoch_0(self, user: User, durable: DurableStorage) -> None:
        name = f"unheard-of-{user.uid}"
        assert durable.epoch(name) == 0
        assert durable.advance_epoch(name, 1) is False
        assert durable.epoch(name) == 0
        with user.work() as work:
            assert cast("DurableWork", work).epoch(name) == 0

    def test_an_epoch_advances_by_one_from_what_was_seen(self, user: User, durable: DurableStorage) -> None:
        name, other = f"server-{user.uid}:11211", f"SERVER-{user.uid}:11211"
        for seen in range(4):
            assert durable.advance_epoch(name, seen) is True
            assert durable.epoch(name) == seen + 1
            for wrong in (seen - 1, seen, seen + 2):
                assert durable.advance_epoch(name, wrong) is False
        assert durable.epoch(name) == 4
        assert durable.epoch(other) == 0
        with durable.lock_for_times(user.uid, "tabs") as work:
            assert (work.epoch(name), work.epoch(other)) == (4, 0)
            work.keep_time("tabs", KeptTime(work.draw_time()))
            assert work.epoch(name) == 4
        assert "tabs" in durable.times(user.uid).kept

    def test_all_other_servers_that_may_be_trusted_are_declared_failed(
        self, user: User, durable: DurableStorage
    ) -> None:
        mine, trusted, failed = (f"{name}-{user.uid}" for name in ("mine", "trusted", "failed"))
        durable.advance_epoch(mine, 0, 4)
        durable.advance_epoch(trusted, 0, 6)
        durable.advance_epoch(failed, 0, 7)
        durable.fail_other_servers(mine)
        assert [durable.epoch(name) for name in (mine, trusted, failed)] == [4, 7, 7]
        durable.fail_other_servers("")
        assert [durable.epoch(name) for name in (mine, trusted, failed)] == [5, 7, 7]
        assert durable.epoch("") == 0

    def test_a_work_can_ask_whether_its_lock_is_still_held(self, user: User, durable: DurableStorage) -> None:
        with durable.lock_for_times(user.uid, "tabs") as work:
            work.confirm_lock()
            work.keep_time("tabs", KeptTime(work.draw_time()))
            work.confirm_lock()
        assert "tabs" in durable.times(user.uid).kept
