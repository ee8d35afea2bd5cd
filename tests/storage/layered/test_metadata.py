"""The metadata record when the cache is asked by more threads than it has connections for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from syncstore.bso import Change as BsoChange
from syncstore.cache.api import BackendUnavailable, Busy, Change, Item, Outcome
from syncstore.cache.memcached.records import after_failure
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import Rules
from syncstore.cache.memory import MemoryProvider
from syncstore.errors import Unavailable
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.store import LayeredStorage
from syncstore.storage.sql import migrate
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.sql_store import open_sql_store

SERVER = "a cache of the tests"
FETCH, CHANGE = "fetch", "change"


class CrowdedProvider(MemoryProvider):
    """Refuses, or leaves without an answer, what `troubles` say of the next calls: pairs of a call and its error."""

    def __init__(self, clock: SteppableClock) -> None:
        super().__init__(clock)
        self.troubles: list[tuple[str, BackendUnavailable]] = []
        self.busy_for: set[str] = set()

    def _meet(self, call: str) -> None:
        if self.troubles and self.troubles[0][0] == call:
            raise self.troubles.pop(0)[1]
        if call in self.busy_for:
            raise Busy("all connections are in use")

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        self._meet(FETCH)
        return super().fetch(keys, reserve=reserve)

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        self._meet(CHANGE)
        return super().change(changes)

    def change_later(self, changes: Sequence[Change]) -> None:
        if CHANGE not in self.busy_for:
            super().change(changes)


class Stand:
    """A layer over SQLite, whose cache can be crowded."""

    def __init__(self, path: Path) -> None:
        clock = SteppableClock()
        url = f"sqlite:///{path}"
        migrate.upgrade(url)
        self.below = open_sql_store(url, clock).storage
        self.cache = CrowdedProvider(clock)
        self.state = Servers(self.below.records, [SERVER], clock, Rules())[SERVER]
        self.storage = LayeredStorage(self.below, self.cache, self.state, Kinds(), clock)
        self.epoch = self.state.trusted()

    def write(self, payload: str) -> None:
        with self.storage.lock_for_write(7, "forms", ("a",), create=True) as work:
            work.put([BsoChange("a", payload)])

    def wipe(self) -> None:
        with self.storage.lock_for_write(7, None) as work:
            work.delete_all()

    def now(self) -> int:
        """The epoch in SQL."""
        return self.below.records.read([SERVER])[0].epoch

    def payload(self) -> str:
        return self.below.item(7, "forms", "a").payload


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path / "sync.db")
    made.write("before")
    made.storage.collection_times(7)
    yield made
    made.storage.close()


WRITES: list[Callable[[Stand], None]] = [lambda stand: stand.write("after"), Stand.wipe]


@pytest.mark.parametrize("write", WRITES, ids=["write", "wipe"])
@pytest.mark.parametrize("busy_for", [{FETCH, CHANGE}, {CHANGE}], ids=["all calls", "changes"])
def test_a_writer_who_gets_no_connection_asks_again_soon_and_declares_nothing(
    stand: Stand, write: Callable[[Stand], None], busy_for: set[str]
) -> None:
    stand.cache.busy_for = busy_for
    with pytest.raises(Unavailable) as refused:
        write(stand)
    assert refused.value.retry_after == 1
    assert stand.payload() == "before"
    assert stand.now() == stand.epoch
    assert not stand.state.troubled()
    stand.cache.busy_for = set()
    write(stand)


@pytest.mark.parametrize("write", WRITES, ids=["write", "wipe"])
def test_nor_does_one_whose_first_try_was_not_answered(stand: Stand, write: Callable[[Stand], None]) -> None:
    """What may still arrive of it hurts nobody, since nothing is committed."""
    stand.cache.troubles = [(CHANGE, BackendUnavailable("silent"))]
    stand.cache.busy_for = {CHANGE}
    with pytest.raises(Unavailable) as refused:
        write(stand)
    assert refused.value.retry_after == 1
    assert stand.payload() == "before"
    assert stand.now() == stand.epoch


def test_a_reader_who_gets_no_connection_asks_sql_and_leaves_the_cache_to_others(stand: Stand) -> None:
    stand.cache.busy_for = {FETCH, CHANGE}
    assert list(stand.storage.collection_times(7).collections) == ["forms"]
    assert not stand.state.troubled()


def test_two_answers_that_do_not_come_declare_the_cache_failed(stand: Stand) -> None:
    stand.cache.troubles = [(CHANGE, BackendUnavailable("silent"))] * 2
    with pytest.raises(Unavailable):
        stand.write("after")
    assert stand.epoch is not None
    assert stand.now() == after_failure(stand.epoch)
