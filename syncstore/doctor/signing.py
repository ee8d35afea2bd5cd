"""Signs requests of a user whom no token server gives out, as the server would have to see them.

The signature covers what arrives, not what was sent. So a request is sent to one URL and signed for another:
the server accepts it exactly if that other one is what a proxy made of the first.
"""

from __future__ import annotations

from syncstore.auth.hawk import sign
from syncstore.auth.secrets import Secrets
from syncstore.auth.tokens import MAX_UID, derive_key, make_token
from syncstore.clock import Clock

# The last uid that a URL can carry. The doctor only reads it, and finds nothing there.
UID = MAX_UID

_VALID_SECONDS = 300


class Signer:
    """Makes tokens and Authorization headers with the secrets of the settings."""

    def __init__(self, secrets: Secrets, clock: Clock, node: str = "") -> None:
        """`node` is named in all tokens, whatever they are for; without it each names the node it is for."""
        self._secrets = secrets
        self._clock = clock
        self._node = node

    def knows(self, node: str) -> bool:
        """Whether there is a secret for the node."""
        return bool(self._secrets.for_node(self._node or node))

    def header(self, method: str, node: str, target: str) -> str:
        """Authorization for a request that arrives at `node` with `target`, the prefix of the node included."""
        name = self._node or node
        secret = self._secrets.for_node(name)[-1]
        now = self._clock.seconds()
        token = make_token({"uid": UID, "node": name, "expires": int(now) + _VALID_SECONDS}, secret)
        scheme, _, rest = node.partition("://")
        url = f"{scheme}://{rest.partition('/')[0]}{target}"
        return sign(method, url, token, derive_key(token, secret), ts=int(now))
