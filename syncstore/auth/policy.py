"""The Pyramid security policy over the Authenticator: the owner of a storage may do everything in it.

Views on the hot path ask the Authenticator themselves; this is for code that speaks Pyramid's own terms,
`request.identity` and permissions. It is the only module of the package that knows Pyramid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyramid.interfaces import ISecurityPolicy
from pyramid.request import RequestLocalCache
from pyramid.security import Allowed, Denied
from zope.interface import implementer

from syncstore.auth.authenticator import Authenticator, Identity
from syncstore.errors import Unauthorized

CHALLENGE = ("WWW-Authenticate", "Hawk")

_UID_DIGITS = 10


def _tolerate_none(request: Any) -> bool:
    return False


@implementer(ISecurityPolicy)
class HawkSecurityPolicy:
    """Authenticates a request for the user whose uid its route matched.

    An invalid Host header raises InvalidRequest, as it does on the hot path: it is 400, not anonymous.
    """

    def __init__(
        self, authenticator: Authenticator, tolerates_expired: Callable[[Any], bool] = _tolerate_none
    ) -> None:
        """`tolerates_expired` tells for which requests an expired token will do."""
        self._authenticator = authenticator
        self._tolerates_expired = tolerates_expired
        # once per request, however often Pyramid asks
        self._outcomes = RequestLocalCache(self._authenticate)

    def identity(self, request: Any) -> Identity | None:
        """Who sent the request, None if that is not proved or its URL has no uid."""
        outcome = self._outcomes.get_or_create(request)
        return outcome if isinstance(outcome, Identity) else None

    def authenticated_userid(self, request: Any) -> int | None:
        """The uid of the sender."""
        identity = self.identity(request)
        return None if identity is None else identity.uid

    def permits(self, request: Any, context: Any, permission: str) -> Allowed | Denied:
        """Allowed for the owner, whatever the permission; Denied, with the reason, for everybody else."""
        outcome = self._outcomes.get_or_create(request)
        if isinstance(outcome, Identity):
            return Allowed("uid %d owns this storage", outcome.uid)
        return Denied("%s", outcome)

    def remember(self, request: Any, userid: Any, **options: Any) -> list[tuple[str, str]]:
        """Nothing: every request is signed."""
        return []

    def forget(self, request: Any, **options: Any) -> list[tuple[str, str]]:
        """The challenge that goes with a 401."""
        return [CHALLENGE]

    def _authenticate(self, request: Any) -> Identity | str:
        uid = (request.matchdict or {}).get("uid", "")
        if not (uid.isascii() and uid.isdecimal() and len(uid) <= _UID_DIGITS):
            return "not the storage of a user"
        try:
            return self._authenticator.authenticate(
                request.environ, int(uid), tolerate_expired=self._tolerates_expired(request)
            )
        except Unauthorized as error:
            return error.reason
