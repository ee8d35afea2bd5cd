"""Whose OAuth access token this is: the account behind it, proved here or by the account server.

A token signed by RS256 is proved here, with a key of the account server (token-api section 6.1, RFC 9068). What
cannot be judged here, text of another shape or a signature by an unknown key, is sent to the account server's
`/v1/verify`. What was judged here and refused is never sent there.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from syncstore.clock import Clock
from syncstore.tokenserver.account_server import AccountServer
from syncstore.tokenserver.errors import AccountServerAway, InvalidCredentials
from syncstore.tokenserver.keys import KeySource
from syncstore.tokenserver.signatures import NotSigned, Signatures, SignedToken, UnknownKey

SCOPE = "https://identity.mozilla.com/apps/oldsync"
MAX_TOKEN_CHARS = 16 * 1024
MAX_GENERATION = 2**63 - 1
LEEWAY_SECONDS = 60  # by which our clock may differ from that of the account server

_is_uid = re.compile(r"[A-Za-z0-9=\-_]{1,64}").fullmatch  # what storage takes for an id in its own tokens
# Answers of /v1/verify that are about the server and not about the token: told to wait, or too late.
_NOT_NOW = (408, 429)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Account:
    """An account that has proved itself. `generation` grows with each change of its credentials, if it is told."""

    uid: str
    generation: int | None
    email: str


class _Claims(msgspec.Struct):
    """The payload of a token. msgspec takes neither true nor 1.0 for an integer."""

    sub: str
    exp: int | float
    scope: str | list[str]
    nbf: int | float | None = None
    iss: str | None = None
    generation: int | None = msgspec.field(name="fxa-generation", default=None)


class _Verified(msgspec.Struct):
    """The body of `/v1/verify`."""

    user: str
    scope: str | list[str]
    generation: int | None = None


class TokenVerifier:
    """Turns tokens into accounts.

    `email_domain` stands behind the @ of the account's address in our tables. A token must name `issuer`, unless
    that is empty.
    """

    def __init__(
        self, keys: KeySource, server: AccountServer, clock: Clock, *, email_domain: str, issuer: str = ""
    ) -> None:
        self._signatures = Signatures(keys)
        self._server = server
        self._clock = clock
        self._email_domain = email_domain
        self._issuer = issuer

    def verify(self, token: str) -> Account:
        """The account that `token` belongs to.

        Raises InvalidCredentials when it proves nothing, AccountServerAway when that could not be found out.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise InvalidCredentials(f"a token of more than {MAX_TOKEN_CHARS} characters")
        try:
            signed = self._signatures.open(token)
        except (NotSigned, UnknownKey):
            return self._ask(token)
        return self._read(signed)

    def _read(self, token: SignedToken) -> Account:
        if token.typ.lower().removeprefix("application/") != "at+jwt":
            raise InvalidCredentials("a signed token of another type than at+jwt")
        claims = _decode(token.payload, _Claims)
        now = self._clock.seconds()
        if claims.exp <= now - LEEWAY_SECONDS:
            raise InvalidCredentials("the token has expired")
        if claims.nbf is not None and claims.nbf > now + LEEWAY_SECONDS:
            raise InvalidCredentials("the token is not valid yet")
        if self._issuer and claims.iss != self._issuer:
            raise InvalidCredentials(
                f"the token's issuer is not tokenserver.fxa_issuer but {claims.iss!r:.200}"
            )
        return self._account(claims.sub, claims.scope, claims.generation)

    def _ask(self, token: str) -> Account:
        # An account server that is away is 503 here (row 21), not 401 (row 3) as the field's newer server has
        # it: on a 401 Firefox asks the person to sign in again, for a fault that passes by itself.
        status, body = self._server.verify(token)
        if status != 200:
            if 400 <= status < 500 and status not in _NOT_NOW:
                raise InvalidCredentials(f"the account server refuses the token with {status}")
            raise AccountServerAway(f"{self._server.url}/v1/verify answers {status}")
        verified = _decode(body, _Verified)
        return self._account(verified.user, verified.scope, verified.generation)

    def _account(self, uid: str, scope: str | list[str], generation: int | None) -> Account:
        # RFC 9068 separates by blanks, the field's newer server by commas, /v1/verify answers a list
        scopes = re.split(r"[,\s]+", scope) if isinstance(scope, str) else scope
        if SCOPE not in scopes:
            raise InvalidCredentials("the token is not for sync: its scope lacks apps/oldsync")
        if _is_uid(uid) is None:
            raise InvalidCredentials(f"an account id that storage would not take: {uid!r:.100}")
        if generation is not None and not 0 <= generation <= MAX_GENERATION:
            raise InvalidCredentials("a generation out of range")
        return Account(uid, generation, f"{uid}@{self._email_domain}")


Shape = TypeVar("Shape", _Claims, _Verified)


def _decode(document: bytes, shape: type[Shape]) -> Shape:
    try:
        return msgspec.json.decode(document, type=shape)
    except (ValueError, RecursionError) as error:
        raise InvalidCredentials(f"what the token says cannot be read: {error}") from None
