"""Decides who sends a request: header, token, node, expiry, user and signature, in that order.

Nothing but the request and the secrets is asked, so a failure of a database or a cache can never look like
a 401. A token that was verified before costs one dict look-up; its signature key is kept ready to use.
Expiry, node and user are checked at every request. Client clocks are bad: any timestamp is accepted, and a
nonce may come again (auth specification, section 5).
"""

from __future__ import annotations

from collections.abc import Collection
from hmac import compare_digest
from typing import Any

import msgspec

from syncstore.auth.hawk import HawkHeader, MacKey, parse_header, payload_hash, same_text, signed_message
from syncstore.auth.origin import ClientOrigin, Origin, canonical_node
from syncstore.auth.reasons import Reason
from syncstore.auth.secrets import Secrets
from syncstore.auth.target import first_target, other_targets
from syncstore.auth.token_cache import TokenCache
from syncstore.auth.tokens import Token, derive_key, read_token
from syncstore.clock import Clock
from syncstore.errors import Unauthorized

DEFAULT_EXPIRED_WINDOW = 7200.0
DEFAULT_CACHE_SIZE = 8192  # about 1.5 kB each


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who sent a request.

    The four ids are None where the token has none. `expired` is true only where an expired token was
    tolerated. `hash` is the payload hash that the body is still to be compared with, "" for none.
    """

    uid: int
    fxa_uid: str | None
    fxa_kid: str | None
    hashed_fxa_uid: str | None
    hashed_device_id: str | None
    expired: bool = False
    hash: str = ""

    def verify_payload(self, content_type: str, body: bytes) -> None:
        """Compare `hash` with the body that came; Unauthorized if it is of another body."""
        if self.hash and not same_text(payload_hash(content_type, body), self.hash):
            raise Unauthorized(Reason.WRONG_PAYLOAD_HASH)


class _Verified(msgspec.Struct, frozen=True):
    """What is kept of a token whose signature was verified; `node` is in canonical form."""

    uid: int
    node: str
    expires: float
    key: MacKey
    identity: Identity


class Authenticator:
    """Authenticates storage requests. One object serves all threads of a process."""

    def __init__(
        self,
        secrets: Secrets,
        origin: ClientOrigin,
        clock: Clock,
        *,
        accepted_nodes: Collection[str] = (),
        check_node: bool = True,
        expired_token_window: float = DEFAULT_EXPIRED_WINDOW,
        verify_payload_hash: bool = False,
        cache_size: int = DEFAULT_CACHE_SIZE,
    ) -> None:
        """Tokens must be for one of `accepted_nodes`, or for the request's own origin if there are none.

        `check_node` False accepts tokens of any node that the secrets have signed. `expired_token_window`
        is how many seconds after its expiry a token is still tolerated where that is asked for.
        `verify_payload_hash` puts a hash that the client sent into the Identity. `cache_size` is in tokens.
        The secrets must not change: build a new Authenticator for new ones.
        """
        self._secrets = secrets
        self._origin = origin
        self._clock = clock
        self._accepted_nodes = tuple(name.rstrip("/") for name in accepted_nodes)
        self._accepted = frozenset(canonical_node(name) for name in self._accepted_nodes)
        self._check_node = check_node
        self._expired_window = expired_token_window
        self._verify_payload_hash = verify_payload_hash
        self._cache: TokenCache[_Verified] = TokenCache(cache_size)

    def authenticate(self, environ: dict[str, Any], uid: int, *, tolerate_expired: bool = False) -> Identity:
        """The sender of the request in `environ`, who must be the user `uid` of its URL.

        Raises Unauthorized if that is not proved, with a Reason, and InvalidRequest if the Host header
        names no host and port. With `tolerate_expired` a token that expired less than the window ago is
        accepted; the Identity tells.
        """
        text = environ.get("HTTP_AUTHORIZATION")
        if text is None:
            raise Unauthorized(Reason.NO_HEADER)
        header = parse_header(text)
        origin = self._origin.of(environ)
        token = self._cache.get(header.id)
        if token is None:
            token = self._verify(header.id, origin)
        accepted = self._accepted
        if self._check_node and not (token.node in accepted if accepted else token.node == origin.node):
            raise Unauthorized(Reason.WRONG_NODE)
        if token.uid != uid:
            raise Unauthorized(Reason.WRONG_UID)
        overdue = self._clock.seconds() - token.expires
        if overdue >= 0 and not (tolerate_expired and overdue < self._expired_window):
            raise Unauthorized(Reason.TOKEN_EXPIRED)
        self._check_mac(environ, header, token.key, origin)
        body_hash = header.hash if self._verify_payload_hash else ""
        if overdue < 0 and not body_hash:
            return token.identity
        return msgspec.structs.replace(token.identity, expired=overdue >= 0, hash=body_hash)

    def forget_tokens(self) -> None:
        """Verify every token anew from now on."""
        self._cache.clear()

    def _check_mac(self, environ: dict[str, Any], header: HawkHeader, key: MacKey, origin: Origin) -> None:
        method, sent = environ["REQUEST_METHOD"], header.mac.encode()
        target = first_target(environ, origin.prefix)
        try:
            message = signed_message(header, method, target, origin.signed_lines)
            if compare_digest(key.mac(message), sent):
                return
            for other in other_targets(environ, origin.prefix, target):
                message = signed_message(header, method, other, origin.signed_lines)
                if compare_digest(key.mac(message), sent):
                    return
        except UnicodeEncodeError:  # no byte string, so nothing that a client can have signed
            pass
        raise Unauthorized(Reason.WRONG_MAC)

    def _verify(self, text: str, origin: Origin) -> _Verified:
        """Verify a token not seen before. Its node names no secret until a secret has verified it."""
        nodes = self._accepted_nodes or (origin.node,)
        secrets = tuple(dict.fromkeys(secret for node in nodes for secret in self._secrets.for_node(node)))
        token = read_token(text, secrets)
        secret = secrets[token.secret_index]
        node = canonical_node(token.node)
        if self._check_node and not any(
            node == canonical_node(name) and secret in self._secrets.for_node(name) for name in nodes
        ):
            # of no node served here, or signed by a node for another one
            raise Unauthorized(Reason.WRONG_NODE)
        verified = _Verified(
            uid=token.uid,
            node=node,
            expires=token.expires,
            key=MacKey(derive_key(text, secret, token.salt)),
            identity=_identity(token),
        )
        self._cache.put(text, verified)
        return verified


def _identity(token: Token) -> Identity:
    return Identity(
        uid=token.uid,
        fxa_uid=token.fxa_uid,
        fxa_kid=token.fxa_kid,
        hashed_fxa_uid=token.hashed_fxa_uid,
        hashed_device_id=token.hashed_device_id,
    )
