"""Everything that a store of servers' states (`syncstore.cache.memcached.records`) must do, as tests to inherit.

A store is proved by a subclass that says how to open it, by means that another process can use, too:

    from syncstore.testing.record_conformance import RecordConformance

    class TestMyRecords(RecordConformance):
        @pytest.fixture
        def open_store(self, my_server):
            return functools.partial(my_package.open_records, my_server.address)  # a context manager of a RecordStore

        @pytest.fixture
        def open_other_store(self, my_other_server):
            return functools.partial(my_package.open_records, my_other_server.address)

        @pytest.fixture
        def open_unreachable_store(self):
            return functools.partial(my_package.open_records, "127.0.0.1:1")

What a store cannot do it declares in the attributes of the class. Each test has servers of its own, so the store need
not be empty.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import ClassVar

import pytest

from syncstore.cache.memcached.records import MAX_NAME, MAX_REASON, RecordStore, ServerRecord
from syncstore.errors import Unavailable
from syncstore.testing.cache_conformance.rooms import PATIENCE, Child
from syncstore.testing.record_reader import OpenStore, RecordProcess, contend

_MINUTE = 60_000


def epoch_of(store: RecordStore, server: str) -> int:
    """The epoch of one server."""
    (record,) = store.read([server])
    return record.epoch


class RecordConformance:
    """All rules. A subclass brings `open_store`, `open_other_store` and `open_unreachable_store`."""

    other_processes: ClassVar[bool] = True
    """False where the records are known to one process alone; its children then get Unavailable."""

    can_be_unreachable: ClassVar[bool] = True
    """False for what lives in the process itself."""

    last_spaces_count: ClassVar[bool] = True
    """False where names are the same that differ in spaces at their ends; names of servers have none."""

    rounds: ClassVar[int] = 30
    """How often what happens by chance is tried."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """How the store under test is opened, the same each time: what a subclass must bring."""
        raise NotImplementedError("a conformance class needs a fixture `open_store`")

    @pytest.fixture
    def open_other_store(self) -> OpenStore:
        """The same for another store of the same kind."""
        raise NotImplementedError("a conformance class needs a fixture `open_other_store`")

    @pytest.fixture
    def open_unreachable_store(self) -> OpenStore:
        """The same for a store that is not there."""
        raise NotImplementedError("a conformance class needs a fixture `open_unreachable_store`")

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Iterator[RecordStore]:
        """The store under test."""
        with open_store() as store:
            yield store

    @pytest.fixture
    def again(self, open_store: OpenStore) -> Iterator[RecordStore]:
        """Another object of the same store."""
        with open_store() as store:
            yield store

    @pytest.fixture
    def process(self, open_store: OpenStore) -> Iterator[RecordProcess]:
        """Another process with the same store."""
        if not self.other_processes:
            pytest.skip("this store is known to one process alone")
        with RecordProcess(open_store) as process:
            yield process

    @pytest.fixture
    def server(self) -> str:
        """A server that nothing is known of."""
        return f"{secrets.token_hex(6)}:11211"

    # -- one record

    def test_the_store_has_a_name(self, store: RecordStore) -> None:
        assert store.name

    def test_of_an_unknown_server_nothing_is_known(self, store: RecordStore, server: str) -> None:
        assert store.read([server]) == [ServerRecord(0, 0, "", "")]

    def test_a_record_tells_what_when_why_and_who(self, store: RecordStore, server: str) -> None:
        before = time.time_ns() // 1_000_000
        assert store.advance(server, 0, 4_000_000_000, "seen for the first time")
        (record,) = store.read([server])
        assert (record.epoch, record.reason) == (4_000_000_000, "seen for the first time")
        assert abs(record.since - before) < _MINUTE
        host, colon, pid = record.by.rpartition(":")
        assert host
        assert (colon, pid) == (":", str(os.getpid()))

    def test_each_change_brings_all_of_a_record_anew(self, store: RecordStore, server: str) -> None:
        before = ServerRecord()
        for epoch, reason in enumerate(("first, with a long reason " * 7, "second", "", "fourth"), 1):
            assert store.advance(server, before.epoch, epoch, reason)
            (record,) = store.read([server])
            assert (record.epoch, record.reason) == (epoch, reason)
            assert record.since >= before.since
            before = record

    @pytest.mark.parametrize("known", [0, 8])
    @pytest.mark.parametrize("seen", [0, 7, 9])
    def test_a_change_of_what_was_not_seen_is_not_made(
        self, store: RecordStore, server: str, known: int, seen: int
    ) -> None:
        if known:
            assert store.advance(server, 0, known, "known")
        before = store.read([server])
        if seen == known:
            assert store.advance(server, seen, 20, "right")
            assert epoch_of(store, server) == 20
        else:
            assert not store.advance(server, seen, 20, "wrong")
            assert store.read([server]) == before

    def test_the_same_change_is_made_once(self, store: RecordStore, server: str) -> None:
        assert store.advance(server, 0, 4, "first")
        assert not store.advance(server, 0, 4, "again")
        assert store.read([server])[0].reason == "first"

    def test_epochs_have_room_for_seconds_and_more(self, store: RecordStore, server: str) -> None:
        seen = 0
        for epoch in (2**31 - 1, 2**31, 2**32, 2**40, 2**53 + 1, 2**62 + 1):
            assert store.advance(server, seen, epoch, "later")
            assert epoch_of(store, server) == epoch
            seen = epoch

    def test_a_long_reason_is_cut(self, store: RecordStore, server: str) -> None:
        reason = "".join(str(digit % 10) for digit in range(MAX_REASON * 3))
        assert store.advance(server, 0, 4, reason)
        assert store.read([server])[0].reason == reason[:MAX_REASON]

    @pytest.mark.parametrize(
        "reason",
        [
            "",
            "  ",
            'it\'s "quoted" \\ 100 %s :name',
            "a\nb\tc\x00d\x1b[31m",
            "h\xf6flich \u2192 \U0001f642",
            "\udc80",
        ],
        ids=["empty", "blank", "quoted", "control", "foreign", "surrogate"],
    )
    def test_any_reason_is_taken_and_is_fit_to_be_shown(
        self, store: RecordStore, server: str, reason: str
    ) -> None:
        for long in (reason, reason * MAX_REASON):
            seen = epoch_of(store, server)
            assert store.advance(server, seen, seen + 4, long)
            (record,) = store.read([server])
            assert record.epoch == seen + 4
            assert record.reason.isprintable()
            assert len(record.reason) <= MAX_REASON
            if long.isascii() and long.isprintable():
                assert record.reason == long[:MAX_REASON]

    # -- many servers

    def test_many_are_read_in_the_order_of_the_question(self, store: RecordStore, server: str) -> None:
        servers = [f"{server}-{number}" for number in range(20)]
        for number, name in enumerate(servers):
            if number % 3:
                assert store.advance(name, 0, 100 + number, f"number {number}")
        asked = [*reversed(servers), servers[4], servers[0], servers[4]]
        records = store.read(asked)
        assert [record.epoch for record in records] == [
            100 + number if number % 3 else 0 for number in (*range(19, -1, -1), 4, 0, 4)
        ]
        assert [record.reason for record in records[:2]] == ["number 19", ""]

    def test_nobody_is_nothing(self, store: RecordStore) -> None:
        assert store.read([]) == []

    def test_names_that_resemble_each_other_are_of_different_servers(
        self, store: RecordStore, server: str
    ) -> None:
        endings = [
            "a",
            "A",
            "a ",
            " a",
            "a.",
            "a/b",
            "a%2Fb",
            "a\\b",
            "'a'",
            '"a"',
            "%",
            "%%",
            "_",
            "*",
            ":a",
        ]
        endings += [
            ".",
            "..",
            "/",
            "//",
            "~",
            "[::1]:11211",
            "/run/memcached.sock",
            "{a}",
            ":name",
            "a,b",
            "a=b",
        ]
        if not self.last_spaces_count:
            endings.remove("a ")
        servers = [server + ending for ending in endings]
        servers += [
            server[:-1],
            server + "x" * (MAX_NAME - len(server)),
            server + "x" * (MAX_NAME - len(server) - 1),
        ]
        for epoch, name in enumerate(servers, 1):
            assert store.advance(name, 0, epoch, name), name
        assert [record.epoch for record in store.read(servers)] == list(range(1, len(servers) + 1))
        assert store.read([server]) == [ServerRecord()]

    @pytest.mark.parametrize("name", [".", "..", "/", "identity", "servers", "%"])
    def test_a_name_may_be_one_that_means_something_elsewhere(self, store: RecordStore, name: str) -> None:
        seen = epoch_of(store, name)
        assert store.advance(name, seen, seen + 4, "odd")
        assert epoch_of(store, name) == seen + 4
        assert len(store.identity()) > 0

    # -- shared by all

    def test_another_object_sees_each_change_at_once(
        self, store: RecordStore, again: RecordStore, server: str
    ) -> None:
        for epoch in range(0, self.rounds, 2):
            assert store.advance(server, epoch, epoch + 1, "ours")
            assert epoch_of(again, server) == epoch + 1
            assert again.advance(server, epoch + 1, epoch + 2, "theirs")
            assert epoch_of(store, server) == epoch + 2

    def test_another_process_sees_each_change_at_once(
        self, store: RecordStore, process: RecordProcess, server: str
    ) -> None:
        for epoch in range(0, self.rounds, 2):
            assert process.advance(server, epoch, epoch + 1)
            (record,) = store.read([server])
            assert record.epoch == epoch + 1
            assert record.by.endswith(f":{process.pid}")
            assert store.advance(server, epoch + 1, epoch + 2, "ours")
            assert process.read([server])[0].epoch == epoch + 2

    def test_of_many_threads_one_makes_a_change(self, open_store: OpenStore, server: str) -> None:
        with ExitStack() as stack, ThreadPoolExecutor(4) as threads:
            stores = [stack.enter_context(open_store()) for _ in range(2)]
            made = list(
                threads.map(contend, [stores[0], stores[0], *stores], [server] * 4, [self.rounds] * 4)
            )
            assert sum(made) == self.rounds
            assert epoch_of(stores[0], server) == self.rounds

    def test_of_many_processes_one_makes_a_change(
        self, store: RecordStore, open_store: OpenStore, process: RecordProcess, server: str
    ) -> None:
        with RecordProcess(open_store) as other:
            for each in (process, other):
                each.begin_to_contend(server, self.rounds)
            ours = contend(store, server, self.rounds)
            assert ours + process.won() + other.won() == self.rounds
        assert epoch_of(store, server) == self.rounds

    def test_readers_see_whole_records_that_never_go_back(
        self, store: RecordStore, again: RecordStore, server: str
    ) -> None:
        last = self.rounds * 2
        done = threading.Event()

        def read(reader: RecordStore) -> int:
            seen = count = 0
            while not done.is_set() or seen < last:
                (record,) = reader.read([server])
                assert record.epoch >= seen
                assert not record.epoch or record.reason == f"{record.epoch} " * 20
                seen = record.epoch
                count += 1
            return count

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read, each) for each in (store, again)]
            try:
                for epoch in range(last):
                    assert store.advance(server, epoch, epoch + 1, f"{epoch + 1} " * 20)
            finally:
                done.set()
            assert all(reader.result(PATIENCE) for reader in readers)

    # -- which store it is

    def test_the_identity_is_the_same_for_all_who_share_the_store(
        self, store: RecordStore, again: RecordStore, server: str
    ) -> None:
        identity = store.identity()
        assert identity.isascii()
        assert identity.isalnum()
        assert len(identity) <= 32
        assert again.identity() == identity
        assert store.advance(server, 0, 4, "changed")
        assert store.identity() == again.identity() == identity

    def test_the_identity_is_the_same_in_another_process(
        self, store: RecordStore, process: RecordProcess
    ) -> None:
        assert process.identity() == store.identity()

    def test_all_who_come_first_draw_one_identity(self, open_other_store: OpenStore) -> None:
        with ExitStack() as stack, ThreadPoolExecutor(4) as threads:
            stores = [stack.enter_context(open_other_store()) for _ in range(4)]
            assert len(set(threads.map(lambda each: each.identity(), stores))) == 1

    def test_another_store_has_another_identity_and_knows_nothing(
        self, store: RecordStore, open_other_store: OpenStore, server: str
    ) -> None:
        assert store.advance(server, 0, 4, "here")
        with open_other_store() as other:
            assert other.identity() != store.identity()
            assert other.read([server]) == [ServerRecord()]
            assert other.advance(server, 0, 8, "there")
        assert epoch_of(store, server) == 4

    # -- forks, ends, failures

    def test_a_child_goes_on_with_the_store(
        self, store: RecordStore, again: RecordStore, server: str
    ) -> None:
        assert store.advance(server, 0, 4, "of the parent")
        identity = store.identity()

        def work() -> None:
            if not self.other_processes:
                for call in (
                    store.identity,
                    lambda: store.read([server]),
                    lambda: store.advance(server, 4, 8, "of the child"),
                ):
                    with pytest.raises(Unavailable):
                        call()
                return
            for each in (store, again):
                assert each.read([server])[0].reason == "of the parent"
                assert each.identity() == identity
            assert store.advance(server, 4, 8, "of the child")
            assert epoch_of(again, server) == 8

        assert Child(work).join() == ""
        seen = epoch_of(store, server)
        assert seen == (8 if self.other_processes else 4)
        assert store.advance(server, seen, 12, "of the parent again")

    def test_a_child_that_ends_takes_nothing_from_its_parent(self, store: RecordStore, server: str) -> None:
        assert store.advance(server, 0, 4, "of the parent")
        assert Child(store.close).join() == ""
        assert epoch_of(store, server) == 4
        assert store.advance(server, 4, 8, "of the parent again")

    def test_one_object_that_is_closed_leaves_the_others_as_they_are(
        self, store: RecordStore, open_store: OpenStore, server: str
    ) -> None:
        with open_store() as other:
            assert other.advance(server, 0, 4, "kept")
        assert store.read([server])[0].reason == "kept"
        with open_store() as other:
            assert other.read([server])[0].reason == "kept"

    def test_a_store_that_is_not_there_says_so_in_time(
        self, request: pytest.FixtureRequest, server: str
    ) -> None:
        if not self.can_be_unreachable:
            pytest.skip("this store cannot be unreachable")
        open_unreachable_store: OpenStore = request.getfixturevalue("open_unreachable_store")
        with open_unreachable_store() as store:  # which opens nothing
            began = time.monotonic()
            for _ in range(2):
                with pytest.raises(Unavailable):
                    store.read([server])
                with pytest.raises(Unavailable):
                    store.advance(server, 0, 4, "nowhere")
                with pytest.raises(Unavailable):
                    store.identity()
            assert time.monotonic() - began < PATIENCE
