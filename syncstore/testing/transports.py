"""How a test's request reaches the server and its answer comes back: in process, or over a live connection.

Targets go out exactly as given, byte for byte; whoever needs an escape writes it.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes, urlsplit
from wsgiref.util import is_hop_by_hop

PATIENCE = 30.0  # seconds a live server may take to answer before the test fails
_CHUNK = 65536

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Unsent:
    """A body of which only the length, in bytes, is declared: an answer must come without it."""

    length: int


@dataclass(frozen=True)
class Chunked:
    """A body that goes out in chunks (RFC 9112, section 7.1), so that its length is not declared."""

    content: bytes


Body = bytes | Unsent | Chunked | None


class Transport(Protocol):
    """Carries one request to the server and its answer back, unchanged."""

    @property
    def scheme(self) -> str: ...

    @property
    def host(self) -> str:
        """The Host header: name, and port unless it is the scheme's own."""

    @property
    def prefix(self) -> str:
        """The path under which the server is mounted, without a trailing slash."""

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send `target` as it is. Returns status, headers and body."""

    def again(self) -> Transport:
        """A second connection to the same server, for another thread."""

    def close(self) -> None:
        """End the connection."""


class _Promise:
    """wsgi.input of an `Unsent` body: whoever reads it reads what the client never sent."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError(
            "sync-api section 12: a body over max_request_bytes must be refused before it is read"
        )

    readline = read
    readlines = read

    def __iter__(self) -> _Promise:
        return self

    __next__ = read


class InProcess:
    """Calls a WSGI application through WebTest, whose lint also checks it against PEP 3333."""

    scheme = "http"
    host = "localhost"
    prefix = ""

    def __init__(self, app: WSGIApp) -> None:
        from webtest import TestApp  # a live run does without WebTest

        self._app = app
        self._tester = TestApp(app)

    def again(self) -> InProcess:
        return InProcess(self._app)

    def close(self) -> None:
        """Nothing to end: the application belongs to others."""

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        from webtest import TestRequest

        path, _, query = target.partition("?")
        environ = {
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": target,  # gunicorn's name for the raw target
            "REQUEST_URI": target,  # waitress' name
            "HTTP_HOST": self.host,
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_" + key] = value
        request = TestRequest.blank("/", environ=environ, method=method)
        if isinstance(body, Unsent):
            request.environ["wsgi.input"] = _Promise()
            request.environ["CONTENT_LENGTH"] = str(body.length)
        elif isinstance(body, Chunked):
            request.environ["wsgi.input"] = io.BytesIO(body.content)
            request.environ["wsgi.input_terminated"] = True  # as gunicorn says that the end is marked
            request.environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        elif body is not None:
            request.body = body
        response = self._tester.do_request(request, status="*", expect_errors=True)
        # WebTest's lint does not look for these; waitress answers 500 in their place
        hops = [name for name in response.headers if is_hop_by_hop(name)]
        assert not hops, f"{method} {target}: PEP 3333 leaves {hops} to the HTTP server"
        return response.status_int, list(response.headers.items()), response.body


class Live:
    """Speaks HTTP/1.1 over one keep-alive connection, as Firefox does."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        self.scheme = parts.scheme
        default = {"http": 80, "https": 443}[parts.scheme]
        port = parts.port or default
        self.host = (parts.hostname or "") + ("" if port == default else f":{port}")
        self.prefix = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", port, timeout=PATIENCE)

    def again(self) -> Live:
        return Live(self._url)

    def close(self) -> None:
        self._connection.close()

    def send(
        self, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        kept_alive = self._connection.sock is not None
        try:
            return self._exchange(method, target, headers, body)
        except (http.client.RemoteDisconnected, ConnectionError):
            if not kept_alive:
                raise
        # A server may end a kept-alive connection just when the next request is on its way. No byte
        # of an answer came, so one more try on a new connection is what every client does.
        return self._exchange(method, target, headers, body)

    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: Body
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = self._connection
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self.host)
            for name, value in headers.items():
                connection.putheader(name, value.encode())
            if isinstance(body, Chunked):
                connection.putheader("Transfer-Encoding", "chunked")
            elif body is not None:
                length = body.length if isinstance(body, Unsent) else len(body)
                connection.putheader("Content-Length", str(length))
            connection.endheaders()
            self._send_body(body)
            response = connection.getresponse()
            text = response.read()
        except BaseException:
            connection.close()  # half an exchange is on it
            raise
        if isinstance(body, Unsent):
            connection.close()  # the rest of the body will never come
        return response.status, response.getheaders(), text

    def _send_body(self, body: Body) -> None:
        try:
            if isinstance(body, Chunked):
                for start in range(0, len(body.content), _CHUNK):
                    piece = body.content[start : start + _CHUNK]
                    self._connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                self._connection.send(b"0\r\n\r\n")
            elif isinstance(body, bytes):
                self._connection.send(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server had enough before the end, and may have said why
