"""A cache that is not there is neither a miss nor a hit."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from syncstore.cache.api import ABSENT, BackendUnavailable, NotSupported, Provider, Remove, Store, Token
from syncstore.clock import SystemClock
from syncstore.testing.cache_conformance.rooms import PATIENCE, OpenCache, Rooms

CALLS: dict[str, Callable[[Provider], object]] = {
    "retrieve": lambda cache: cache.retrieve(b"key"),
    "fetch": lambda cache: cache.fetch([b"key", b"other"]),
    "fetch and reserve": lambda cache: cache.fetch([b"key"], reserve=10),
    "store": lambda cache: cache.store(b"key", b"x"),
    "store over a token": lambda cache: cache.store(b"key", b"x", expect=Token("some", 1)),
    "store where nothing is": lambda cache: cache.store(b"key", b"x", expect=ABSENT),
    "remove": lambda cache: cache.remove(b"key"),
    "change": lambda cache: cache.change([Remove(b"key"), Store(b"other", b"x")]),
}
NEED_CAS = ("fetch and reserve", "store over a token", "store where nothing is")


class FaultRules(Rooms):
    """What every call does when the service is away."""

    @pytest.fixture
    def away(self, request: pytest.FixtureRequest) -> Provider:
        """A provider whose service is not there."""
        if not self.can_be_unreachable:
            pytest.skip("it lives in the process")
        open_one: OpenCache = request.getfixturevalue("open_unreachable_cache")
        return open_one(SystemClock())

    @pytest.mark.parametrize("call", CALLS)
    def test_it_is_unavailable_and_says_so_again(self, away: Provider, cache: Provider, call: str) -> None:
        # By one that is there: what another node's cache can do, only that can say.
        refused = NotSupported if call in NEED_CAS and not cache.features.cas else BackendUnavailable
        began = time.monotonic()
        for _ in range(20):  # more often than any pool has connections
            with pytest.raises(refused):
                CALLS[call](away)
        assert time.monotonic() - began < PATIENCE

    def test_what_is_changed_later_raises_nothing(self, away: Provider) -> None:
        for _ in range(20):
            away.change_later([Remove(b"key"), Store(b"other", b"x")])

    def test_it_can_be_closed(self, away: Provider) -> None:
        away.change_later([Remove(b"key")])
        away.close()
