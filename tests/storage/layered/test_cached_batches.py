"""The batches of collections in the cache: at the end of their time, and when a commit has to be begun again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from syncstore.bso import Change
from syncstore.cache.api import Change as CacheChange
from syncstore.cache.api import Conflict, Outcome, Remove
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memory import MemoryProvider
from syncstore.errors import InvalidBatch, NotYet, RolledBack, Unavailable
from syncstore.storage.layered.cached_batches import CachedBatches
from syncstore.storage.layered.metadata import Metadata, Unconfirmed
from syncstore.storage.sql import migrate
from syncstore.testing.cached_store import open_cached_store
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.servers import MemcachedServer

LIFETIME = 7200


def test_a_commit_that_has_to_wait_finds_its_batch_when_it_is_begun_again(
    memcached_server: MemcachedServer, tmp_path: Path
) -> None:
    """Another process has just declared the server failed, which we still reach."""
    url = f"sqlite:///{tmp_path / 'sync.db'}"
    migrate.upgrade(url)

    def commit() -> None:
        with store.storage.lock_for_write(7, "tabs", create=True) as work:
            work.commit_batch(batch, [Change("c", "last")])

    with (
        open_cached_store(url, memcached_server.address, prefix="batches") as store,
        open_cached_store(url, memcached_server.address, prefix="batches") as other,
    ):
        store.put(7, "tabs", "a")
        with store.storage.lock_for_write(7, "tabs", create=True) as work:
            batch = work.create_batch()
            work.append_to_batch(batch, [Change("b", "staged")])
        other.state.declare_failed(other.epoch, "for the test")
        store.state.forget_view()
        with pytest.raises(NotYet):
            commit()
        time.sleep(store.state.wait)
        assert store.state.probe(store.cache)
        commit()
        assert {item.id for item in store.read(7, "tabs").items} == {"a", "b", "c"}


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("how", ["declared failed", "rolled back"])
def test_a_write_that_fails_when_its_items_are_stored_is_not_begun_again(
    memcached_server: MemcachedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    *,
    staged: bool,
) -> None:
    """It would be told that there is no such batch, or that the collection has changed: its items may be taken over."""
    url = f"sqlite:///{tmp_path / 'sync.db'}"
    migrate.upgrade(url)
    with open_cached_store(url, memcached_server.address, prefix="claimed") as store:
        store.put(7, "tabs", "a")
        with store.storage.lock_for_write(7, "tabs", create=True) as work:
            batch = work.create_batch()
            work.append_to_batch(batch, [Change("b", "staged")])

        def fail(cache: MemcachedProvider, changes: Sequence[CacheChange]) -> list[Outcome]:
            outcomes = change(cache, changes)
            if isinstance(changes[-1], Remove):
                return outcomes
            if how == "rolled back":
                raise RolledBack("for the test")
            return [Conflict("for the test"), *outcomes[1:]]

        def not_placed(*_: object) -> NoReturn:
            raise Unconfirmed(store.epoch, "for the test")

        change = MemcachedProvider.change

        def commit() -> None:
            with store.storage.lock_for_write(7, "tabs") as work:
                if staged:
                    work.commit_batch(batch, [Change("c", "last")])
                else:
                    work.put([Change("c", "last")])
                monkeypatch.setattr(MemcachedProvider, "change", fail)
                monkeypatch.setattr(Metadata, "mark", not_placed)

        with pytest.raises(Unavailable) as told:
            commit()
        monkeypatch.undo()
        assert type(told.value) is Unavailable
        if staged and how == "rolled back":  # the other leaves the cache alone for a moment
            with pytest.raises(InvalidBatch), store.storage.lock_for_write(7, "tabs") as work:
                work.commit_batch(batch, [])


def test_a_batch_that_ends_between_two_steps_of_a_request_is_not_open_any_more() -> None:
    clock = SteppableClock()
    batches = CachedBatches(MemoryProvider(clock), clock, LIFETIME)
    opened = batches.open(1, "tabs", 0)
    batches.store(1, opened)
    clock.step(LIFETIME - 0.001)
    found = batches.find(1, "tabs", opened.batch, {}).with_more([Change("a", "x")])
    clock.step(0.001)
    with pytest.raises(InvalidBatch):
        batches.store(1, found)
