"""`/storage/{collection}/{item}`: one item (sync-api sections 8.1, 8.2 and 8.6)."""

from __future__ import annotations

from syncstore.errors import NotFound
from syncstore.limits import Limits
from syncstore.storage.api import Storage
from syncstore.web import rendering
from syncstore.web.answers import Answer
from syncstore.web.bodies import read_item
from syncstore.web.queries import parameters
from syncstore.web.quota import quota_headers
from syncstore.web.requests import StorageRequest


class ItemViews:
    """The methods of one item."""

    def __init__(self, storage: Storage, limits: Limits) -> None:
        self._storage = storage
        self._limits = limits

    def get(self, request: StorageRequest) -> Answer:
        """The item. One that is missing has the time 0, to which preconditions apply first."""
        parameters(request.environ.get("QUERY_STRING", ""))
        try:
            found = self._storage.item(request.uid, request.collection, request.item)
        except NotFound:
            request.check_read(0)
            raise
        request.check_read(found.modified)
        return Answer(rendering.item(found), modified=found.modified)

    def put(self, request: StorageRequest) -> Answer:
        """Create the item, or change the fields that the body has."""
        parameters(request.environ.get("QUERY_STRING", ""))
        change = read_item(request, self._limits.of(request.collection))
        with self._storage.lock_for_write(
            request.uid, request.collection, (request.item,), create=True
        ) as work:
            request.check_write(work.item_modified(request.item))
            time = work.put((change,))
        return Answer(
            rendering.time(time), modified=time, written=True, headers=quota_headers(work.quota_left)
        )

    def delete(self, request: StorageRequest) -> Answer:
        """Delete the item."""
        parameters(request.environ.get("QUERY_STRING", ""))
        with self._storage.lock_for_write(request.uid, request.collection, (request.item,)) as work:
            request.check_write(work.item_modified(request.item))
            time = work.delete_item(request.item)
        return Answer(rendering.modified(time), modified=time, written=True)
