"""What the rules of a DurableStorage stand on: the store, and a neighbour with kept times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest

from syncstore.bso import Change
from syncstore.storage.durable import Being, DurableStorage, KeptTime
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.storage_conformance.rooms import Rooms, User


class DurableRooms(Rooms):
    """The fixtures that all topics of a DurableStorage share."""

    @pytest.fixture
    def durable(self, user: User) -> DurableStorage:
        """The store under test."""
        return cast("DurableStorage", user.storage)

    @pytest.fixture(autouse=True)
    def kept_neighbour(self, new_user: Callable[[], User], clock: SteppableClock) -> Iterator[None]:
        """A user with kept times, who must have at the end what there was at the beginning."""
        theirs = new_user()
        store = cast("DurableStorage", theirs.storage)
        theirs.put(Change("a", "theirs"))
        keep(store, theirs.uid, "tabs", items=3, size=70)
        keep(store, theirs.uid, "lost", being=Being.LOST)
        clock.step(0.05)
        before = store.times(theirs.uid)
        yield
        assert store.times(theirs.uid) == before


def keep(
    store: DurableStorage,
    uid: int,
    collection: str,
    *,
    being: Being = Being.LIVE,
    items: int = 0,
    size: int = 0,
) -> KeptTime:
    """Write a cached-only collection of so many items and bytes."""
    with store.lock_for_times(uid, collection) as work:
        before = work.kept.get(collection)
        kept = KeptTime(work.draw_time(), being, items, size)
        work.charge(size - (before.bytes if before is not None else 0))
        work.keep_time(collection, kept)
    return kept
