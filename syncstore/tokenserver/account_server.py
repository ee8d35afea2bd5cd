"""The account server over HTTP: its public keys, and its word on a token that cannot be checked here.

One connection per question: with keys in the cache there is about one question an hour. The deadline holds for
the whole of it, connection, TLS, request and answer together, however slowly the bytes drip; only the system's
resolver keeps time by itself (`/etc/resolv.conf`). Answers are bounded, certificates verified, redirects not
followed: whoever could redirect us could say who is who.

The storage lives in the same process. So that a silent account server does not tie up its threads one after the
other, one question that waited in vain is followed by a pause in which nobody asks. A refused connection costs no
time and makes no pause.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from syncstore.clock import Clock
from syncstore.tokenserver.errors import AccountServerAway
from syncstore.tokenserver.exchange import Deadline, DeadlineConnection

MAX_ANSWER_BYTES = 64 * 1024
PAUSE_SECONDS = 5.0
_HEADERS = {"Accept": "application/json", "Connection": "close", "User-Agent": "syncstore"}


class Reply(NamedTuple):
    """A whole answer: HTTP status and body."""

    status: int
    body: bytes


class AccountServer:
    """The server at `url`, with or without the `/v1` that all of its paths begin with.

    `timeout` is in seconds. `tls` replaces the system's certificate authorities. Raises ValueError for anything
    that is no http or https URL with a host.
    """

    def __init__(self, url: str, timeout: float, clock: Clock, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of an account server")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.timeout = timeout
        self._prefix = urlsplit(self.url).path
        self._host = parts.hostname
        self._host.encode("idna")  # as the resolver will; UnicodeError is a ValueError
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._secure = parts.scheme == "https"
        self._given_tls = tls
        self._clock = clock
        self._ask_again_at = 0.0

    def fetch_keys(self) -> bytes:
        """The answer to `GET /v1/jwks`, unread. Raises AccountServerAway."""
        reply = self._ask("GET", "/v1/jwks")
        if reply.status != 200:
            raise AccountServerAway(f"{self.url}/v1/jwks answers {reply.status}")
        return reply.body

    def verify(self, token: str) -> Reply:
        """The answer to `POST /v1/verify`, whatever its status. Raises AccountServerAway."""
        return self._ask("POST", "/v1/verify", msgspec.json.encode({"token": token}))

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        # at the first question: reading the system's authorities takes a tenth of a second
        return (self._given_tls or ssl.create_default_context()) if self._secure else None

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Reply:
        now = self._clock.monotonic()
        if now < self._ask_again_at:
            raise AccountServerAway(f"{self.url} was silent a moment ago")
        deadline = Deadline(self._clock, now + self.timeout)
        headers = _HEADERS if body is None else {**_HEADERS, "Content-Type": "application/json"}
        try:
            return self._converse(deadline, method, self._prefix + path, body, headers)
        except TimeoutError:
            self._ask_again_at = self._clock.monotonic() + PAUSE_SECONDS
            raise AccountServerAway(f"{self.url} does not answer within {self.timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise AccountServerAway(f"{self.url}{path}: {type(error).__name__}: {error}") from error

    def _converse(
        self, deadline: Deadline, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        connection = DeadlineConnection(self._host, self._port, self._tls, deadline)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read(MAX_ANSWER_BYTES + 1)
            if len(content) > MAX_ANSWER_BYTES:
                raise AccountServerAway(f"{self.url}{path} answers more than {MAX_ANSWER_BYTES} bytes")
            if response.length:  # http.client does not mind a body that ends before its length
                raise http.client.IncompleteRead(content, response.length)
            return Reply(response.status, content)
        finally:
            connection.close()
