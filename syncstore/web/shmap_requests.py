"""What a request to a mount says: its path as bytes, its conditions, and until when a value is to be kept.

A path is decoded once, and otherwise taken as it came: `//`, `..` and case are part of a key.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from syncstore.cache.http.words import EXPIRED
from syncstore.web.shmap_answers import bad_request

_TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
# An empty member of the list is allowed for (RFC 9110, section 5.6.1.2).
_tags = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*").fullmatch
_each_tag = re.compile(_TAG).findall
_number = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII).fullmatch
_origin = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*").match


# -- the path


def path_of(environ: dict[str, Any]) -> bytes:
    """The path below the application's own prefix, decoded once.

    From the raw target where the server tells it: some tidy up the decoded path, or have it tidied up by a proxy.
    """
    script = environ.get("SCRIPT_NAME", "").encode("latin-1")
    raw: str | None = environ.get("REQUEST_URI") or environ.get("RAW_URI")
    if raw is None:
        path: str = environ.get("PATH_INFO", "")
        return path.encode("latin-1")
    if not raw.startswith("/"):
        origin = _origin(raw)
        raw = raw[origin.end() :] if origin else raw
    decoded = unquote_to_bytes(raw.partition("#")[0].partition("?")[0].encode("latin-1", "replace"))
    return decoded[len(script) :] if script and decoded.startswith(script + b"/") else decoded


# -- conditions


class Tags(NamedTuple):
    """What If-Match or If-None-Match lists: `any` for a star, else the tags, those that are weak without their W/."""

    any: bool
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    def match_strongly(self, tag: str) -> bool:
        """Whether the state of a key, which exists, is among them; a weak tag never is (RFC 9110, section 13.1.1)."""
        return self.any or tag in self.strong

    def match_weakly(self, tag: str) -> bool:
        """The same, where a weak tag is as good (section 13.1.2)."""
        return self.any or tag in self.strong or tag in self.weak


class Conditions(NamedTuple):
    """If-Match and If-None-Match; None where a header is not there."""

    match: Tags | None
    none_match: Tags | None

    @classmethod
    def read(cls, environ: dict[str, Any]) -> Conditions:
        """Those of a request. Raises Refused."""
        return cls(_read_tags(environ, "If-Match"), _read_tags(environ, "If-None-Match"))

    def __bool__(self) -> bool:
        return self.match is not None or self.none_match is not None

    @property
    def only_absent(self) -> bool:
        """Whether they ask for nothing but that the key does not exist."""
        return self.match is None and self.none_match is not None and self.none_match.any

    def allow_write(self, tag: str | None) -> bool:
        """Whether a key in the state of a tag, None for one that does not exist, may be changed."""
        if self.match is not None and (tag is None or not self.match.match_strongly(tag)):
            return False
        return self.none_match is None or tag is None or not self.none_match.match_weakly(tag)


def _read_tags(environ: dict[str, Any], header: str) -> Tags | None:
    text: str | None = environ.get("HTTP_" + header.upper().replace("-", "_"))
    if text is None:
        return None
    if text.strip(" \t") == "*":
        return Tags(True)
    if not _tags(text):
        raise bad_request(f'{header} must be *, or tags in quotes as in "x.1", "x.2"')
    tags = _each_tag(text)
    return Tags(
        False,
        frozenset(tag for tag in tags if tag[0] == '"'),
        frozenset(tag[2:] for tag in tags if tag[0] == "W"),
    )


# -- expiry


def read_expiry(environ: dict[str, Any], now: float, default: float) -> float:
    """Until when to keep a value, in seconds since the epoch, 0 for ever. `default` is in seconds from now, 0 for ever.

    Raises Refused.
    """
    given = [
        name
        for name in ("HTTP_X_SHMAP_EXPIRES", "HTTP_X_SHMAP_EXPIRES_AT", "HTTP_EXPIRES")
        if name in environ
    ]
    if not given:
        return now + default if default else 0.0
    if len(given) > 1:
        raise bad_request(
            "there must be one of X-Shmap-Expires, X-Shmap-Expires-At and Expires, and not several"
        )
    text = environ[given[0]].strip(" \t")
    if given[0] == "HTTP_X_SHMAP_EXPIRES":
        seconds = read_seconds("X-Shmap-Expires", text)
        return now + seconds if seconds else 0.0
    at = read_seconds("X-Shmap-Expires-At", text) if given[0] == "HTTP_X_SHMAP_EXPIRES_AT" else _date(text)
    if 0 < at <= now or (at == 0 and given[0] == "HTTP_EXPIRES"):
        raise bad_request("the value would have expired before it is stored", EXPIRED)
    return at


def read_seconds(header: str, text: str) -> float:
    """A number of seconds, with a fraction if need be. Raises Refused."""
    if not _number(text):
        raise bad_request(f"{header} must be a number of seconds, 0 or more, in plain digits")
    return float(text)


def _date(text: str) -> float:
    try:
        date = parsedate_to_datetime(text)
        return max((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp(), 0.0)
    except (ValueError, IndexError, OverflowError):
        raise bad_request("Expires must be a date as in Thu, 01 Jan 2032 00:00:00 GMT") from None
