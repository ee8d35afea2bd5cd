"""Making the storage token: what is in it, who signs it, and the pseudonyms of the account (token-api section 2)."""

from __future__ import annotations

import hmac
import logging
from typing import Any

from syncstore.auth.hkdf import hkdf_sha256
from syncstore.auth.secrets import Secrets
from syncstore.auth.tokens import MAX_UID, derive_key, make_token
from syncstore.clock import Clock
from syncstore.tokenserver.claims import fxa_kid
from syncstore.tokenserver.errors import InternalError, NoPattern
from syncstore.tokenserver.schema import THIS_NODE
from syncstore.tokenserver.store import Assignment

log = logging.getLogger(__name__)

_METRICS_INFO = b"syncstore/v1/metrics"
_SERVICE = "1.5"


class Issuer:
    """Signs tokens. Without a `metrics_secret` one is derived from the secret that signs."""

    def __init__(self, secrets: Secrets, clock: Clock, *, metrics_secret: str = "", node_type: str) -> None:
        self._secrets = secrets
        self._clock = clock
        self._metrics_secret = metrics_secret.encode()
        self._node_type = node_type

    def issue(self, account: str, assigned: Assignment, this_node: str, seconds: int) -> dict[str, Any]:
        """The answer for an account: the token, its key, and where to go with it.

        `this_node` is this server's address as the client knows it. Raises NoPattern, or InternalError for a
        node whose secret is not known here.
        """
        node = this_node if assigned.node == THIS_NODE else assigned.node
        known = self._secrets.for_node(node)
        if not known:
            raise InternalError(f"there is no secret for the node {node}")
        if assigned.uid > MAX_UID:
            raise InternalError(f"uid {assigned.uid} has more digits than a storage URL takes")
        secret = known[-1]
        if not assigned.pattern:
            raise NoPattern
        values = assigned.known
        pseudonym = self._hash(secret, account)
        token = make_token(
            {
                "uid": assigned.uid,
                "node": node,
                "expires": int(self._clock.seconds()) + seconds,
                "fxa_uid": account,
                "fxa_kid": fxa_kid(values.keys_changed_at, values.generation, values.client_state),
                "hashed_fxa_uid": pseudonym,
                # No device id reaches us; `none` is what stands for it in the field.
                "hashed_device_id": self._hash(secret, pseudonym + "none"),
            },
            secret,
        )
        return {
            "id": token,
            "key": derive_key(token, secret),
            "uid": assigned.uid,
            "api_endpoint": endpoint(assigned.pattern, node, assigned.uid),
            "duration": seconds,
            "hashalg": "sha256",
            "hashed_fxa_uid": pseudonym,
            "node_type": self._node_type,
        }

    def _hash(self, secret: str, text: str) -> str:
        key = self._metrics_secret or hkdf_sha256(secret.encode(), info=_METRICS_INFO, length=32)
        return hmac.new(key, text.encode(), "sha256").hexdigest()[:32]


def endpoint(pattern: str, node: str, uid: int) -> str:
    """The URL of a user's storage."""
    words = {"node": node, "uid": str(uid), "service": _SERVICE}
    for name, value in words.items():
        pattern = pattern.replace(f"{{{name}}}", value)
    return pattern
