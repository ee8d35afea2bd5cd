"""Signed tokens of the account server: JSON Web Signatures by RS256, checked against its keys.

Nothing but RS256 is ever tried, whatever the header says: "none", or an HMAC keyed with the public key, are the
classic forgeries. What the claims mean is for the caller, and to be looked at only after the signature.
"""

from __future__ import annotations

from typing import NamedTuple

import jwt

from syncstore.tokenserver.errors import InvalidCredentials
from syncstore.tokenserver.keys import KeySource

_ALGORITHM = "RS256"


class NotSigned(Exception):
    """The text has not the shape of a signed token."""


class UnknownKey(Exception):
    """No key is known for it, or the keys could not be had: nothing is said about the token."""


class SignedToken(NamedTuple):
    """A token whose signature is right: its `typ` header as written ("" for none), and its payload's bytes."""

    typ: str
    payload: bytes


class Signatures:
    """What opens signed tokens, with the keys of one source."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys
        self._jws = jwt.PyJWS([_ALGORITHM])

    def open(self, token: str) -> SignedToken:
        """Check the signature of `token`.

        Raises NotSigned and UnknownKey, which leave the question open, and InvalidCredentials for another
        algorithm or a signature that none of its keys has made.
        """
        try:
            header = self._jws.get_unverified_header(token)
        except (jwt.InvalidTokenError, UnicodeError):
            raise NotSigned from None
        # before the keys, so that a forgery costs the account server nothing
        if header.get("alg") != _ALGORITHM:
            raise InvalidCredentials("a token signed by another algorithm than RS256")
        keys = self._keys.find(header.get("kid"))
        if not keys:
            raise UnknownKey
        for key in keys:
            try:
                payload = self._jws.decode(token, key, [_ALGORITHM])
            except jwt.InvalidSignatureError:
                continue
            except jwt.InvalidTokenError as error:
                raise InvalidCredentials(f"a token that cannot be checked: {error}") from None
            typ = header.get("typ")
            return SignedToken(typ if isinstance(typ, str) else "", payload)
        raise InvalidCredentials("the signature of the token is wrong")
