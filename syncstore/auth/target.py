"""The request target that the client signed: path and query as they stood on its request line.

A server that passes the raw target on makes this exact. One that hands over only the decoded path (granian,
bjoern) leaves a guess: the decoded path is quoted again, first as WebOb does it, then in the few other ways
in which clients write an unusual item id (auth specification, section 5). Every guess decodes to the same
path, so a signature that fits any of them was made for this very request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from syncstore.auth.origin import PATH_SAFE

# encodeURIComponent leaves these, besides letters, digits and _.-~ (ECMA-262, 19.2.6)
_COMPONENT_SAFE = "!~*'()"
# the WHATWG URL path percent-encode set, and the percent sign, leave these (URL standard, 1.3)
_URL_SAFE = "/~!$&'()*+,;=:@[]\\|"

_must_quote = re.compile(r"[^A-Za-z0-9_.\-~!$&'()*+,;=:@/]").search
_is_unusual = re.compile(r"[^A-Za-z0-9_.\-~]").search
_is_unsendable = re.compile(r"[\x00-\x20\x7f?#]|%[0-9A-Fa-f]{2}").search
_item = re.compile(r"(.*?/1\.5/[0-9]+/storage/[^/]+/)(.+)", re.DOTALL).fullmatch


def first_target(environ: dict[str, Any], prefix: str) -> str:
    """The likeliest target: the raw one if the server tells it, else the path quoted again.

    `prefix` is the path prefix of the origin; it is put before a target that does not begin with it, since
    some proxies strip it.
    """
    raw: str | None = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if raw is None:
        return _requoted(environ, prefix)
    if not raw.startswith("/"):
        raw = _origin_form(raw)
    return _prefixed(raw, prefix) if prefix else raw


def other_targets(environ: dict[str, Any], prefix: str, first: str) -> Iterator[str]:
    """The further targets to try when the signature does not fit `first`, the likeliest before others."""
    tried = {first}
    for target in _others(environ, prefix):
        if target not in tried:
            tried.add(target)
            yield target


def _others(environ: dict[str, Any], prefix: str) -> Iterator[str]:
    yield _requoted(environ, prefix)
    if environ.get("REQUEST_URI") or environ.get("RAW_URI"):
        return
    head, item = _split_item(_decoded(environ))
    if _is_unusual(item) is None:
        return
    query = _query(environ)
    head = _prefixed(_quote(head, PATH_SAFE), prefix)
    for safe in (_COMPONENT_SAFE, "", _URL_SAFE):
        yield head + _quote(item, safe) + query
    # written as it is: only what can stand on a request line, and has no other meaning there
    if _is_unsendable(item) is None:
        yield head + item + query


def _requoted(environ: dict[str, Any], prefix: str) -> str:
    path = _decoded(environ)
    if _must_quote(path) is not None:
        path = _quote(path, PATH_SAFE)
    return (_prefixed(path, prefix) if prefix else path) + _query(environ)


def _decoded(environ: dict[str, Any]) -> str:
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path or "/"


def _query(environ: dict[str, Any]) -> str:
    query: str = environ.get("QUERY_STRING", "")
    return "?" + query if query else ""


def _quote(text: str, safe: str) -> str:
    return quote(text, safe=safe, encoding="latin-1", errors="replace")


def _split_item(path: str) -> tuple[str, str]:
    """The path up to the item id, which may itself hold slashes, and the id; else the last segment."""
    found = _item(path)
    if found is not None:
        return found[1], found[2]
    head, slash, last = path.rpartition("/")
    return head + slash, last


def _prefixed(path: str, prefix: str) -> str:
    if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/", "?"):
        return path
    return prefix + path


def _origin_form(target: str) -> str:
    """The path and query of an absolute-form target, `http://host/path?query` (RFC 9112, 3.2.2)."""
    scheme, separator, rest = target.partition("://")
    if not separator or not scheme.isalpha():
        return target
    at = re.search(r"[/?]", rest)
    if at is None:
        return "/"
    return rest[at.start() :] if at[0] == "/" else "/" + rest[at.start() :]
