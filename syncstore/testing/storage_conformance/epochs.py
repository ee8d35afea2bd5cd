"""Epochs of cache servers: counted up by whoever saw the last one, and by nobody else."""

from __future__ import annotations

from typing import cast

from syncstore.cache.memcached.records import GROUP, GroupRecord, ServerRecord
from syncstore.storage.durable import DurableStorage, DurableWork, KeptTime
from syncstore.testing.storage_conformance.durable_rooms import DurableRooms
from syncstore.testing.storage_conformance.rooms import User


class EpochRules(DurableRooms):
    """What a store knows of cache servers."""

    def test_a_server_that_nobody_heard_of_is_at_epoch_0(self, user: User, durable: DurableStorage) -> None:
        name, records = f"unheard-of-{user.uid}", durable.records
        assert records.read([name]) == [ServerRecord()]
        assert records.advance(name, 1, 2, "") is False
        assert records.read([name]) == [ServerRecord()]
        with user.work() as work:
            assert cast("DurableWork", work).epoch(name) == 0

    def test_a_work_reads_epochs_as_they_are_now(self, user: User, durable: DurableStorage) -> None:
        name, other = f"server-{user.uid}:11211", f"SERVER-{user.uid}:11211"
        durable.records.advance(name, 0, 8, "")
        with durable.lock_for_times(user.uid, "tabs") as work:
            assert (work.epoch(name), work.epoch(other)) == (8, 0)
            work.keep_time("tabs", KeptTime(work.draw_time()))
            assert work.epoch(name) == 8
        assert "tabs" in durable.times(user.uid).kept

    def test_one_group_of_servers_is_in_use_and_only_who_knows_it_changes_it(
        self, user: User, durable: DurableStorage
    ) -> None:
        records = durable.records
        before = records.group()
        assert records.change_group(before.number + 1, "mine") is False
        assert records.change_group(before.number, "mine") is True
        assert records.change_group(before.number, "another") is False
        mine = GroupRecord(before.number + 1, "mine")
        assert records.group() == mine
        name = f"of-{user.uid}"
        assert records.read_with_group([name]) == ([ServerRecord()], mine)
        with user.work() as work:
            assert cast("DurableWork", work).epoch(GROUP) == mine.number
        long = "x" * 2000
        assert records.change_group(mine.number, long) is True
        assert records.group() == GroupRecord(mine.number + 1, long)
        assert records.change_group(mine.number + 1, before.description) is True

    def test_a_work_can_ask_whether_its_lock_is_still_held(self, user: User, durable: DurableStorage) -> None:
        with durable.lock_for_times(user.uid, "tabs") as work:
            work.confirm_lock()
            work.keep_time("tabs", KeptTime(work.draw_time()))
            work.confirm_lock()
        assert "tabs" in durable.times(user.uid).kept
