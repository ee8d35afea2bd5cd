"""A sync client that signs for itself.

It shares no code with the server: tokens and Hawk are written here a second time, from the protocol alone,
so that a fault in the server's own cannot hide. Every answer is held to the general rules of
`syncstore.testing.replies` before a test sees it.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from syncstore.testing.replies import Reply, check
from syncstore.testing.transports import Body, Chunked, InProcess, Live, Transport, Unsent

# who uses a client speaks of its transports and replies, too: they can be had from here
__all__ = [
    "Body",
    "Chunked",
    "Credentials",
    "InProcess",
    "Live",
    "Reply",
    "SyncClient",
    "Transport",
    "Unsent",
    "authorization",
    "mint",
]


@dataclass(frozen=True)
class Credentials:
    """What a token server hands out: the token and the key that goes with it, both text."""

    token: str
    key: str


def _hkdf(secret: str, info: str, salt: str = "") -> bytes:
    # RFC 5869 with one block of output: 32 bytes are all that tokens need
    pseudo_random_key = hmac.digest(salt.encode() or bytes(32), secret.encode(), "sha256")
    return hmac.digest(pseudo_random_key, info.encode() + b"\x01", "sha256")


def mint(secret: str, payload: bytes, salt: str) -> Credentials:
    """Sign a token payload (JSON text whose `salt` is repeated here) with `secret` (auth section 2)."""
    signing_key = _hkdf(secret, "services.mozilla.com/tokenlib/v1/signing")
    signature = hmac.digest(signing_key, payload, "sha256")
    token = base64.urlsafe_b64encode(payload + signature).decode()
    derived = _hkdf(secret, "services.mozilla.com/tokenlib/v1/derive/" + token, salt)
    return Credentials(token, base64.urlsafe_b64encode(derived).decode())


def authorization(
    credentials: Credentials,
    method: str,
    target: str,
    host: str,
    *,
    scheme: str = "http",
    ts: str | None = None,
    nonce: str | None = None,
    payload_hash: str = "",
    ext: str = "",
) -> str:
    """The Authorization header of one request (auth section 5). `host` is the Host header as sent."""
    ts = ts or str(int(time.time()))
    nonce = nonce or base64.b64encode(os.urandom(6)).decode()
    name, _, port = host.partition(":")
    port = port or {"http": "80", "https": "443"}[scheme]
    lines = ["hawk.1.header", ts, nonce, method, target, name.lower(), port, payload_hash, ext]
    text = "".join(line + "\n" for line in lines)
    mac = base64.b64encode(hmac.digest(credentials.key.encode(), text.encode(), "sha256")).decode()
    fields = {"ts": ts, "nonce": nonce, "id": credentials.token, "mac": mac}
    if payload_hash:
        fields["hash"] = payload_hash
    if ext:
        fields["ext"] = ext
    return "Hawk " + ", ".join(f'{key}="{value}"' for key, value in fields.items())


class SyncClient:
    """One user of one node. Paths are relative to `/1.5/<uid>` unless `at` says otherwise.

    Bodies: str and bytes go out verbatim, anything else as JSON in UTF-8. A header given as None is
    left out. Every answer is checked by `check` before it is returned.
    """

    def __init__(self, uid: int, secret: str, transport: Transport, node: str | None = None) -> None:
        self.uid = uid
        self.secret = secret
        self.transport = transport
        self.node = node or f"{transport.scheme}://{transport.host}{transport.prefix}"
        self.credentials = self.mint()

    def mint(self, **fields: object) -> Credentials:
        """A token of this user that is good for an hour; `fields` replace or add to its fields."""
        payload: dict[str, object] = {
            "uid": self.uid,
            "node": self.node,
            "expires": int(time.time()) + 3600,
            "fxa_uid": f"DECAFBAD{self.uid:024x}",
            "fxa_kid": "0000000000000-DECAFBAD",
            "hashed_fxa_uid": f"{self.uid:032x}",
            "hashed_device_id": f"{self.uid + 1:032x}",
            "salt": os.urandom(3).hex(),
        }
        payload.update(fields)
        return mint(self.secret, json.dumps(payload).encode(), str(payload["salt"]))

    def on_a_new_connection(self) -> SyncClient:
        """The same user on a connection of its own, for another thread."""
        return SyncClient(self.uid, self.secret, self.transport.again(), self.node)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str | None] | None = None,
        *,
        at: str | None = None,
        signed: bool = True,
        credentials: Credentials | None = None,
        **hawk: str,
    ) -> Reply:
        """Send one request.

        `at` replaces the base `/1.5/<uid>`; `signed=False` leaves Authorization out; `credentials`
        sign in place of the user's own; `hawk` sets ts, nonce, ext or payload_hash.
        """
        base = f"/1.5/{self.uid}" if at is None else at
        target = self.transport.prefix + base + path
        sent: dict[str, str] = {}
        payload: Body = None
        if body is not None:
            payload = body if isinstance(body, Unsent | Chunked) else _encode(body)
            sent["Content-Type"] = "application/json"
        elif method in ("PUT", "POST"):
            payload = b""
        if signed:
            sent["Authorization"] = authorization(
                credentials or self.credentials,
                method,
                target,
                self.transport.host,
                scheme=self.transport.scheme,
                **hawk,
            )
        for name, value in (headers or {}).items():
            if value is None:
                sent.pop(name, None)
            else:
                sent[name] = value
        status, pairs, content = self.transport.send(method, target, sent, payload)
        received: dict[str, str] = {}
        for name, value in pairs:
            key = name.lower()
            received[key] = f"{received[key]}, {value}" if key in received else value
        reply = Reply(method, target, status, received, content)
        check(reply, storage=base.startswith("/1.5/"))
        return reply

    def get(self, path: str, headers: Mapping[str, str | None] | None = None, **options: Any) -> Reply:
        return self.request("GET", path, None, headers, **options)

    def head(self, path: str, headers: Mapping[str, str | None] | None = None, **options: Any) -> Reply:
        return self.request("HEAD", path, None, headers, **options)

    def options(self, path: str, headers: Mapping[str, str | None] | None = None, **options: Any) -> Reply:
        return self.request("OPTIONS", path, None, headers, **options)

    def delete(self, path: str, headers: Mapping[str, str | None] | None = None, **options: Any) -> Reply:
        return self.request("DELETE", path, None, headers, **options)

    def put(
        self, path: str, body: object, headers: Mapping[str, str | None] | None = None, **options: Any
    ) -> Reply:
        return self.request("PUT", path, body, headers, **options)

    def post(
        self, path: str, body: object, headers: Mapping[str, str | None] | None = None, **options: Any
    ) -> Reply:
        return self.request("POST", path, body, headers, **options)


def _encode(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    # UTF-8 as it is, since the size rules count bytes; a Decimal can only be a timestamp
    return json.dumps(body, ensure_ascii=False, default=float).encode()
