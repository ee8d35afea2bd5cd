"""What a view is given: who asks for what, and the parts of the request read with their bounds."""

from __future__ import annotations

from typing import Any

from syncstore.auth.authenticator import Identity
from syncstore.clock import parse_ticks
from syncstore.errors import InvalidRequest, NotModified, PreconditionFailed
from syncstore.web.receiving import discard, has_length, receive

NOBODY = Identity(0, None, None, None, None)


class StorageRequest:
    """One request to a user's storage. `collection` and `item` are empty where the URL has none."""

    __slots__ = (
        "_body",
        "collection",
        "environ",
        "identity",
        "item",
        "modified_since",
        "uid",
        "unmodified_since",
    )

    def __init__(self, environ: dict[str, Any], uid: int, collection: str, item: str) -> None:
        self.environ = environ
        self.uid = uid
        self.collection = collection
        self.item = item
        self.identity = NOBODY
        self.modified_since: int | None = None
        self.unmodified_since: int | None = None
        self._body: bytes | None = None

    # -- preconditions (sync-api section 9)

    def read_preconditions(self) -> None:
        """Parse the two headers. Raises InvalidRequest for one that is no time, or when both are there."""
        since = self.environ.get("HTTP_X_IF_UNMODIFIED_SINCE")
        if since is not None:
            self.unmodified_since = parse_ticks(since)
        since = self.environ.get("HTTP_X_IF_MODIFIED_SINCE")
        if since is not None:
            self.modified_since = parse_ticks(since)
            if self.unmodified_since is not None:
                raise InvalidRequest("X-If-Modified-Since and X-If-Unmodified-Since together")

    def check_read(self, modified: int) -> None:
        """Raise NotModified or PreconditionFailed for a resource of this time, in ticks, 0 when missing."""
        if self.modified_since is not None and modified <= self.modified_since:
            raise NotModified(modified)
        self.check_write(modified)

    def check_write(self, modified: int) -> None:
        """Raise PreconditionFailed. X-If-Modified-Since means nothing to a write."""
        if self.unmodified_since is not None and modified > self.unmodified_since:
            raise PreconditionFailed(modified)

    # -- the body

    @property
    def media_type(self) -> str:
        """The Content-Type without parameters, in lower case; empty when there is none."""
        content_type: str = self.environ.get("CONTENT_TYPE") or ""
        return content_type.partition(";")[0].strip().lower()

    @property
    def has_length(self) -> bool:
        """Whether the length of the body was declared, so that one that broke off is known from a whole one."""
        return has_length(self.environ)

    def body(self, limit: int) -> bytes:
        """The whole body, of at most `limit` bytes; more is refused before it is read."""
        if self._body is None:
            self._body = receive(self.environ, limit)
            if self.identity.hash:
                self.identity.verify_payload(self.media_type, self._body)
        return self._body

    def discard_body(self, limit: int) -> None:
        """Take the rest of a request that was refused off the connection (see `receiving.discard`)."""
        if self._body is None:
            discard(self.environ, limit)
