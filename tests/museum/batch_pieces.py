"""Pieces about batches, those in the cache: whose they are, and how often they are applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from syncstore.storage.durable import KeptTime
from syncstore.storage.layered.cached_batches import CachedBatches, Claim
from syncstore.testing.simulation.plan import CACHED_ONLY, Mix
from tests.museum.piece import Piece, hurried, replaced


class IdsFromTheClock(CachedBatches):
    def open(self, uid: int, collection: str, at: int) -> Claim:
        claim = super().open(uid, collection, at)
        return Claim(f"{self._clock.now():016d}", None, collection, at, claim.ends, claim.changes)


class KeepsCommitted(CachedBatches):
    def remove(self, uid: int, claim: Claim) -> None:
        pass


class OutlivesWipes(CachedBatches):
    def find(self, uid: int, collection: str, batch: str, kept: Mapping[str, KeptTime]) -> Claim:
        return super().find(uid, collection, batch, {})


_ONE: Final = (CACHED_ONLY,)
_KINDS: Final = ("batch", "batch", "put", "read")

PIECES: Final = (
    Piece(
        "batches-share-an-id",
        "the 2012 layer, O10",
        "A batch is named after the moment at which it was opened, and put over what has that name.",
        "Two uploads of one moment become one: the first device's items vanish, the second's are applied for it.",
        "contents that nobody wrote",
        replaced(IdsFromTheClock),
        Mix(_ONE, kinds=_KINDS, clock_stands=True),
    ),
    Piece(
        "batch-stays-open",
        "the 2012 layer, O12",
        "A commit leaves the batch as it is, to be closed later.",
        "A client that asks again applies old items over newer ones.",
        "batch applied twice",
        replaced(KeepsCommitted),
        Mix(_ONE, ("commit reply lost",), kinds=_KINDS),
        hurried,
    ),
    Piece(
        "batch-outlives-a-wipe",
        "the 2012 layer, O13",
        "A wipe does not end the batches that are open in the cache.",
        "A device that knows nothing of the wipe brings wiped items back.",
        "batch from before a wipe",
        replaced(OutlivesWipes),
        Mix(_ONE, most_requests=6, kinds=("batch", "batch", "batch", "wipe")),
    ),
)
