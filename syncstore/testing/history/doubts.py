"""Writes of which nobody knows whether they happened: not answered, or answered with a 503 that may count.

One whose tag is seen happened, at the time seen, whole. The others may explain what is missing, or a time that is
nobody's, if they can have had their effect at the right moment.
"""

from __future__ import annotations

from collections.abc import Iterable

from syncstore.testing.history.records import REMOVALS, Exchange


class Doubts:
    """The doubtful writes of one user that were not seen. Until `late` seconds after its end one may take effect."""

    def __init__(self, exchanges: Iterable[Exchange], late: float) -> None:
        self._exchanges = list(exchanges)
        self._late = late

    def removes(self, collection: str, item: str | None, after: float, before: float) -> bool:
        """Whether one may have taken away the item, None for the whole collection, between two moments."""
        return any(
            one.sent.op in REMOVALS or (item is not None and item in one.sent.gone)
            for one in self._between(collection, after, before)
        )

    def changes(self, collection: str, after: float, before: float) -> bool:
        """Whether one may have changed the collection between two moments."""
        return any(True for _ in self._between(collection, after, before))

    def _between(self, collection: str, after: float, before: float) -> Iterable[Exchange]:
        for one in self._exchanges:
            if one.sent.op != "delete everything" and one.sent.collection != collection:
                continue
            ended = one.sent.at if one.answer is None else one.answer.at
            if one.sent.at < before and after <= ended + self._late:
                yield one
