"""Which form of an answer a client prefers: of a listing (sync-api section 5.1), and of the page at `/`."""

from __future__ import annotations

from functools import lru_cache

from syncstore.web.answers import JSON, NEWLINES

HTML = "text/html"
TEXT = "text/plain"


def listing_type(accept: str | None) -> str | None:
    """The media type of a listing for an Accept header; None when neither form is acceptable (406)."""
    if not accept or accept == JSON:
        return JSON
    return _negotiate(accept) if len(accept) <= 1024 else JSON


@lru_cache(maxsize=256)
def _negotiate(accept: str) -> str | None:
    json = _quality(accept, JSON)
    newlines = _quality(accept, NEWLINES)
    if json <= 0 and newlines <= 0:
        return None
    return JSON if json >= newlines else NEWLINES


@lru_cache(maxsize=256)
def page_type(accept: str) -> str:
    """HTML, JSON or plain text for the page at `/`: text, unless another one is asked for with more weight."""
    if len(accept) > 1024:
        return TEXT
    weights = {offered: _quality(accept, offered) for offered in (TEXT, HTML, JSON)}
    return max(weights, key=weights.__getitem__)


def _quality(accept: str, offered: str) -> float:
    """The quality that the most specific matching range gives to a type (RFC 9110, section 12.5.1)."""
    best = (-1, 0.0)
    main = offered.partition("/")[0]
    for part in accept.split(","):
        media_range, *parameters = (piece.strip() for piece in part.lower().split(";"))
        if media_range == offered:
            precision = 2
        elif media_range == f"{main}/*":
            precision = 1
        elif media_range == "*/*":
            precision = 0
        else:
            continue
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _number(value.strip())
        best = max(best, (precision, quality))
    return best[1]


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if 0 <= number <= 1 else 0.0
