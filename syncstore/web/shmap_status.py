"""What a mount tells of itself: what its cache can do, how it is doing, and where that is allowed, its keys."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from syncstore.cache.api import Features, Item, Limits, Provider, Token
from syncstore.web.shmap_answers import JSON, Headers, Reply, bad_request

_PAGE: Final = 1000
_LARGEST_PAGE: Final = 10_000
_KEY_SAFE: Final = "/"


def feature_words(features: Features, *, listed: bool) -> list[str]:
    """What a cache can do over HTTP."""
    return [
        word
        for word, has in (
            ("cas", features.cas),
            ("iterate", listed),
            ("persistent", features.persistent),
            ("shared", features.shared),
            ("evicts", features.evicts),
        )
        if has
    ]


def option_headers(features: list[str], limits: Limits, room: bytes, largest: int) -> Headers:
    """What OPTIONS tells: limits in bytes, and with what all keys of the mount begin."""
    return [
        ("X-Shmap-Max-Key", str(limits.max_key)),
        ("X-Shmap-Max-Value", str(largest)),
        ("X-Shmap-Ttl-Step", f"{limits.ttl_step:g}"),
        ("X-Shmap-Features", ",".join(features)),
        ("X-Shmap-Key-Prefix", quote(room, safe=_KEY_SAFE)),
    ]


def status(prefix: str, provider: Provider, features: list[str], limits: Limits, largest: int) -> Reply:
    """The status of a mount, as JSON."""
    facts = {
        "mount": prefix,
        "provider": provider.name,
        "features": features,
        "limits": {"max_key": limits.max_key, "max_value": largest, "ttl_step": limits.ttl_step},
        "status": dict(provider.status()),
    }
    return Reply(200, json.dumps(facts).encode() + b"\n", content_type=JSON)


class Page:
    """A page of the keys of a mount, in their order, of `limit` at most, from behind the key `after`."""

    def __init__(self, query: str) -> None:
        """A query is `keys`, with `&after=KEY` and `&limit=N` if need be. Raises Refused."""
        words = query.split("&")
        given: dict[str, str] = {}
        for word in words[1:]:
            name, equals, text = word.partition("=")
            if not equals or name in given or name not in ("after", "limit"):
                raise bad_request("the query must be keys, with &after=KEY and &limit=N if need be")
            given[name] = text
        if words[0] != "keys":
            raise bad_request("a mount has no other query than keys")
        number = given.get("limit", str(_PAGE))
        if not (number.isascii() and number.isdigit() and len(number) < 9):
            raise bad_request("limit must be a number")
        if not 1 <= int(number) <= _LARGEST_PAGE:
            raise bad_request(f"limit must be from 1 to {_LARGEST_PAGE}")
        self._limit = int(number)
        self._after = (
            unquote_to_bytes(given["after"].encode("latin-1", "replace")) if "after" in given else b""
        )

    def of(self, items: Iterator[tuple[bytes, Item]], room: bytes, tag: Callable[[Token], str]) -> Reply:
        """The page of what a cache lists, where it begins with the bytes `room`.

        A key that is there all the time is on one page, whatever comes and goes between pages. Each page looks at all
        keys, and holds `limit` of them.
        """
        here = ((key, item) for key, item in items if key.startswith(room) and key > self._after)
        page = heapq.nsmallest(self._limit + 1, ((key, _row(key, item, tag)) for key, item in here))
        rows = [row for _, row in page[: self._limit]]
        found: dict[str, Any] = {"keys": rows}
        found["next"] = rows[-1]["key"] if len(page) > self._limit else None
        return Reply(200, json.dumps(found).encode() + b"\n", content_type=JSON)


def _row(key: bytes, item: Item, tag: Callable[[Token], str]) -> dict[str, Any]:
    return {
        "key": quote(key, safe=_KEY_SAFE),
        "size": len(item.value),
        "expires": item.expires or None,
        "etag": tag(item.token),
    }
