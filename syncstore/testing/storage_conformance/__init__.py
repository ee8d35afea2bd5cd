"""Everything that a Storage (`syncstore.storage.api`) must do, as tests that a new store inherits.

A store is proved by a subclass that says how to open it, and closes what it opened:

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def open_storage(self, my_server):
            with MyConnections(my_server) as connections:
                yield lambda clock, quota=None: MyStorage(connections, clock, quota, BATCH_LIFETIME)

A store that a cache can rest on (`syncstore.storage.durable`) inherits DurableConformance as well.

A neighbour of each test's user has rows under the same collections and ids, and every test ends with a look
whether those are still there, and no others.
"""

from __future__ import annotations

import pytest

_TOPICS = (
    "batches",
    "durable",
    "durable_rooms",
    "durable_threads",
    "epochs",
    "expiry",
    "kept_quota",
    "kept_times",
    "listing",
    "payloads",
    "quota",
    "sequences",
    "settled",
    "snapshots",
    "times",
    "totals",
    "updates",
    "wholes",
    "works",
)

# plain asserts tell what they compared only when pytest rewrites the modules they stand in
pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in (*_TOPICS, "model", "rooms")))

from syncstore.testing.storage_conformance.batches import BatchRules  # noqa: E402  # after the line above
from syncstore.testing.storage_conformance.durable import DurableConformance  # noqa: E402
from syncstore.testing.storage_conformance.expiry import ExpiryRules  # noqa: E402
from syncstore.testing.storage_conformance.listing import ListingRules  # noqa: E402
from syncstore.testing.storage_conformance.payloads import PayloadRules  # noqa: E402
from syncstore.testing.storage_conformance.quota import QuotaRules  # noqa: E402
from syncstore.testing.storage_conformance.rooms import BATCH_LIFETIME, OpenStorage  # noqa: E402
from syncstore.testing.storage_conformance.sequences import SequenceRules  # noqa: E402
from syncstore.testing.storage_conformance.snapshots import SnapshotRules  # noqa: E402
from syncstore.testing.storage_conformance.times import TimeRules  # noqa: E402
from syncstore.testing.storage_conformance.totals import TotalRules  # noqa: E402
from syncstore.testing.storage_conformance.updates import UpdateRules  # noqa: E402
from syncstore.testing.storage_conformance.works import WorkRules  # noqa: E402

__all__ = ["BATCH_LIFETIME", "DurableConformance", "OpenStorage", "StorageConformance"]


class StorageConformance(
    UpdateRules,
    TimeRules,
    ListingRules,
    PayloadRules,
    ExpiryRules,
    TotalRules,
    BatchRules,
    QuotaRules,
    WorkRules,
    SnapshotRules,
    SequenceRules,
):
    """All rules. A subclass brings the fixture `open_storage`, of type OpenStorage."""
