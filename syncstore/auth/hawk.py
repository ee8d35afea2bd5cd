"""The Hawk scheme: the Authorization header, the string that is signed, and its MAC.

What is here knows nothing of tokens, users or WSGI; auth specification, section 5, has the rules. The header
is read in two ways that must agree: by one split for the shapes that all clients in the field send, and by
a strict scanner for the rest.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from binascii import b2a_base64
from hmac import compare_digest

import msgspec

from syncstore.auth.origin import split_authority
from syncstore.auth.reasons import Reason
from syncstore.errors import InvalidRequest, Unauthorized

MAX_HEADER_CHARS = 4096

_BLOCK_SIZE = 64
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_SCHEME = "hawk "
_is_integer = re.compile(r"-?[0-9]+").fullmatch
# name="value", with \-escapes in the value, then a comma or the end; printable ASCII only
_next_attribute = re.compile(
    r'[ \t]*([A-Za-z][A-Za-z0-9_-]*)[ \t]*=[ \t]*"([ !#-\[\]-~]*+(?:\\[ -~][ !#-\[\]-~]*+)*+)"[ \t]*(,|\Z)'
).match
_unescape = re.compile(r"\\(.)").sub
_escape = re.compile(r'(["\\])').sub


class HawkHeader(msgspec.Struct, frozen=True, gc=False):
    """The attributes of an Authorization header, unescaped; `hash` and `ext` are "" when absent.

    `ts` is the text of an integer, as it was sent, since that is what was signed.
    """

    id: str
    ts: str
    nonce: str
    mac: str
    hash: str = ""
    ext: str = ""


def parse_header(text: str) -> HawkHeader:
    """The attributes of the Authorization header `text`.

    Raises Unauthorized for another scheme, for more than 4096 characters, and for a header that is not
    well-formed: unquoted or repeated attributes, non-ASCII text, a missing id, ts, nonce or mac.
    """
    if len(text) > MAX_HEADER_CHARS or not text.isascii():
        raise Unauthorized(Reason.MALFORMED_HEADER)
    parts = text.split('"')
    if len(parts) == 9 and "\\" not in text:
        start, first, sign1, second, sign2, third, sign3, mac, end = parts
        if sign3 == ", mac=" and not end and mac:
            if start == "Hawk id=" and sign1 == ", ts=" and sign2 == ", nonce=":
                token, ts, nonce = first, second, third
            elif start == "Hawk ts=" and sign1 == ", nonce=" and sign2 == ", id=":
                ts, nonce, token = first, second, third
            else:
                return _parse_any(text)
            # id and mac need no look here: only their exact texts ever match
            if ts.isdecimal() and nonce and nonce.isprintable() and token:
                return HawkHeader(token, ts, nonce, mac)
    return _parse_any(text)


def _parse_any(text: str) -> HawkHeader:
    if text[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthorized(Reason.OTHER_SCHEME)
    attributes: dict[str, str] = {}
    position, separator = len(_SCHEME), ","
    while separator:
        found = _next_attribute(text, position)
        if found is None:
            raise Unauthorized(Reason.MALFORMED_HEADER)
        name, value, separator = found.groups()
        if name in attributes:
            raise Unauthorized(Reason.MALFORMED_HEADER)
        attributes[name] = _unescape(r"\1", value) if "\\" in value else value
        position = found.end()
    header = HawkHeader(*(attributes.get(name, "") for name in HawkHeader.__struct_fields__))
    if not (header.id and header.nonce and header.mac) or _is_integer(header.ts) is None:
        raise Unauthorized(Reason.MALFORMED_HEADER)
    return header


def signed_message(header: HawkHeader, method: str, target: str, host_lines: str) -> bytes:
    """What is signed: nine elements, each followed by a line feed.

    `target` is the path and query as on the request line; `host_lines` are the host in lower case and the
    port, a line each. WSGI's strings hold bytes as Latin-1, so that is how they go back. Raises
    UnicodeEncodeError for text that cannot have come from a request.
    """
    return (
        f"hawk.1.header\n{header.ts}\n{header.nonce}\n{method.upper()}\n{target}\n{host_lines}"
        f"{header.hash}\n{header.ext}\n"
    ).encode("latin-1")


class MacKey:
    """A Hawk key made ready: HMAC-SHA256 whose first blocks are hashed once, not at every request.

    Copying the two hash objects costs a third of `hmac.digest`. They are never updated themselves, so one
    MacKey serves many threads.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: str) -> None:
        block = key.encode()
        if len(block) > _BLOCK_SIZE:
            block = hashlib.sha256(block).digest()
        block = block.ljust(_BLOCK_SIZE, b"\0")
        self._inner = hashlib.sha256(block.translate(_INNER_PAD))
        self._outer = hashlib.sha256(block.translate(_OUTER_PAD))

    def mac(self, message: bytes) -> bytes:
        """Base64, with padding, of the MAC of `message`: 44 bytes."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return b2a_base64(outer.digest(), newline=False)


def payload_hash(content_type: str, body: bytes) -> str:
    """The `hash` attribute for a body: base64 of SHA-256 over its media type, without parameters, and it."""
    media_type = content_type.partition(";")[0].strip().lower()
    digest = hashlib.sha256(b"hawk.1.payload\n%b\n%b\n" % (media_type.encode("latin-1", "replace"), body))
    return b2a_base64(digest.digest(), newline=False).decode("ascii")


def same_text(one: str, other: str) -> bool:
    """Whether two texts are equal, in a time that does not depend on where they differ."""
    return compare_digest(one.encode(), other.encode())


def sign(
    method: str,
    url: str,
    token: str,
    key: str | MacKey,
    *,
    ts: int | str,
    nonce: str | None = None,
    body_hash: str = "",
    ext: str = "",
) -> str:
    """The Authorization header for a request, as a client sends it.

    `url` is absolute and its path and query are signed exactly as they stand; `ts` is in seconds since the
    epoch. A fresh nonce is drawn when none is given. Raises ValueError for a URL or an attribute that
    cannot be sent.
    """
    target, host, port = _split_url(url)
    nonce = secrets.token_urlsafe(8) if nonce is None else nonce
    unsigned = HawkHeader(token, str(ts), nonce, "", body_hash, ext)
    message = signed_message(unsigned, method, target, f"{host}\n{port}\n")
    mac = (MacKey(key) if isinstance(key, str) else key).mac(message).decode("ascii")
    attributes = (
        ("id", token), ("ts", unsigned.ts), ("nonce", nonce), ("hash", body_hash), ("ext", ext), ("mac", mac)
    )  # fmt: skip
    header = "Hawk " + ", ".join(f'{name}="{_quoted(text)}"' for name, text in attributes if text)
    try:
        parse_header(header)
    except Unauthorized as error:
        raise ValueError(f"no Hawk header can carry these attributes: {error.reason}") from None
    return header


def _quoted(text: str) -> str:
    return _escape(r"\\\1", text)


def _split_url(url: str) -> tuple[str, str, int]:
    """Target, host and port of an absolute URL; urllib would drop a lone question mark."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise ValueError(f"not an absolute http URL: {url!r}")
    end = min((at for at in (rest.find("/"), rest.find("?"), rest.find("#")) if at >= 0), default=len(rest))
    target = rest[end:].partition("#")[0]
    try:
        host, port = split_authority(rest[:end], scheme.lower())
    except InvalidRequest as error:
        raise ValueError(f"not a URL that can be asked: {url!r}: {error.reason}") from None
    return target if target.startswith("/") else "/" + target, host, port
