"""An account server for tests: real HTTP on a port of its own, RSA keys of its own, and every way to go wrong.

It signs tokens by itself, from RFC 7515 alone, so that a fault in the library that the product uses cannot hide,
and so that tokens which no library would sign can be made. Its `/v1/verify` takes the tokens it has signed and,
as functional suites of the field expect, tokens that are a JSON object `{"body": ..., "status": ...}` which say
themselves what is answered.
"""

from __future__ import annotations

import base64
import hmac
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from syncstore.testing.processes import HOST, free_port

SCOPE = "https://identity.mozilla.com/apps/oldsync"
ISSUER = "https://accounts.example.com"
UID = "00112233445566778899aabbccddeeff"
_PATIENCE = 30.0  # seconds after which a silent answer ends by itself
_DRIP = 0.02  # seconds between two bytes

Signer = Callable[[bytes], bytes]


class Fault(Enum):
    """What the server does instead of its work, on every path."""

    SILENT = "takes the request and says nothing"
    DRIPPING = "answers a byte at a time, for ever"
    HANGING_UP = "closes the connection without an answer"
    NOT_HTTP = "answers something that is no HTTP"
    GARBAGE = "answers 200 and something that is no JSON"
    OVERSIZE = "answers 200 and JSON of a megabyte"
    TRUNCATED = "announces more bytes than it sends"
    BROKEN = "answers 500"
    REDIRECTING = "sends whoever asks to `redirect_to`"


class SigningKey:
    """An RSA key with its id."""

    def __init__(self, key_id: str, bits: int = 2048) -> None:
        self.key_id = key_id
        self.private: RSAPrivateKey = generate_private_key(65537, bits)

    def sign(self, data: bytes) -> bytes:
        """The signature of RS256."""
        return self.private.sign(data, PKCS1v15(), SHA256())

    def has_signed(self, token: str) -> bool:
        """Whether a compact token carries its signature."""
        data, _, signature = token.rpartition(".")
        try:
            self.private.public_key().verify(_unbase64(signature), data.encode(), PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True

    def jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": self.key_id,
            "n": _base64_of(numbers.n),
            "e": _base64_of(numbers.e),
        }


@cache
def _first_key() -> SigningKey:
    # each server of a run begins with the same one, since a new one takes a tenth of a second
    return SigningKey("key-1")


def compact(header: Mapping[str, object], payload: bytes, sign: Signer) -> str:
    """A signed token in its compact form (RFC 7515, section 7.1); header and signature may be any nonsense."""
    signed = f"{_base64(json.dumps(header).encode())}.{_base64(payload)}"
    return f"{signed}.{_base64(sign(signed.encode()))}"


def hmac_signer(key: bytes) -> Signer:
    """The signer of HS256."""
    return lambda data: hmac.digest(key, data, "sha256")


def unsigned(data: bytes) -> bytes:
    """The signer of the algorithm "none"."""
    return b""


