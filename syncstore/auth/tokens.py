"""The text form of storage tokens: made and signed by the tokenserver, read and verified by storage.

A token is url-safe base64 of `JSON payload || HMAC-SHA256(signing key, payload)`; the key with which the
client signs its requests is derived from the secret and the exact text of the token (auth specification,
section 2). Nothing of the payload is looked at before its signature is verified, and the text must be
canonical base64: one token has one text.
"""

from __future__ import annotations

import binascii
import hmac
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from syncstore.auth.hkdf import hkdf_sha256
from syncstore.auth.reasons import Reason
from syncstore.errors import Unauthorized

MAX_TOKEN_CHARS = 4096
MAX_UID = 9_999_999_999  # ten decimal digits, what the URL can carry

_END_OF_TIME = 10**15  # seconds; far beyond any real expiry, well inside what a float holds
_SIGNATURE_SIZE = 32
_KEY_SIZE = 32
_SIGNING_INFO = b"services.mozilla.com/tokenlib/v1/signing"
_DERIVE_INFO = b"services.mozilla.com/tokenlib/v1/derive/"
_REQUIRED_CLAIMS = ("uid", "node", "expires")
_is_id = re.compile(r"[A-Za-z0-9=\-_]{1,64}").fullmatch


class Token(msgspec.Struct, frozen=True):
    """A token whose signature was verified. Expiry, node and user are for the caller to check.

    `expires` is in seconds since the epoch. The four ids are None when the token has none: the raw account
    id and key id go only with a hashed id, as in section 2.1. `secret_index` tells which of the secrets
    given to `read_token` had signed it.
    """

    uid: int
    node: str
    expires: float
    salt: str
    fxa_uid: str | None
    fxa_kid: str | None
    hashed_fxa_uid: str | None
    hashed_device_id: str | None
    secret_index: int


class _Claims(msgspec.Struct):
    """The payload as it is on the wire. msgspec takes neither true nor 1.0 for an integer."""

    uid: int
    node: str
    expires: int | float
    salt: str
    fxa_uid: str | msgspec.UnsetType = msgspec.UNSET
    fxa_kid: str | msgspec.UnsetType = msgspec.UNSET
    hashed_fxa_uid: str | msgspec.UnsetType = msgspec.UNSET
    hashed_device_id: str | msgspec.UnsetType = msgspec.UNSET
    device_id: str | msgspec.UnsetType = msgspec.UNSET


_decode_claims = msgspec.json.Decoder(_Claims).decode


def make_token(claims: Mapping[str, object], secret: str) -> str:
    """The token for `claims`, signed with `secret`.

    `uid`, `node` and `expires` (seconds since the epoch) must be there, else ValueError; a `salt` of six
    hex digits is added when none is given.
    """
    missing = [name for name in _REQUIRED_CLAIMS if name not in claims]
    if missing:
        raise ValueError(f"a token needs {', '.join(missing)}")
    payload = msgspec.json.encode({**claims, "salt": claims.get("salt", os.urandom(3).hex())})
    return urlsafe_b64encode(payload + _signature(payload, secret)).decode("ascii")


def derive_key(token: str, secret: str, salt: str | None = None) -> str:
    """The 44 characters that are the Hawk key of `token`; the text itself keys the MAC, not its bytes.

    `salt` is the token's own, read from its payload when not given. That payload is not verified here: use
    it for tokens just made or already verified. Raises Unauthorized if it cannot be read.
    """
    if salt is None:
        salt = _claims(_decode(token)[:-_SIGNATURE_SIZE]).salt
    key = hkdf_sha256(
        secret.encode(), salt=salt.encode(), info=_DERIVE_INFO + token.encode("ascii"), length=_KEY_SIZE
    )
    return urlsafe_b64encode(key).decode("ascii")


def read_token(text: str, secrets: Sequence[str]) -> Token:
    """The token in `text`, which one of `secrets` must have signed.

    Raises Unauthorized for anything else: text that is no canonical base64, a signature of another secret,
    a payload with missing or wrong fields.
    """
    raw = _decode(text)
    payload, signature = raw[:-_SIGNATURE_SIZE], raw[-_SIGNATURE_SIZE:]
    signer = None
    for index, secret in enumerate(secrets):
        # every secret is tried, so that the time taken tells nothing about which one matched
        if hmac.compare_digest(_signature(payload, secret), signature):
            signer = index
    if signer is None:
        raise Unauthorized(Reason.TOKEN_SIGNATURE)
    return _token(_claims(payload), signer)


def _decode(text: str) -> bytes:
    if len(text) > MAX_TOKEN_CHARS or not text.isascii():
        raise Unauthorized(Reason.MALFORMED_TOKEN)
    encoded = text.encode("ascii")
    try:
        raw = urlsafe_b64decode(encoded)
    except binascii.Error:
        raise Unauthorized(Reason.MALFORMED_TOKEN) from None
    # the decoder skips characters it does not know; encoding again is the strict check of them all
    if urlsafe_b64encode(raw) != encoded or len(raw) <= _SIGNATURE_SIZE:
        raise Unauthorized(Reason.MALFORMED_TOKEN)
    return raw


def _signature(payload: bytes, secret: str) -> bytes:
    return hmac.digest(_signing_key(secret), payload, "sha256")


@lru_cache(maxsize=1024)  # a pure function of a handful of secrets; two HMACs saved per unknown token
def _signing_key(secret: str) -> bytes:
    return hkdf_sha256(secret.encode(), info=_SIGNING_INFO, length=_KEY_SIZE)


def _claims(payload: bytes) -> _Claims:
    try:
        claims = _decode_claims(payload)
    except msgspec.ValidationError:
        raise Unauthorized(Reason.TOKEN_FIELDS) from None
    except (ValueError, RecursionError):
        raise Unauthorized(Reason.MALFORMED_TOKEN) from None
    if not (0 <= claims.uid <= MAX_UID and abs(claims.expires) < _END_OF_TIME):
        raise Unauthorized(Reason.TOKEN_FIELDS)
    return claims


def _token(claims: _Claims, secret_index: int) -> Token:
    fxa_uid, fxa_kid = _id(claims.fxa_uid), _id(claims.fxa_kid)
    hashed_fxa_uid, device_id = _id(claims.hashed_fxa_uid), _id(claims.device_id)
    hashed_device_id = _id(claims.hashed_device_id)
    if hashed_fxa_uid is None:
        # tokens of the old style, and those of the purge script, call the hashed id fxa_uid
        fxa_uid, fxa_kid, hashed_fxa_uid = None, None, fxa_uid
    elif fxa_uid is None or fxa_kid is None:
        raise Unauthorized(Reason.TOKEN_FIELDS)
    return Token(
        uid=claims.uid,
        node=claims.node,
        expires=claims.expires,
        salt=claims.salt,
        fxa_uid=fxa_uid,
        fxa_kid=fxa_kid,
        hashed_fxa_uid=hashed_fxa_uid,
        hashed_device_id=device_id if hashed_device_id is None else hashed_device_id,
        secret_index=secret_index,
    )


def _id(value: str | msgspec.UnsetType) -> str | None:
    if isinstance(value, msgspec.UnsetType):
        return None
    if _is_id(value) is None:
        raise Unauthorized(Reason.TOKEN_FIELDS)
    return value
