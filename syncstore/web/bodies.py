"""Request bodies: from bytes to changes, with the reasons for those that fail (sync-api sections 5.2 and 6).

The ordinary body is decoded in one go straight into typed changes. Only when that refuses, or a rule across
items is broken, is the body read again patiently, element by element, to say which one fails and why.
"""

from __future__ import annotations

from typing import Any

import msgspec

from syncstore.bso import Change, MalformedBso, is_known_bad, payload_size, read_change
from syncstore.errors import InvalidRequest, UnsupportedMediaType
from syncstore.limits import Limits
from syncstore.web.answers import NEWLINES
from syncstore.web.requests import StorageRequest

CODE_NOT_JSON = 6
CODE_INVALID_BSO = 8
CODE_TOO_LARGE = 17

_JSON_TYPES = frozenset({"application/json", "text/plain"})


class Upload(msgspec.Struct, frozen=True):
    """The items of one POST: those to store, in request order, and the reasons for those that failed."""

    changes: list[Change]
    failed: dict[str, str]


_changes = msgspec.json.Decoder(list[Change])
_one_change = msgspec.json.Decoder(Change)


def read_item(request: StorageRequest, limits: Limits) -> Change:
    """The change that a PUT asks for. Raises InvalidRequest, UnsupportedMediaType, TooLarge."""
    if request.media_type not in _JSON_TYPES:
        raise UnsupportedMediaType(request.environ.get("CONTENT_TYPE") or "")
    raw = request.body(limits.max_request_bytes)
    element = _decode(raw)
    change = _patiently(element, with_id=request.item)
    if isinstance(change, str):
        # quoted: the name of an unknown field is the client's, and could end the line of the log
        raise InvalidRequest(f"{request.collection}/{request.item[:64]}: {change!r}", CODE_INVALID_BSO)
    if change.payload is not None and payload_size(change.payload) > limits.max_record_payload_bytes:
        raise InvalidRequest(f"{request.collection}/{request.item[:64]}: payload too large", CODE_INVALID_BSO)
    if is_known_bad(request.collection, change.payload):
        raise InvalidRequest("a known-bad payload", CODE_INVALID_BSO)
    return change


def read_upload(request: StorageRequest, limits: Limits) -> Upload:
    """The items of a POST. Raises InvalidRequest, UnsupportedMediaType, TooLarge."""
    _check_declared_sizes(request, limits)
    media_type = request.media_type
    if media_type in _JSON_TYPES:
        lines = None
    elif media_type == NEWLINES:
        lines = _lines(request.body(limits.max_request_bytes))
        if lines and not request.has_length:
            # Of a chunked body granian shows what came before the connection broke as if it were all. A list in
            # JSON that was cut off is no JSON; lines that were cut off look like fewer lines.
            raise InvalidRequest("lines in a body of undeclared length, which may be a part of it")
    else:
        raise UnsupportedMediaType(request.environ.get("CONTENT_TYPE") or "")
    raw = request.body(limits.max_request_bytes)
    try:
        changes = _changes.decode(raw) if lines is None else [_one_change.decode(line) for line in lines]
    except (ValueError, RecursionError):  # what msgspec raises for bad types, bad JSON, bad UTF-8, depth
        changes = []
    else:
        if _all_fit(changes, limits) and request.collection != "crypto":
            return Upload(changes, {})
    return _read_patiently(request.collection, limits, _elements(raw, lines))


def _all_fit(changes: list[Change], limits: Limits) -> bool:
    """Whether all items can be stored as they are; False asks for the patient way, and is not a verdict."""
    if not changes:
        return True
    ids = [change.id for change in changes]
    together = "".join(ids)
    if len(ids) > limits.max_post_records or len(set(ids)) != len(ids):
        return False
    if not (together.isascii() and together.isprintable()):
        return False
    sizes = [payload_size(change.payload) for change in changes if change.payload is not None]
    return not sizes or (
        max(sizes) <= limits.max_record_payload_bytes and sum(sizes) <= limits.max_post_bytes
    )


def _check_declared_sizes(request: StorageRequest, limits: Limits) -> None:
    """The sizes that a client announces, so that a batch that will not fit fails at its start."""
    environ = request.environ
    for header, limit in (
        ("HTTP_X_WEAVE_RECORDS", limits.max_post_records),
        ("HTTP_X_WEAVE_BYTES", limits.max_post_bytes),
        ("HTTP_X_WEAVE_TOTAL_RECORDS", limits.max_total_records),
        ("HTTP_X_WEAVE_TOTAL_BYTES", limits.max_total_bytes),
    ):
        text = environ.get(header)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise InvalidRequest(f"{header[5:]}: {text[:40]!r} is no number")
        if int(text) > limit:
            raise InvalidRequest(f"{header[5:]}: {text} exceeds {limit}", CODE_TOO_LARGE)


def _lines(raw: bytes) -> list[bytes]:
    """The lines of application/newlines; one newline at the end is forgiven once there is a record."""
    if not raw:
        return []
    lines = raw.split(b"\n")
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def _decode(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is no JSON: {str(error)[:100]}", CODE_NOT_JSON) from None


def _elements(raw: bytes, lines: list[bytes] | None) -> list[Any]:
    if lines is not None:
        return [_decode(line) for line in lines]
    elements = _decode(raw)
    if not isinstance(elements, list):
        raise InvalidRequest("the body is no list of BSOs", CODE_INVALID_BSO)
    return elements


def _patiently(element: Any, *, with_id: str | None = None) -> Change | str:
    try:
        return read_change(element, with_id=with_id)
    except MalformedBso as error:
        raise InvalidRequest(str(error), CODE_INVALID_BSO) from None


def _read_patiently(collection: str, limits: Limits, elements: list[Any]) -> Upload:
    accepted: list[Change] = []
    failed: dict[str, str] = {}
    seen: set[object] = set()
    for element in elements:
        change = _patiently(element)
        id_ = element["id"]
        if id_ in seen:
            raise InvalidRequest(f"the id {str(id_)[:64]!r} twice in one request", CODE_INVALID_BSO)
        seen.add(id_)
        if isinstance(change, str):
            failed[str(id_)] = change
        elif is_known_bad(collection, change.payload):
            raise InvalidRequest("a known-bad payload", CODE_INVALID_BSO)
        elif change.payload is not None and payload_size(change.payload) > limits.max_record_payload_bytes:
            failed[change.id] = "payload too large"
        else:
            accepted.append(change)
    return _within_limits(accepted, failed, limits)


def _within_limits(accepted: list[Change], failed: dict[str, str], limits: Limits) -> Upload:
    """Apply the limits of a POST in request order (sync-api section 6.3).

    The sum goes on growing with items that did not fit, so after one overflow smaller items fail, too: a client
    that sends them again does so in one piece.
    """
    changes = []
    total = 0
    for number, change in enumerate(accepted):
        if number >= limits.max_post_records:
            failed[change.id] = "retry bso"
            continue
        total += 0 if change.payload is None else payload_size(change.payload)
        if total > limits.max_post_bytes:
            failed[change.id] = "retry bytes"
        else:
            changes.append(change)
    return Upload(changes, failed)
