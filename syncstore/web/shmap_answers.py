"""What shmap answers: statuses, headers and the word by which a program knows our answer from a stranger's.

Every answer has `X-Shmap`: `ok`, or the word of what was wrong. An answer without it comes from somewhere else, such as
a proxy, and says nothing of a key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from email.utils import formatdate
from typing import Any, Final, NamedTuple

from syncstore import errors
from syncstore.cache.api import (
    BackendError,
    BackendUnavailable,
    BadKey,
    Conflict,
    NotFound,
    NotSupported,
    StorageFull,
    TooLarge,
)
from syncstore.cache.http import words

Headers = Iterable[tuple[str, str]]

VALUE: Final = "application/octet-stream"
JSON: Final = "application/json"

REASONS: Final = {
    200: "200 OK",
    201: "201 Created",
    204: "204 No Content",
    304: "304 Not Modified",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    403: "403 Forbidden",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    411: "411 Length Required",
    412: "412 Precondition Failed",
    413: "413 Content Too Large",
    414: "414 URI Too Long",
    415: "415 Unsupported Media Type",
    500: "500 Internal Server Error",
    501: "501 Not Implemented",
    503: "503 Service Unavailable",
    507: "507 Insufficient Storage",
}

# Caches are back in a moment, or not for long; who asks each second does no harm.
_RETRY_AFTER = (("Retry-After", "1"),)
_LAST_DATE: Final = 253_402_300_800.0  # the end of the year 9999
_ALWAYS = [("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff")]


class Reply(NamedTuple):
    """One answer. `word` is that of `X-Shmap`."""

    status: int
    body: bytes = b""
    headers: Headers = ()
    content_type: str = VALUE
    word: str = words.OK

    def send(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer as a WSGI application."""
        headers = [*_ALWAYS, (words.HEADER, self.word), *self.headers]
        if self.status not in (204, 304):  # which have no body that a length and a type could be of
            headers += [("Content-Length", str(len(self.body))), ("Content-Type", self.content_type)]
        start_response(REASONS[self.status], headers)
        if environ["REQUEST_METHOD"] == "HEAD" or self.status in (204, 304):
            return []
        return [self.body]


def expiry_headers(expires: float) -> Headers:
    """Until when a value is kept: to the last digit, and as the date that HTTP has for it, where it has one."""
    if not expires:
        return []
    headers = [("X-Shmap-Expires-At", format(Decimal(repr(expires)), "f"))]
    if expires < _LAST_DATE:
        headers.append(("Expires", formatdate(math.floor(expires), usegmt=True)))
    return headers


class Refused(Exception):
    """A request that is not done: its status, its word, what there is to say, and headers."""

    def __init__(self, status: int, word: str, text: str, headers: Headers = ()) -> None:
        super().__init__(text)
        self.status = status
        self.word = word
        self.headers = headers

    def reply(self) -> Reply:
        """The answer."""
        body = json.dumps({"error": str(self)}).encode() + b"\n"
        return Reply(self.status, body, self.headers, JSON, self.word)


def bad_request(text: str, word: str = "bad-request") -> Refused:
    """A request that cannot be understood."""
    return Refused(400, word, text)


def refused(error: NotFound | BackendError | errors.SyncError) -> Refused:
    """How an error of a cache, or of reading a body, is told. The one place that knows."""
    match error:
        case NotFound():
            return Refused(404, words.NOT_FOUND, "there is nothing under this key")
        case Conflict():
            return Refused(412, words.CONFLICT, "the key is in another state")
        case TooLarge():
            return Refused(413, words.TOO_LARGE, str(error))
        case errors.TooLarge():
            return Refused(413, words.TOO_LARGE, f"the body has more than {error.limit} bytes")
        case BadKey():
            return Refused(414, words.BAD_KEY, str(error))
        case StorageFull():
            return Refused(507, words.FULL, "there is no room")
        case NotSupported():
            return Refused(501, words.NOT_SUPPORTED, str(error))
        case BackendUnavailable():
            return Refused(503, words.UNAVAILABLE, "the cache does not answer", _RETRY_AFTER)
        case errors.InvalidRequest():
            return bad_request(error.reason)
    return Refused(503, words.UNAVAILABLE, "the cache has a fault", _RETRY_AFTER)
