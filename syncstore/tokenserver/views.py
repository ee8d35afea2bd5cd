"""`GET /1.0/sync/1.5`: an account's token in, a storage token out; and how the token server answers errors."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from syncstore.auth.origin import ClientOrigin
from syncstore.clock import Clock
from syncstore.errors import InvalidRequest
from syncstore.tokenserver import claims
from syncstore.tokenserver.errors import (
    AccountServerAway,
    DatabaseTimeout,
    InternalError,
    MethodNotAllowed,
    NoNode,
    TokenError,
    UnsupportedApplication,
    UnsupportedVersion,
)
from syncstore.tokenserver.issuing import Issuer
from syncstore.tokenserver.oauth import Account
from syncstore.tokenserver.rules import Claim
from syncstore.tokenserver.store import UserStore

log = logging.getLogger(__name__)

APPLICATION = "sync"
VERSION = "1.5"

_RETRY = (AccountServerAway, DatabaseTimeout, NoNode)


class Verifier(Protocol):
    """What finds out whose token this is."""

    def verify(self, token: str) -> Account:
        """The account of `token`. Raises InvalidCredentials or AccountServerAway."""


class Reply(msgspec.Struct, frozen=True):
    """An answer: status, JSON body, and headers beyond those that all answers have."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class TokenView:
    """The one endpoint that clients know. `longest` is the usual life of a token in seconds."""

    def __init__(
        self, verifier: Verifier, users: UserStore, issuer: Issuer, origin: ClientOrigin, longest: int
    ) -> None:
        self._verifier = verifier
        self._users = users
        self._issuer = issuer
        self._origin = origin
        self._longest = longest

    def __call__(self, environ: Mapping[str, Any], match: Mapping[str, str]) -> Reply:
        """Answer one request. Raises TokenError."""
        if match["application"] != APPLICATION:
            raise UnsupportedApplication(f"application {match['application'][:40]!r}")
        if match["version"] != VERSION:
            raise UnsupportedVersion(match["version"])
        account = self._verifier.verify(claims.bearer_token(environ.get("HTTP_AUTHORIZATION")))
        key = claims.key_id(environ.get("HTTP_X_KEYID"), environ.get("HTTP_X_CLIENT_STATE"))
        claim = Claim(account.generation or None, key.keys_changed_at, key.client_state)
        assigned = self._users.assign(account.uid, account.email, claim)
        seconds = claims.duration(environ.get("QUERY_STRING", ""), self._longest)
        node = self._origin.of(dict(environ)).node
        answer = self._issuer.issue(account.uid, assigned, node, seconds)
        log.info(
            "a token for uid %d of %s on %s, first seen at %d",
            assigned.uid, answer["hashed_fxa_uid"], assigned.node, assigned.first_seen_at,
        )  # fmt: skip
        return Reply(200, msgspec.json.encode(answer))


class Endpoint:
    """One view as an endpoint for one method: errors become answers, and every answer gets its headers."""

    def __init__(
        self,
        method: str,
        view: Callable[[Mapping[str, Any], Mapping[str, str]], Reply],
        clock: Clock,
        retry_after: int,
    ) -> None:
        """`retry_after` is in seconds, for answers that mean that it is worth to come again."""
        self._method = method
        self._view = view
        self._clock = clock
        self._retry_after = retry_after

    def answer(self, environ: Mapping[str, Any], match: Mapping[str, str]) -> Reply:
        """The answer to one request, whatever it is."""
        headers: tuple[tuple[str, str], ...] = (
            ("X-Timestamp", str(int(self._clock.seconds()))),
            ("X-Content-Type-Options", "nosniff"),
        )
        try:
            reply = self._allowed(environ, match)
        except TokenError as error:
            if isinstance(error, MethodNotAllowed):
                headers += (("Allow", self._method),)
            if isinstance(error, _RETRY):
                headers += (("Retry-After", str(self._later())),)
            _log(error, environ)
            return Reply(error.http, msgspec.json.encode(error.document()), headers)
        except InvalidRequest as error:
            log.info("400 %.200r: %s", environ["PATH_INFO"], error.reason)
            return Reply(400, msgspec.json.encode(TokenError(error.reason).document()), headers)
        except Exception:
            # the outermost edge: clients of this server read its own form of an error
            log.exception("500 %s %.200r", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            return Reply(500, msgspec.json.encode(InternalError().document()), headers)
        return msgspec.structs.replace(reply, headers=(*reply.headers, *headers))

    def _allowed(self, environ: Mapping[str, Any], match: Mapping[str, str]) -> Reply:
        if environ["REQUEST_METHOD"] != self._method:
            raise MethodNotAllowed
        return self._view(environ, match)

    def _later(self) -> int:
        # Spread the return of many clients that were sent away at one moment.
        seconds = self._retry_after
        return seconds + random.randint(0, max(5, seconds // 20))  # noqa: S311 - spreads load, guards nothing


def _log(error: TokenError, environ: Mapping[str, Any]) -> None:
    level = logging.WARNING if error.http >= 500 else logging.INFO
    log.log(level, "%d %.200r: %s", error.http, environ["PATH_INFO"], error.reason)
