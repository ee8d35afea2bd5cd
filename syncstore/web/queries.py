"""The query string of storage requests, and the offset token that pages hang on (sync-api sections 7 and 13).

Offsets are the position of the last item of a page (sort key and id), not a count: pages stay whole when items
come and go between them.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from syncstore.bso import MAX_SORTINDEX, is_id
from syncstore.clock import MAX_TICKS, parse_ticks
from syncstore.errors import InvalidRequest
from syncstore.storage.api import Position, Query, Sort

MAX_IDS = 100
_MOST_FIELDS = 100
_LONGEST_OFFSET = 200
_INTEGER = re.compile(r"[0-9]{1,18}", re.ASCII)
_OFFSET = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SORTS: dict[str, Sort] = {"newest": "newest", "oldest": "oldest", "index": "index"}


class BatchWish(msgspec.Struct, frozen=True):
    """What a POST asks of a batch: `batch` is None, "true" to open one, or an id."""

    batch: str | None = None
    commit: bool = False


class Parameters(msgspec.Struct, frozen=True):
    """A parsed query string. `batch` and `commit` are raw: only POST gives them a meaning."""

    query: Query = Query()
    batch: str | None = None
    commit: str | None = None

    def batch_wish(self) -> BatchWish:
        """What the batch parameters mean. Raises InvalidRequest for what means nothing."""
        commit = self.commit
        if commit is not None and commit.lower() != "true":
            raise InvalidRequest(f"commit={commit[:20]!r}")
        if self.batch is None:
            if commit is not None:
                raise InvalidRequest("commit without batch")
            return BatchWish()
        batch = "true" if self.batch == "" or self.batch.lower() == "true" else self.batch
        return BatchWish(batch, commit is not None)


_NONE = Parameters()


def parameters(query_string: str) -> Parameters:
    """The parameters of a request. Raises InvalidRequest. Unknown ones are ignored, as everywhere in the protocol."""
    return _parse(query_string) if query_string else _NONE


@lru_cache(maxsize=1024)
def _parse(query_string: str) -> Parameters:
    # Cached: clients repeat a handful of query strings, and parsing one costs more than routing the request.
    try:
        # A plus is a plus: clients write ids with their plus as it is, and a space as %20.
        pairs = parse_qsl(
            query_string.replace("+", "%2B"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
            separator="&",
        )
    except (ValueError, UnicodeError) as error:
        raise InvalidRequest(f"the query string cannot be read: {error}") from None
    found = dict(pairs)
    values: dict[str, Any] = {"full": "full" in found}
    if "ids" in found:
        values["ids"] = parse_ids(found["ids"])
    for name in ("newer", "older"):
        if name in found:
            values[name] = parse_ticks(found[name])
    if "limit" in found:
        if _INTEGER.fullmatch(found["limit"]) is None:
            raise InvalidRequest(f"limit={found['limit'][:20]!r}")
        # A list never gets that long; larger numbers only trouble databases.
        values["limit"] = min(int(found["limit"]), 2**31)
    if "sort" in found:
        sort = _SORTS.get(found["sort"])
        if sort is None:
            raise InvalidRequest(f"sort={found['sort'][:20]!r}")
        values["sort"] = sort
    if "offset" in found:
        values["after"] = parse_offset(found["offset"], values.get("sort", "newest"))
    return Parameters(Query(**values), found.get("batch"), found.get("commit"))


def parse_ids(text: str) -> tuple[str, ...]:
    """The list of `ids=`; one empty element at the end is forgiven, an empty list never is.

    An empty list taken for "no filter" would turn a DELETE of nothing into a DELETE of everything.
    """
    elements = [element.strip(" ") for element in text.split(",")]
    if len(elements) > 1 and not elements[-1]:
        elements.pop()
    if len(elements) > MAX_IDS:
        raise InvalidRequest(f"{len(elements)} ids, at most {MAX_IDS} are allowed")
    for element in elements:
        if not is_id(element):
            raise InvalidRequest(f"an invalid id in ids: {element[:80]!r}")
    return tuple(dict.fromkeys(elements))


def format_offset(position: Position) -> str:
    """The token that resumes behind a position: url-safe, to be sent back as it is."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(position)).rstrip(b"=").decode()


def parse_offset(text: str, sort: Sort) -> Position:
    """The position in a token. Raises InvalidRequest for one that was not given out for this order."""
    if len(text) > _LONGEST_OFFSET or _OFFSET.fullmatch(text) is None:
        raise InvalidRequest("an offset that was never given out")
    try:
        position = msgspec.msgpack.decode(
            base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Position
        )
    except (msgspec.DecodeError, binascii.Error, UnicodeError):
        raise InvalidRequest("an offset that was never given out") from None
    if position.sort != sort:
        raise InvalidRequest(f"an offset of sort={position.sort} for sort={sort}")
    key = position.key
    in_range = (
        abs(key) <= MAX_SORTINDEX
        if sort == "index" and key is not None
        else key is not None and 0 <= key <= MAX_TICKS
    )
    if not is_id(position.id) or not (in_range or (sort == "index" and key is None)):
        raise InvalidRequest("an offset that was never given out")
    return position
