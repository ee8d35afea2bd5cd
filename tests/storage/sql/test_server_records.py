"""The states of memcacheds in each kind of database: every rule of records, and which group of servers is in use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import make_url

from syncstore.cache.memcached.records import GROUP, GroupRecord
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable
from syncstore.storage.sql import migrate
from syncstore.storage.sql.server_records import SqlRecords
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.record_conformance import RecordConformance
from syncstore.testing.record_reader import OpenStore
from syncstore.testing.record_stores import open_sql_records
from syncstore.testing.sql_store import open_sql_store


class TestInSql(RecordConformance):
    last_spaces_count = False  # MariaDB compares text like that
    rounds = 20

    @pytest.fixture(autouse=True)
    def kind(self, migrated_url: str) -> None:
        """Each test runs on each kind of database, one that opens no store by name included."""

    @pytest.fixture
    def open_store(self, migrated_url: str) -> OpenStore:
        return partial(open_sql_records, migrated_url)

    @pytest.fixture
    def open_other_store(self, other_database_url: str) -> OpenStore:
        migrate.upgrade(other_database_url)
        return partial(open_sql_records, other_database_url)

    @pytest.fixture
    def open_unreachable_store(self, migrated_url: str, tmp_path: Path) -> OpenStore:
        url = make_url(migrated_url)
        if url.get_backend_name() == "sqlite":
            url = url.set(database=str(tmp_path / "no-such-folder" / "sync.db"))
        else:
            url = url.set(host=HOST, port=free_port(), query={})
        return partial(open_sql_records, url.render_as_string(hide_password=False))


@pytest.fixture
def records(migrated_url: str) -> Iterator[SqlRecords]:
    with open_sql_records(migrated_url) as records:
        yield records


@pytest.fixture
def again(migrated_url: str) -> Iterator[SqlRecords]:
    with open_sql_records(migrated_url) as records:
        yield records


def test_more_servers_than_one_statement_takes_are_read(records: SqlRecords) -> None:
    names = [f"of-many-{number}" for number in range(250)]
    assert records.advance(names[0], 0, 8, "the first")
    assert records.advance(names[-1], 0, 16, "the last")
    found = records.read(names)
    assert (found[0].epoch, found[-1].epoch) == (8, 16)
    assert not any(record.epoch for record in found[1:-1])


# -- which group is in use


def test_before_there_was_any_group_its_number_is_0(other_database_url: str) -> None:
    migrate.upgrade(other_database_url)
    with open_sql_records(other_database_url) as records:
        assert records.group() == GroupRecord(0, "")
        assert not records.change_group(1, "mine")
        assert records.change_group(0, "mine")
        assert records.group() == GroupRecord(1, "mine")


def test_another_object_knows_the_group_at_once(records: SqlRecords, again: SqlRecords) -> None:
    number = records.group().number
    assert records.change_group(number, "one")
    assert again.group() == GroupRecord(number + 1, "one")
    assert again.change_group(number + 1, "two")
    assert records.group() == GroupRecord(number + 2, "two")
    assert not records.change_group(number + 1, "three")


def test_the_group_is_read_with_the_servers_by_one_statement(records: SqlRecords) -> None:
    assert records.change_group(records.group().number, "a group")
    assert records.advance("with-group", 0, 8, "new")
    (known, unknown), group = records.read_with_group(["with-group", "unknown"])
    assert (known.epoch, unknown.epoch, group) == (8, 0, records.group())


def test_a_writer_reads_the_number_of_the_group_in_his_transaction(migrated_url: str) -> None:
    store = open_sql_store(migrated_url, SystemClock())
    try:
        records = store.storage.records
        number = records.group().number
        assert records.change_group(number, "mine")
        with store.storage.lock_for_times(7, "tabs") as work:
            assert work.epoch(GROUP) == number + 1
    finally:
        store.database.close()


def test_of_many_who_change_the_group_one_does(records: SqlRecords, again: SqlRecords) -> None:
    before = records.group().number

    def change(number: int) -> bool:
        try:
            return (records, again)[number % 2].change_group(before, f"group {number}")
        except Unavailable:  # a database may be too busy to say; then it was not this one
            return False

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(change, range(6))) == 1
    assert records.group().number == before + 1


def test_a_description_may_have_2000_characters(records: SqlRecords) -> None:
    long = " ".join(f"cache-{number}.example:11211*1" for number in range(100))[:2000]
    before = records.group().number
    assert records.change_group(before, long)
    assert records.group().description == long
    assert records.change_group(before + 1, "short")


def test_the_group_and_the_database_s_own_number_are_no_servers(records: SqlRecords) -> None:
    identity = records.identity()
    assert records.change_group(records.group().number, "a group")
    assert records.advance("a-server", 0, 8, "new")
    assert records.identity() == identity
    assert records.group().description == "a group"
