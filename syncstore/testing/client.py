"""A sync client that signs for itself and holds every answer to the rules that all answers share.

It shares no code with the server: tokens and Hawk are written here a second time, from the protocol
alone, so that a fault in the server's own cannot hide. Targets go out exactly as given, byte for byte;
whoever needs an escape writes it. JSON decimals arrive as `Decimal`, so that "exactly two digits" can
be seen. `check` states the general rules (sync-api sections 3, 5, 11 and 15) in one place.
"""

from __future__ import annotations

import base64
import hmac
import http.client
import io
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes, urlsplit
from wsgiref.util import is_hop_by_hop

TIMESTAMP = re.compile(r"[0-9]{1,17}\.[0-9]{2}")
ITEM_KEYS = {"id", "modified", "payload", "sortindex"}
_CHUNK = 65536
PATIENCE = 30.0  # seconds a live server may take to answer before the test fails

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


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


@dataclass(frozen=True)
class Reply:
    """One answer. Header names are matched in any case; `reply["X-Last-Modified"]` must be there."""

    method: str
    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def __getitem__(self, header: str) -> str:
        value = self.headers.get(header.lower())
        assert value is not None, f"{self}: the header {header} is missing"
        return value

    def get(self, header: str) -> str | None:
        return self.headers.get(header.lower())

    @property
    def media_type(self) -> str:
        return (self.get("Content-Type") or "").partition(";")[0].strip()

    @property
    def text(self) -> str:
        return self.body.decode()

    @cached_property
    def json(self) -> Any:
        """The parsed body; numbers with a decimal point are `Decimal`, trailing zeros kept."""
        return json.loads(self.body, parse_float=Decimal)

    @property
    def modified(self) -> Decimal:
        """X-Last-Modified."""
        return Decimal(self["X-Last-Modified"])

    def __str__(self) -> str:
        return f"{self.method} {self.target[:200]} -> {self.status} {self.body[:300]!r}"

    __repr__ = __str__


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


def check(reply: Reply, *, storage: bool = True) -> None:
    """The rules that hold for every answer, whatever was asked. Raises AssertionError.

    `storage` is False for the site's own pages, which need no timestamps (section 17).
    """
    preflight = reply.method == "OPTIONS" and reply.status < 400
    if storage and not preflight:
        _check_times(reply)
    if reply.method == "HEAD":
        assert not reply.body, f"{reply}: an answer to HEAD has no body (section 2)"
    if reply.status == 304:
        assert not reply.body, f"{reply}: a 304 has no body (section 9)"
    if reply.status >= 400:
        _check_error(reply)
    elif storage and not preflight and reply.status != 304 and reply.method != "HEAD":
        _check_answer(reply)


def _check_times(reply: Reply) -> None:
    now = reply["X-Weave-Timestamp"]
    assert TIMESTAMP.fullmatch(now), f"{reply}: X-Weave-Timestamp {now!r} is no timestamp (section 3)"
    modified = reply.get("X-Last-Modified")
    if modified is None:
        assert reply.status >= 400, f"{reply}: X-Last-Modified is missing (section 11)"
        assert reply.status != 412, f"{reply}: a 412 carries X-Last-Modified (section 9)"
        return
    assert TIMESTAMP.fullmatch(modified), f"{reply}: X-Last-Modified {modified!r} (section 3)"
    assert Decimal(now) >= Decimal(modified), (
        f"{reply}: X-Weave-Timestamp {now} is before X-Last-Modified {modified} (section 11)"
    )
    if reply.status == 200 and reply.method in ("PUT", "POST"):
        assert now == modified, f"{reply}: a write has one time: {now} is not {modified} (section 11)"


def _check_error(reply: Reply) -> None:
    if reply.status == 401:
        assert reply["WWW-Authenticate"].startswith("Hawk"), f"{reply}: no Hawk challenge (auth section 8)"
    if reply.status == 503:
        assert int(reply["Retry-After"]) > 0, f"{reply}: a 503 says when to come again (section 15)"
    if reply.method != "HEAD":
        assert reply.media_type == "application/json", f"{reply}: {reply.media_type!r} (section 15)"
        assert re.fullmatch(rb"[0-9]{1,2}\n?", reply.body), f"{reply}: no integer code (section 15)"


def _check_answer(reply: Reply) -> None:
    count = reply.get("X-Weave-Records")
    if reply.media_type == "application/newlines":
        assert reply.method == "GET", f"{reply}: only lists come as newlines (section 5.1)"
        lines = reply.text.split("\n")
        assert lines.pop() == "", f"{reply}: every line ends with a newline (section 5.1)"
        content: Any = [json.loads(line, parse_float=Decimal) for line in lines]
    else:
        assert reply.media_type == "application/json", (
            f"{reply}: its Content-Type is {reply.media_type!r} (section 5.1)"
        )
        content = reply.json
    if count is not None:
        assert int(count) == len(content), f"{reply}: X-Weave-Records is {count} (section 11)"
    if isinstance(content, Decimal):
        _check_timestamp(reply, content)
    elif reply.target.partition("?")[0].endswith("/info/collections"):
        for value in content.values():
            _check_timestamp(reply, value)
    for element in content if isinstance(content, list) else [content]:
        if isinstance(element, dict) and "modified" in element:
            _check_timestamp(reply, element["modified"])
        if isinstance(element, dict) and "payload" in element:
            assert element.keys() <= ITEM_KEYS, f"{reply}: unknown keys in {element} (section 7)"
            assert element.keys() >= {"id", "modified"}, f"{reply}: keys missing in {element} (section 7)"
            assert None not in element.values(), f"{reply}: a null in {element} (section 7)"


def _check_timestamp(reply: Reply, value: object) -> None:
    assert isinstance(value, Decimal), f"{reply}: {value!r} is no decimal number (section 3)"
    assert TIMESTAMP.fullmatch(str(value)), f"{reply}: {value} needs exactly two decimals (section 3)"
