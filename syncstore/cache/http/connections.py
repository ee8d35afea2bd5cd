"""Connections to one HTTP server: kept alive, for one request at a time each, with a deadline for all of an exchange.

Written out instead of `http.client`, whose timeout is for each step: a server that sends a byte now and then would hold
a thread for ever. An answer must have a length, and is refused by it before it is read.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from syncstore.cache.api import BackendUnavailable
from syncstore.forks import in_each_child

_MOST_IDLE: Final = 16
_MOST_HEAD: Final = 32 * 1024
_CHUNK: Final = 256 * 1024
_NO_BODY: Final = (204, 304)


class Answer(NamedTuple):
    """An answer; the names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Stale(Exception):
    """The connection had ended before anything of an answer came."""


class Connections:
    """Connections to `host` and `port`, with TLS or without. Opens none before the first request.

    `timeout`, in seconds, is for the whole of an exchange. A child after a fork has none of its parent's.
    """

    def __init__(self, host: str, port: int, *, tls: bool, timeout: float) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._timeout = timeout
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()
        in_each_child(self._begin_in_child)

    def exchange(self, request: bytes, most: int, *, again: bool) -> Answer:
        """Send a request, read its answer, of `most` bytes. Raises BackendUnavailable.

        With `again` it is sent once more, on a new connection, when a kept one turns out to have ended: only for what
        may be done twice.
        """
        deadline = time.monotonic() + self._timeout
        try:
            kept = self._take()
            if kept is not None:
                try:
                    return self._exchange(kept, request, most, deadline)
                except _Stale as error:
                    if not again:
                        raise BackendUnavailable(f"{self._where}: {error}") from error
            return self._exchange(self._connect(deadline), request, most, deadline)
        except _Stale as error:
            raise BackendUnavailable(f"{self._where}: {error}") from error
        except OSError as error:  # timeouts, and what TLS refuses, too
            raise BackendUnavailable(f"{self._where}: {error or 'no answer in time'}") from error

    def close(self) -> None:
        """Close those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @property
    def _where(self) -> str:
        return f"{self._host}:{self._port}"

    def _begin_in_child(self) -> None:
        self._lock = threading.Lock()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()  # says nothing to the server, for the parent still has it

    # -- connections

    def _take(self) -> socket.socket | None:
        """One that is kept and has not ended, as far as can be seen."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            # Nothing is due: what can be read is the end, or is not for us.
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.close()

    def _keep(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, deadline: float) -> socket.socket:
        connection = socket.create_connection((self._host, self._port), _left(deadline))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._tls:
                return connection
            if self._context is None:
                self._context = ssl.create_default_context()
            connection.settimeout(_left(deadline))
            return self._context.wrap_socket(connection, server_hostname=self._host)
        except BaseException:
            connection.close()
            raise

    # -- one exchange

    def _exchange(self, connection: socket.socket, request: bytes, most: int, deadline: float) -> Answer:
        keep = False
        try:
            stream = _Stream(connection, deadline)
            stream.send(request)
            answer, keep = stream.answer(most)
            return answer
        finally:
            if keep:
                self._keep(connection)
            else:
                connection.close()


class _Stream:
    """What comes on a connection, until a deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._came = bytearray()
        self._began = False

    def send(self, request: bytes) -> None:
        # A server that has had enough may have said why before it hung up.
        with suppress(BrokenPipeError, ConnectionResetError):
            rest = memoryview(request)
            while rest:
                self._connection.settimeout(_left(self._deadline))
                rest = rest[self._connection.send(rest) :]

    def answer(self, most: int) -> tuple[Answer, bool]:
        """The answer, and whether the connection can be used again."""
        while True:
            status, version, headers = self._head()
            if status >= 200:
                break
        length = headers.get("content-length", "0" if status in _NO_BODY else "")
        if not (length.isascii() and length.isdigit()) or "transfer-encoding" in headers:
            raise OSError(f"the answer {status} has no length")
        size = 0 if status in _NO_BODY else int(length[:18])
        if size > most:
            raise OSError(f"the answer {status} has {size} bytes, and {most} at most were expected")
        while len(self._came) < size:
            self._receive(size - len(self._came))
        answer = Answer(status, headers, bytes(self._came[:size]))
        kept = version == b"HTTP/1.1" and headers.get("connection", "").lower() != "close"
        return answer, kept and len(self._came) == size

    def _head(self) -> tuple[int, bytes, dict[str, str]]:
        while (end := self._came.find(b"\r\n\r\n")) < 0:
            if len(self._came) > _MOST_HEAD:
                raise OSError("the head of the answer is too long")
            self._receive(_CHUNK)
        first, *lines = bytes(self._came[:end]).split(b"\r\n")
        del self._came[: end + 4]
        version, _, rest = first.partition(b" ")
        status = rest[:3]
        if not version.startswith(b"HTTP/1.") or not status.isdigit() or len(status) < 3:
            raise OSError("this is no HTTP")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip(" \t")
        return int(status), version, headers

    def _receive(self, most: int) -> None:
        self._connection.settimeout(_left(self._deadline))
        came = b""
        with suppress(ConnectionResetError):
            came = self._connection.recv(min(most, _CHUNK))
        if came:
            self._came += came
        elif self._began:
            raise OSError("the answer breaks off")
        else:
            raise _Stale("the connection was closed without an answer")
        self._began = True


def _left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds
