"""Asks one HTTP server as a sync client would: the target byte for byte, no redirects, and never for long.

Environment variables that name proxies are not looked at: what is asked is the address itself.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum, auto

import msgspec

from syncstore.auth.origin import Origin

# Seconds for one exchange, from the name's look-up, which has limits of its own, to the answer's last byte.
PATIENCE = 10.0

_MOST = 65_536  # bytes of an answer that are looked at


class Why(Enum):
    """Why there was no answer."""

    UNKNOWN_NAME = auto()
    REFUSED = auto()
    SILENT = auto()
    UNREACHABLE = auto()
    EXPIRED = auto()
    NOT_YET_VALID = auto()
    OTHER_NAME = auto()
    UNTRUSTED = auto()
    NO_TLS = auto()
    BROKEN = auto()


# OpenSSL's X509_V_ERR_...
_VERIFY_ERRORS = {10: Why.EXPIRED, 9: Why.NOT_YET_VALID, 62: Why.OTHER_NAME, 64: Why.OTHER_NAME}


class Unanswered(Exception):
    """No HTTP answer came. `detail` is what the system says about it, in a few words."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(f"{why.name}: {detail}")
        self.why = why
        self.detail = detail


class Reply(msgspec.Struct, frozen=True):
    """An answer. Names of headers are in lower case; the body ends after 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """Content-Type without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def of_syncstore(self) -> bool:
        """Whether the storage itself has answered: everything that it says carries its time."""
        return "x-weave-timestamp" in self.headers


class Client:
    """Asks the server at `origin`. `trust` decides about certificates; `host` replaces the Host header.

    `patience` is in seconds, for one exchange.
    """

    def __init__(
        self, origin: Origin, trust: ssl.SSLContext, *, host: str | None = None, patience: float = PATIENCE
    ) -> None:
        self.origin = origin
        self._trust = trust
        self._host = host or origin.node.partition("://")[2].partition("/")[0]
        self._patience = patience

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        patience: float | None = None,
    ) -> Reply:
        """Send one request over a connection of its own. Raises Unanswered."""
        connection, sock = self._connect()
        # A server that sends a byte now and then would keep each single read in time.
        late = threading.Event()
        watch = threading.Timer(patience or self._patience, _hang_up, [sock, late])
        watch.start()
        try:
            reply = _exchange(connection, method, target, {"Host": self._host, **(headers or {})}, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _unanswered(error, cut=late.is_set()) from error
        finally:
            watch.cancel()
            connection.close()
        if late.is_set():  # what was there when we hung up looks like an answer, and may be half of one
            raise Unanswered(Why.SILENT, "the answer did not end")
        return reply

    def speaks_tls(self) -> bool:
        """Whether a TLS handshake succeeds at this port, whatever the certificate."""
        indifferent = ssl.create_default_context()
        indifferent.check_hostname = False
        indifferent.verify_mode = ssl.CERT_NONE  # nothing is sent: the handshake is the question
        try:
            with (
                socket.create_connection((self._name, self.origin.port), self._patience) as plain,
                indifferent.wrap_socket(plain, server_hostname=self._name),
            ):
                return True
        except OSError:
            return False

    @property
    def _name(self) -> str:
        return self.origin.host.strip("[]")

    def _connect(self) -> tuple[http.client.HTTPConnection, socket.socket]:
        connection: http.client.HTTPConnection
        if self.origin.scheme == "https":
            connection = http.client.HTTPSConnection(
                self._name, self.origin.port, timeout=self._patience, context=self._trust
            )
        else:
            connection = http.client.HTTPConnection(self._name, self.origin.port, timeout=self._patience)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            connection.close()
            raise _unanswered(error) from error
        connected: socket.socket = connection.sock
        return connection, connected


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Reply:
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("Connection", "close")
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    try:
        connection.endheaders(body)
    except (BrokenPipeError, ConnectionResetError):
        if body is None:
            raise
        # It did not want the body, and may have said why before it stopped listening.
    answer = connection.getresponse()
    pairs = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(answer.status, pairs, answer.read(_MOST))


def _hang_up(sock: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):  # it has ended by itself
        # The plain socket's method: the one of TLS would let the reader go on without TLS.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _unanswered(error: Exception, *, cut: bool = False) -> Unanswered:
    detail = str(getattr(error, "strerror", None) or error or type(error).__name__)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unanswered(_VERIFY_ERRORS.get(error.verify_code, Why.UNTRUSTED), error.verify_message)
    if cut or isinstance(error, TimeoutError):
        return Unanswered(Why.SILENT, detail)
    if isinstance(error, ssl.SSLError):
        return Unanswered(Why.NO_TLS, error.reason or detail)
    if isinstance(error, socket.gaierror | UnicodeError):
        return Unanswered(Why.UNKNOWN_NAME, detail)
    if isinstance(error, ConnectionRefusedError):
        return Unanswered(Why.REFUSED, detail)
    if isinstance(error, ConnectionError | http.client.HTTPException | ValueError):
        return Unanswered(Why.BROKEN, detail)
    return Unanswered(Why.UNREACHABLE, detail)
