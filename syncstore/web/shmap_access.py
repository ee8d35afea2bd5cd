"""Who may use the mounts: everybody, or who knows a secret (RFC 6750: `Authorization: Bearer SECRET`).

Asked before the cache is touched, and before a body is read.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, Final

from syncstore.web.shmap_answers import Refused

_CHALLENGE: Final = (("WWW-Authenticate", 'Bearer realm="shmap"'),)


class Access:
    """The permission. Without secrets it is everybody's."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = [secret.encode() for secret in secrets]

    def check(self, environ: dict[str, Any]) -> None:
        """Raise Refused for who may not.

        A browser that was sent here by another site's page may not, whatever it knows: the page could not read the
        answer, but could try which keys there are.
        """
        if environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site"):
            raise Refused(403, "forbidden", "this is not for pages of other sites")
        if not self._secrets:
            return
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Refused(401, "unauthorized", "Authorization: Bearer SECRET is missing", _CHALLENGE)
        word = given.strip(" ").encode("latin-1", "replace")
        # All of them, so that the time does not tell which was nearly right.
        if not sum(hmac.compare_digest(word, secret) for secret in self._secrets):
            raise Refused(403, "forbidden", "this is not the secret")
