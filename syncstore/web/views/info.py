"""`/info/*`: what a user has, and what a client may send (sync-api sections 10 and 12)."""

from __future__ import annotations

import msgspec

from syncstore.limits import Limits
from syncstore.storage.api import Storage, Totals
from syncstore.web import rendering
from syncstore.web.answers import Answer
from syncstore.web.requests import StorageRequest


class InfoViews:
    """The five documents. `quota` is in bytes, None when there is none."""

    def __init__(self, storage: Storage, limits: Limits, quota: int | None, *, batches: bool) -> None:
        self._storage = storage
        self._quota = quota
        self._configuration = msgspec.json.encode(_configuration(limits, quota, batches=batches))

    def collections(self, request: StorageRequest) -> Answer:
        """The time of every collection."""
        found = self._storage.collection_times(request.uid)
        request.check_read(found.modified)
        return _counted(rendering.times(found.collections), found)

    def counts(self, request: StorageRequest) -> Answer:
        """The number of live items of every collection that has any."""
        found = self._storage.collection_counts(request.uid)
        request.check_read(found.modified)
        return _counted(rendering.counts(found.collections), found)

    def usage(self, request: StorageRequest) -> Answer:
        """The size of every collection that has live items, in units of 1024 bytes."""
        found = self._storage.collection_usage(request.uid)
        request.check_read(found.modified)
        return _counted(rendering.kilobytes(found.collections), found)

    def quota(self, request: StorageRequest) -> Answer:
        """What is used and what is allowed, in units of 1024 bytes."""
        found = self._storage.collection_usage(request.uid)
        request.check_read(found.modified)
        used = sum(found.collections.values())
        return Answer(rendering.quota(used, self._quota), modified=found.modified)

    def configuration(self) -> Answer:
        """The limits. The same for everybody, so nobody is asked for a signature."""
        return Answer(self._configuration, modified=0)


def _counted(body: bytes, found: Totals) -> Answer:
    records = [("X-Weave-Records", str(len(found.collections)))]
    return Answer(body, modified=found.modified, headers=records)


def _configuration(limits: Limits, quota: int | None, *, batches: bool) -> dict[str, object]:
    names = ["max_request_bytes", "max_record_payload_bytes"]
    if batches:
        names += ["max_post_records", "max_post_bytes", "max_total_records", "max_total_bytes"]
    document: dict[str, object] = {name: getattr(limits, name) for name in names}
    if quota is not None:
        document["max_quota_limit"] = quota
    if limits.collections:
        document["collections"] = limits.collections
    return document
