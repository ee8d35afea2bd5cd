"""`/storage/{collection}`: listing, uploading, deleting (sync-api sections 7, 8.3, 8.6 and 13)."""

from __future__ import annotations

from syncstore.errors import InvalidBatch
from syncstore.limits import Limits
from syncstore.storage.api import Storage
from syncstore.web import rendering
from syncstore.web.answers import Answer, json_zero
from syncstore.web.bodies import Upload, read_upload
from syncstore.web.negotiation import listing_type
from syncstore.web.queries import format_offset, parameters
from syncstore.web.quota import quota_headers
from syncstore.web.requests import StorageRequest


class CollectionViews:
    """The methods of a collection. Without `batches` a client's wish for one is ignored."""

    def __init__(self, storage: Storage, limits: Limits, *, batches: bool) -> None:
        self._storage = storage
        self._limits = limits
        self._batches = batches

    def get(self, request: StorageRequest) -> Answer:
        """The items, or their ids, that match the query."""
        media_type = listing_type(request.environ.get("HTTP_ACCEPT"))
        if media_type is None:
            return json_zero(406)
        query = parameters(request.environ.get("QUERY_STRING", "")).query
        if request.modified_since is not None:
            # Most such requests end here, without the items being read.
            request.check_read(self._storage.collection_modified(request.uid, request.collection))
        page = self._storage.find(request.uid, request.collection, query)
        request.check_read(page.modified)
        if query.full:
            body = rendering.items(page.items, media_type)
        else:
            body = rendering.ids(page.ids, media_type)
        headers = [("X-Weave-Records", str(len(page.items) + len(page.ids)))]
        if page.next is not None:
            headers.append(("X-Weave-Next-Offset", format_offset(page.next)))
        return Answer(body, content_type=media_type, modified=page.modified, headers=headers)

    def post(self, request: StorageRequest) -> Answer:
        """Store items at once, stage them in a batch, or commit a batch."""
        asked = parameters(request.environ.get("QUERY_STRING", ""))
        limits = self._limits.of(request.collection)
        if not self._batches:
            if asked.batch is not None and asked.batch.lower() != "true":
                raise InvalidBatch("batches are switched off")
            return self._store(request, read_upload(request, limits))
        wish = asked.batch_wish()
        upload = read_upload(request, limits)
        if wish.batch is None or (wish.batch == "true" and wish.commit):
            return self._store(request, upload)
        if wish.commit:
            return self._commit(request, wish.batch, upload)
        return self._stage(request, wish.batch, upload)

    def _store(self, request: StorageRequest, upload: Upload) -> Answer:
        ids = [change.id for change in upload.changes]
        with self._storage.lock_for_write(request.uid, request.collection, ids, create=True) as work:
            request.check_write(work.collection_modified)
            time = work.put(upload.changes)
        return Answer(
            rendering.posted(time, ids, upload.failed),
            modified=time,
            written=True,
            headers=quota_headers(work.quota_left),
        )

    def _stage(self, request: StorageRequest, batch: str, upload: Upload) -> Answer:
        with self._storage.lock_for_write(request.uid, request.collection, create=True) as work:
            unchanged = work.collection_modified
            request.check_write(unchanged)
            if batch == "true":
                batch = work.create_batch()
            work.append_to_batch(batch, upload.changes)
        ids = [change.id for change in upload.changes]
        return Answer(rendering.staged(batch, ids, upload.failed), status=202, modified=unchanged)

    def _commit(self, request: StorageRequest, batch: str, upload: Upload) -> Answer:
        with self._storage.lock_for_write(request.uid, request.collection, create=True) as work:
            request.check_write(work.collection_modified)
            time = work.commit_batch(batch, upload.changes)
        ids = [change.id for change in upload.changes]
        return Answer(
            rendering.posted(time, ids, upload.failed),
            modified=time,
            written=True,
            headers=quota_headers(work.quota_left),
        )

    def delete(self, request: StorageRequest) -> Answer:
        """Delete the items of `ids`, or without that parameter the collection."""
        ids = parameters(request.environ.get("QUERY_STRING", "")).query.ids
        with self._storage.lock_for_write(request.uid, request.collection, ids or ()) as work:
            request.check_write(work.collection_modified)
            time = work.delete_collection() if ids is None else work.delete_items(ids)
        # Nothing to delete, nothing written: then X-Weave-Timestamp must not repeat an old time.
        return Answer(rendering.modified(time), modified=time, written=time > work.storage_modified)
