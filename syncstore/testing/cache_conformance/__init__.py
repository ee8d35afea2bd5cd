"""Everything that a small-object cache (`syncstore.cache.api`) must do, as tests that a new provider inherits.

A provider is proved by a subclass that says how to open it:

    class TestMyCache(CacheConformance):
        @pytest.fixture
        def open_cache(self, my_server):
            with OpenCaches(lambda clock: MyProvider(my_server.address, clock)) as open_cache:
                yield open_cache

        @pytest.fixture
        def open_unreachable_cache(self):
            with OpenCaches(lambda clock: MyProvider("127.0.0.1:1", clock)) as open_cache:
                yield open_cache

What it declares that it cannot do (Features) is left out. One that is bound to nothing outside the process says
`can_be_unreachable = False`. Each test has keys of its own, so the cache need not be empty.
"""

from __future__ import annotations

import pytest

_TOPICS = ("changes", "expiry", "faults", "limits", "reservations", "sharing", "tokens", "values")

# plain asserts tell what they compared only when pytest rewrites the modules they stand in
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in (*_TOPICS, "rooms")))

from syncstore.testing.cache_conformance.changes import ChangeRules  # noqa: E402  # after the line above
from syncstore.testing.cache_conformance.expiry import ExpiryRules  # noqa: E402
from syncstore.testing.cache_conformance.faults import FaultRules  # noqa: E402
from syncstore.testing.cache_conformance.limits import LimitRules  # noqa: E402
from syncstore.testing.cache_conformance.reservations import ReservationRules  # noqa: E402
from syncstore.testing.cache_conformance.rooms import OpenCache, OpenCaches  # noqa: E402
from syncstore.testing.cache_conformance.sharing import SharingRules  # noqa: E402
from syncstore.testing.cache_conformance.tokens import TokenRules  # noqa: E402
from syncstore.testing.cache_conformance.values import ValueRules  # noqa: E402

__all__ = ["CacheConformance", "OpenCache", "OpenCaches"]


class CacheConformance(
    ValueRules, TokenRules, ReservationRules, ExpiryRules, ChangeRules, LimitRules, FaultRules, SharingRules
):
    """All rules. A subclass brings the fixtures `open_cache` and `open_unreachable_cache`, of type OpenCache."""
