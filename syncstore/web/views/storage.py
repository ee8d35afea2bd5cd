"""`/1.5/{uid}` and `/1.5/{uid}/storage`: deleting everything (sync-api section 8.6)."""

from __future__ import annotations

from syncstore.storage.api import Storage
from syncstore.web import rendering
from syncstore.web.answers import Answer
from syncstore.web.requests import StorageRequest


class StorageViews:
    """The one method of a whole storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def delete(self, request: StorageRequest) -> Answer:
        """Delete all collections and pending batches of the user."""
        with self._storage.lock_for_write(request.uid, None) as work:
            request.check_write(work.storage_modified)
            time = work.delete_all()
        return Answer(rendering.modified(time), modified=time, written=True)
