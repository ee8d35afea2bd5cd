"""What a layer with a cache asks of the store below it (`syncstore.storage.durable`), as tests to inherit.

class TestMyStore(StorageConformance, DurableConformance):
    @pytest.fixture
    def open_storage(self, my_server): ...  # as StorageConformance has it, of a DurableStorage
"""

from __future__ import annotations

from syncstore.testing.storage_conformance.durable_threads import DurableThreads
from syncstore.testing.storage_conformance.epochs import EpochRules
from syncstore.testing.storage_conformance.kept_quota import KeptQuotaRules
from syncstore.testing.storage_conformance.kept_times import KeptTimeRules
from syncstore.testing.storage_conformance.settled import SettledRules
from syncstore.testing.storage_conformance.wholes import WholeRules


class DurableRules(KeptTimeRules, KeptQuotaRules, SettledRules, WholeRules, EpochRules):
    """The rules that one thread can check, for a store that has no more."""


class DurableConformance(DurableRules, DurableThreads):
    """All rules. A subclass brings the fixture `open_storage`, of type OpenStorage."""
