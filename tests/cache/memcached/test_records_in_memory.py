"""The records of one process: every rule of records, and whose they are."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from syncstore.cache.memcached.records_in_memory import MemoryRecords
from syncstore.clock import SystemClock
from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.record_conformance import RecordConformance
from syncstore.testing.record_reader import OpenStore


class TestInMemory(RecordConformance):
    other_processes = False
    can_be_unreachable = False

    @pytest.fixture
    def open_store(self) -> OpenStore:
        records = MemoryRecords(SystemClock())
        return lambda: nullcontext(records)

    @pytest.fixture
    def open_other_store(self) -> OpenStore:
        records = MemoryRecords(SystemClock())
        return lambda: nullcontext(records)


def test_what_was_not_used_before_a_fork_is_the_childs_own() -> None:
    records = MemoryRecords(SystemClock())

    def work() -> None:
        assert records.advance("a", 0, 4, "of the child")
        assert records.identity()

    assert Child(work).join() == ""
    assert records.read(["a"])[0].epoch == 0
    assert records.advance("a", 0, 8, "of the parent")
