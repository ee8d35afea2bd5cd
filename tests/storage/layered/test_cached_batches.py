"""The batches of collections in the cache, at the end of their time."""

from __future__ import annotations

import pytest

from syncstore.bso import Change
from syncstore.cache.memory import MemoryProvider
from syncstore.errors import InvalidBatch
from syncstore.storage.layered.cached_batches import CachedBatches
from syncstore.testing.clocks import SteppableClock

LIFETIME = 7200


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
