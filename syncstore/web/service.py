"""The WSGI application around Pyramid's router: what must happen before routing, for any path.

Small-object caches are reached before the rest, and have no CORS. CORS preflights are answered for paths that do not
exist, too (sync-api section 16). A path prefix of
`public_url`, which a proxy passed on, is moved to SCRIPT_NAME. Old Firefox for iOS can be kept out. A process that
was forked from the one that made the app serves nothing: both would read their answers from the same connections
to the database, and might get each other's.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from syncstore.clock import SystemClock
from syncstore.web.answers import Answer, json_zero
from syncstore.web.shmap import Shmap

log = logging.getLogger(__name__)

StartResponse = Callable[..., Any]
Environ = dict[str, Any]

_METHODS = "DELETE, GET, POST, PUT"
_REQUEST_HEADERS = ", ".join(
    (
        "Authorization",
        "Content-Type",
        "User-Agent",
        "X-If-Modified-Since",
        "X-If-Unmodified-Since",
        "X-Last-Modified",
        "X-Weave-Timestamp",
        "X-Weave-Next-Offset",
        "X-Weave-Records",
        "X-Weave-Bytes",
        "X-Weave-Total-Records",
        "X-Weave-Total-Bytes",
        "X-Verify-Code",
        "TEST_IDLES",
    )
)
_EXPOSED_HEADERS = ", ".join(
    (
        "Retry-After",
        "X-Last-Modified",
        "X-Weave-Alert",
        "X-Weave-Backoff",
        "X-Weave-Next-Offset",
        "X-Weave-Quota-Remaining",
        "X-Weave-Records",
        "X-Weave-Timestamp",
    )
)
# What may be echoed: an origin has no space, and nothing that an HTTP server would not let out again.
_is_origin = re.compile(r"[!-~]{1,512}", re.ASCII).fullmatch
_OLD_IOS = re.compile(r"Firefox-iOS-Sync/([0-9]+)\.[0-9.]*b.* \(.*; iPhone OS .*\) \(.*\)", re.ASCII)
_FIRST_GOOD_IOS = 20


class Notices(NamedTuple):
    """What may be said on any answer: X-Weave-Alert, and X-Weave-Backoff in seconds on a share of answers."""

    alert: str = ""
    backoff: int = 0
    probability: float = 1.0

    def headers(self) -> list[tuple[str, str]]:
        """The headers for one answer."""
        headers = [("X-Weave-Alert", self.alert)] if self.alert else []
        if self.backoff and random.random() < self.probability:  # noqa: S311 - spreads load, guards nothing
            seconds = str(self.backoff + random.randint(0, max(5, self.backoff // 20)))  # noqa: S311 - as above
            headers += [("X-Weave-Backoff", seconds), ("X-Backoff", seconds)]
        return headers


class Service:
    """The whole application. `prefix` is the path of `public_url`; `close` gives back what the app holds."""

    def __init__(
        self,
        router: Callable[[Environ, StartResponse], Iterable[bytes]],
        close: Callable[[], None],
        *,
        prefix: str,
        cors_max_age: int,
        notices: Notices,
        block_old_ios: bool,
        shmap: Shmap | None = None,
    ) -> None:
        self._router = router
        self.close = close
        self._prefix = prefix
        self._cors_max_age = str(cors_max_age)
        self._notices = notices if notices.alert or notices.backoff else None
        self._block_old_ios = block_old_ios
        self._shmap = shmap
        self._pid = os.getpid()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if os.getpid() != self._pid:  # 50 ns
            return self._forked()(environ, start_response)
        prefix = self._prefix
        if prefix and environ["PATH_INFO"].startswith(prefix + "/"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
            environ["PATH_INFO"] = environ["PATH_INFO"][len(prefix) :]
        if self._shmap is not None:
            reply = self._shmap.answer(environ)
            if reply is not None:
                return reply.send(environ, start_response)
        if self._block_old_ios and _is_old_ios(environ.get("HTTP_USER_AGENT", "")):
            return _unavailable()(environ, start_response)
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and _is_origin(origin):
            if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
                return self._preflight(origin)(environ, start_response)
            start_response = _adding(start_response, _cors_headers(origin))
        if self._notices is not None:
            start_response = _adding(start_response, self._notices.headers())
        return self._router(environ, start_response)

    def _forked(self) -> Answer:
        log.error(
            "this process was forked after the application had been made, and may not use its connections: "
            "start gunicorn without --preload, uWSGI with lazy-apps = true"
        )
        return _unavailable([("Retry-After", "60")])

    def _preflight(self, origin: str) -> Answer:
        return Answer(
            b"",
            content_type="text/plain",
            headers=[
                ("Access-Control-Allow-Origin", origin),
                ("Access-Control-Allow-Methods", _METHODS),
                ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
                ("Access-Control-Max-Age", self._cors_max_age),
                ("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
            ],
        )


def _unavailable(headers: Iterable[tuple[str, str]] = ()) -> Answer:
    return json_zero(503, headers).stamp(SystemClock().now())


def _cors_headers(origin: str) -> list[tuple[str, str]]:
    # Any origin is welcome: what protects a user is the signature, and no cookie is ever read.
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", _EXPOSED_HEADERS),
        ("Vary", "Origin"),
    ]


def _adding(start_response: StartResponse, more: list[tuple[str, str]]) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
        return start_response(status, [*headers, *more], *rest)

    return start


def _is_old_ios(agent: str) -> bool:
    if not agent.startswith("Firefox-iOS-Sync/") or len(agent) > 512:
        return False
    match = _OLD_IOS.fullmatch(agent)
    return match is not None and 0 < int(match[1]) < _FIRST_GOOD_IOS
