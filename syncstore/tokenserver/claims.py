"""What the headers of a request claim: the account's token, and which encryption key the client has.

Pure functions of header texts (token-api section 1). WSGI's texts hold bytes as Latin-1, so a header that is not
ASCII is one with a character above 127.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from syncstore.tokenserver.errors import (
    ClientStateMismatch,
    InvalidClientState,
    InvalidCredentials,
    InvalidKeyId,
    MissingKeyId,
    NoCredentials,
    UnsupportedScheme,
)

MAX_KEY_ID_CHARS = 128

# It may become the generation, of which the largest marks a deleted account.
_MOST_KEYS_CHANGED_AT = 2**63 - 2
_MAX_CLIENT_STATE = 32
_is_client_state = re.compile(r"[a-zA-Z0-9._-]{1,32}").fullmatch
_is_number = re.compile(r"[0-9]{1,19}").fullmatch
_is_encoded = re.compile(r"[A-Za-z0-9_-]*").fullmatch


class KeyId(NamedTuple):
    """An X-KeyID: when the key changed, None for 0, and its fingerprint in lower-case hex."""

    keys_changed_at: int | None
    client_state: str


def bearer_token(authorization: str | None) -> str:
    """The token of an Authorization header: everything after the first blank, blanks included."""
    scheme, blank, token = (authorization or "").strip().partition(" ")
    token = token.strip()
    if not blank or not token:
        raise NoCredentials("no Authorization, or one without credentials")
    if scheme.lower() != "bearer":
        raise UnsupportedScheme("another scheme than Bearer")
    return token


def key_id(header: str | None, client_state: str | None) -> KeyId:
    """What X-KeyID says, with which an X-Client-State, if there is one, must agree."""
    if header is None:
        raise MissingKeyId
    if not header.isascii():
        raise InvalidKeyId
    if len(header) > MAX_KEY_ID_CHARS:
        raise InvalidCredentials("an X-KeyID of more than 128 characters")
    number, dash, encoded = header.strip().partition("-")
    if not dash or _is_number(number) is None or int(number) > _MOST_KEYS_CHANGED_AT:
        raise InvalidCredentials("an X-KeyID that is not <number>-<key hash>")
    found = KeyId(int(number) or None, _unbase64(encoded).hex())
    if len(found.client_state) > _MAX_CLIENT_STATE:
        raise InvalidClientState("a key hash of more than 16 bytes")
    if client_state is not None:
        if _is_client_state(client_state) is None:
            raise InvalidClientState
        if client_state.lower() != found.client_state:
            raise ClientStateMismatch("X-Client-State is not the key hash of X-KeyID")
    return found


def duration(query: str, longest: int) -> int:
    """The seconds that a token shall be valid: `duration` of the query where that is shorter than usual."""
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "duration":
            return int(value) if _is_number(value) and 0 < int(value) <= longest else longest
    return longest


def fxa_kid(keys_changed_at: int | None, generation: int, client_state: str) -> str:
    """The key's id in tokens: thirteen digits of when it changed, and the fingerprint in base64."""
    encoded = base64.urlsafe_b64encode(bytes.fromhex(client_state)).rstrip(b"=").decode("ascii")
    return f"{keys_changed_at or generation:013d}-{encoded}"


def _unbase64(text: str) -> bytes:
    """Url-safe base64 without padding, and no other text that decodes to the same."""
    if _is_encoded(text) is None:
        raise InvalidCredentials("a key hash that is not url-safe base64 without padding")
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise InvalidCredentials("a key hash that is not base64") from None
    return raw
