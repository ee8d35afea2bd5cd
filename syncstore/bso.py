"""The Basic Storage Object: what a stored item is, what a client may ask to change of it, and the rules for both.

A `BSO` is what a storage hands out, a `Change` what a client sends (sync-api sections 1 and 6). A field of a
change that is None was absent, or null, and keeps what the item has: partial updates are the rule, not the
exception.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

MAX_ID_LENGTH = 64
MAX_SORTINDEX = 999_999_999
MAX_TTL = 999_999_999

_INTEGER_TEXT = re.compile(r"-?[0-9]{1,9}", re.ASCII)
_COLLECTION = re.compile(r"[a-zA-Z0-9._-]{1,32}", re.ASCII)
_KNOWN_FIELDS = frozenset({"id", "payload", "sortindex", "ttl", "modified", "collection"})

# A key bundle encrypted with an all-zero IV, written by a defect of an old client; whoever stores it locks the
# user out of the account's data (sync-api section 6.4).
_KNOWN_BAD_CRYPTO = re.compile(r'"IV":\s*"AAAAAAAAAAAAAAAAAAAAAA=="')

Scalar = str | int | float | bool | None


class BSO(msgspec.Struct, frozen=True, gc=False):
    """One stored item. `modified` is in ticks of 10 ms; `sortindex` is None when it was never set."""

    id: str
    modified: int
    payload: str
    sortindex: int | None = None


class Change(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What one element of a POST, or the body of a PUT, asks for. `ttl` is in seconds from the write.

    `modified` and `collection` are accepted and ignored, since clients send back what they were given.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
    payload: str | None = None
    sortindex: Annotated[int, msgspec.Meta(ge=-MAX_SORTINDEX, le=MAX_SORTINDEX)] | None = None
    ttl: Annotated[int, msgspec.Meta(ge=0, le=MAX_TTL)] | None = None
    modified: Scalar = None
    collection: Scalar = None


def is_id(text: str) -> bool:
    """Whether `text` is an item id: 1 to 64 characters from space to tilde."""
    # For ASCII, "printable" is exactly 0x20-0x7E, and far cheaper than a regular expression.
    return 0 < len(text) <= MAX_ID_LENGTH and text.isascii() and text.isprintable()


def is_collection(text: str) -> bool:
    """Whether `text` is a collection name."""
    return _COLLECTION.fullmatch(text) is not None


def payload_size(payload: str) -> int:
    """The size that limits and quota count: bytes of UTF-8."""
    return len(payload) if payload.isascii() else len(payload.encode())


def is_known_bad(collection: str, payload: str | None) -> bool:
    """Whether the payload is one that must never be stored, for the good of its owner."""
    return collection == "crypto" and payload is not None and _KNOWN_BAD_CRYPTO.search(payload) is not None


class MalformedBso(ValueError):
    """The element is so far from a BSO that the whole request is refused (400 body 8)."""


def read_change(element: object, *, with_id: str | None = None) -> Change | str:
    """One decoded JSON element as a Change, or the reason why this element alone fails.

    This is the patient path, for elements that the typed decoder did not take whole. With `with_id` (PUT) that
    id is used whatever the body says, and a wrong id in the body is still a fault. Raises MalformedBso for an
    element that spoils the request (sync-api section 6.1).
    """
    if not isinstance(element, dict):
        raise MalformedBso("a BSO must be an object")
    for name, value in element.items():
        if isinstance(value, list | dict):
            raise MalformedBso(f"field {name[:40]!r} is not a scalar")
    id_ = element.get("id")
    if id_ is None:
        if with_id is None:
            raise MalformedBso("a BSO without an id")
    elif not isinstance(id_, str) or not is_id(id_):
        return "invalid id"
    for name in element:
        if name not in _KNOWN_FIELDS:
            return f"unknown field {name[:64]}"
    payload = element.get("payload")
    if payload is not None and not isinstance(payload, str):
        return "payload not a string"
    sortindex = _integer(element.get("sortindex"), -MAX_SORTINDEX, MAX_SORTINDEX)
    if isinstance(sortindex, str):
        return "invalid sortindex"
    ttl = _integer(element.get("ttl"), 0, MAX_TTL)
    if isinstance(ttl, str):
        return "invalid ttl"
    return Change(with_id if with_id is not None else str(id_), payload, sortindex, ttl)


def _integer(value: object, lowest: int, highest: int) -> int | str | None:
    """An integer of JSON, of an integral JSON number, or of digits in a string; a str says it is none."""
    if value is None:
        return None
    if isinstance(value, str):
        if _INTEGER_TEXT.fullmatch(value) is None:
            return "not an integer"
        number = int(value)
    elif isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return "not an integer"
    else:
        number = int(value)
    return number if lowest <= number <= highest else "out of range"