class MockAccountServer:
    """The server, in a thread. Use it in a `with`; `stop` and `start` make an outage on the same port.

    `fault` is what goes wrong now, `delay` how many seconds each right answer takes, `keys_document` what
    `/v1/jwks` answers in place of its keys, `requests` how often each path was asked for.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://{HOST}:{self.port}"
        self.keys = [_first_key()]
        self.keys_document: bytes | None = None
        self.fault: Fault | None = None
        self.delay = 0.0
        self.redirect_to = "http://127.0.0.1:9/"
        self.requests: Counter[str] = Counter()
        self.last_headers: dict[str, str] = {}
        self._tls = tls
        self._released = threading.Event()
        self._counting = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen."""
        self._released.clear()
        self._server = _Server((HOST, self.port), self._handler())
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="account server"
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Refuse connections, and end those that there are."""
        if self._server is None or self._thread is None:
            return
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def rotate(self, *, keep: bool = True) -> None:
        """Sign with a new key from now on; the old ones stay published if `keep`."""
        new = SigningKey(f"key-{int(self.keys[-1].key_id.removeprefix('key-')) + 1}")
        self.keys = [*(self.keys if keep else []), new]

    def token(
        self,
        uid: str = UID,
        claims: Mapping[str, object] | None = None,
        header: Mapping[str, object] | None = None,
        sign: Signer | None = None,
    ) -> str:
        """An access token for `uid` that is good for an hour.

        `claims` and `header` replace or add to what is in it, None takes out; `sign` replaces the signature of
        the newest key.
        """
        now = int(time.time())
        key = self.keys[-1]
        payload = {
            "aud": "5882386c6d801776",
            "client_id": "5882386c6d801776",
            "exp": now + 3600,
            "iat": now,
            "iss": ISSUER,
            "jti": "0f",
            "scope": SCOPE,
            "sub": uid,
        }
        return compact(
            _merged({"alg": "RS256", "kid": key.key_id, "typ": "at+jwt"}, header),
            json.dumps(_merged(payload, claims)).encode(),
            sign or key.sign,
        )

    def opaque_token(self, uid: str = UID, status: int = 200, **body: object) -> str:
        """A token for `/v1/verify` alone, which answers `status` and the usual body with `body` put over it."""
        usual = {"user": uid, "client_id": "5882386c6d801776", "scope": [SCOPE], "generation": None}
        return json.dumps({"body": {**usual, **body}, "status": status})

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the right answer."""
        if (method, path) == ("GET", "/v1/jwks"):
            document = self.keys_document
            return 200, document or json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()
        if (method, path) == ("POST", "/v1/verify"):
            status, verdict = self._verdict(json.loads(body)["token"])
            return status, json.dumps(verdict).encode()
        return 404, b'{"code": 404, "errno": 116}'

    def _verdict(self, token: str) -> tuple[int, object]:
        with suppress(ValueError):
            told = json.loads(token)
            return told["status"], told["body"]
        if any(key.has_signed(token) for key in self.keys):
            claims = json.loads(_unbase64(token.split(".")[1]))
            verified = {"user": claims["sub"], "scope": claims["scope"].split(), "client_id": "0"}
            return 200, {**verified, "generation": claims.get("fxa-generation")}
        return 400, {"code": 400, "errno": 108, "error": "Bad Request", "message": "Invalid token"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        mock = self

        class Handler(_Handler):
            def answer(self) -> None:
                mock._serve(self)

        return Handler

    def _serve(self, request: _Handler) -> None:
        with self._counting:
            self.requests[request.path] += 1
        self.last_headers = dict(request.headers.items())
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        fault = self.fault
        if fault is Fault.SILENT:
            self._released.wait(_PATIENCE)
        elif fault is Fault.DRIPPING:
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self._released.wait(_DRIP):
                request.wfile.write(b"z")
        elif fault is Fault.NOT_HTTP:
            request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        elif fault is Fault.TRUNCATED:
            request.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"keys": []}')
        elif fault is Fault.GARBAGE:
            request.reply(200, b"<html>Welcome to the hotel's network")
        elif fault is Fault.OVERSIZE:
            request.reply(200, b'{"keys": [' + b" " * 1_000_000 + b"]}")
        elif fault is Fault.BROKEN:
            request.reply(500, b'{"code": 500}')
        elif fault is Fault.REDIRECTING:
            request.reply(302, b"", self.redirect_to)
        elif fault is None:
            if self.delay:
                self._released.wait(self.delay)
            request.reply(*self.answer(request.command, request.path, body))


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for them, and none is left behind with its socket

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away while they are answered: that is what they are tested for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE

    def answer(self) -> None:
        raise NotImplementedError

    def reply(self, status: int, body: bytes, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.close_connection = True
        self.answer()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Silence: the counters tell what was asked."""


def _merged(usual: Mapping[str, object], other: Mapping[str, object] | None) -> dict[str, object]:
    return {key: value for key, value in {**usual, **(other or {})}.items() if value is not None}


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _base64_of(number: int) -> str:
    return _base64(number.to_bytes((number.bit_length() + 7) // 8, "big"))
