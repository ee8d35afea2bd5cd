"""Reading a request's body from the server's stream, bounded before it is read.

From the stream itself: the framework would put the body into a temporary file first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from syncstore.errors import InvalidRequest, SyncError, TooLarge


def has_length(environ: dict[str, Any]) -> bool:
    """Whether the length of the body was declared, so that one that broke off is known from a whole one."""
    return bool(environ.get("CONTENT_LENGTH"))


def receive(environ: dict[str, Any], limit: int) -> bytes:
    """The whole body, of at most `limit` bytes; more is refused before it is read, or as soon as it was counted.

    Raises TooLarge, and InvalidRequest for a body that ends before its length.
    """
    text = environ.get("CONTENT_LENGTH")
    if not text:
        # No length: a chunked body, or none.
        body = _read(environ, limit + 1)
        if len(body) > limit:
            raise TooLarge(None, limit)
        return body
    if not (text.isascii() and text.isdigit()):
        raise InvalidRequest("Content-Length is no number")
    if len(text) > 18 or int(text) > limit:
        raise TooLarge(int(text[:18]), limit)
    length = int(text)
    body = _read(environ, length)
    if len(body) != length:
        raise InvalidRequest("the body ended before its Content-Length")
    return body


def discard(environ: dict[str, Any], limit: int) -> None:
    """Take the rest of a request that was refused off the connection, if its body is within the limit.

    Most servers close a connection with an unread body. A proxy that is still sending then sees a reset, and tells
    the client 502 in place of our answer.
    """
    if has_length(environ):
        with suppress(SyncError):
            receive(environ, limit)


def _read(environ: dict[str, Any], most: int) -> bytes:
    try:
        body: bytes = environ["wsgi.input"].read(most)
    except Exception as error:
        # The server's own edge: each has exceptions of its own for a chunk that is none or a client that is gone, and
        # WSGI names no class for them.
        raise InvalidRequest(f"the body cannot be read: {type(error).__name__}") from error
    return body
