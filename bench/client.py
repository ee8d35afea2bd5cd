"""A plain HTTP/1.1 client for what is not measured: seeding, and the question whether the server is up.

http.client spends 200 microseconds on each answer, mostly on the headers, and seeding sends tens of thousands
of requests; this one reads the status, the length and the body.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

from bench.signing import Request, wire_head


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


class Sender(Protocol):
    """Something that answers requests one after the other, or several at once."""

    def send_all(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers, in the order of the requests."""


class Connection:
    """One keep-alive connection. Raises OSError when the server is gone or its answer cannot be read."""

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self._url = url
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, request: Request) -> Answer:
        self._socket.sendall(wire_head(request, self._url) + request.body)
        while b"\r\n\r\n" not in self._unread:
            self._receive()
        head, _, self._unread = self._unread.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        status = int(lines[0].split(b" ", 2)[1])
        size = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
        if size is None:
            if status != 304:
                raise OSError(f"an answer without a length: {head!r}")
            size = 0
        while len(self._unread) < size:
            self._receive()
        body, self._unread = self._unread[:size], self._unread[size:]
        return Answer(status, body)

    def _receive(self) -> None:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._unread += data


class HTTPSender:
    """Sends over a few connections at once; requests of one user stay in order only across calls."""

    def __init__(self, url: str, connections: int = 4) -> None:
        self._url = url
        self._connections = connections

    def send_all(self, requests: Sequence[Request]) -> list[Answer]:
        size = -(-len(requests) // self._connections)
        parts = [requests[at : at + size] for at in range(0, len(requests), size)] if requests else []
        with ThreadPoolExecutor(self._connections) as pool:
            return [answer for answers in pool.map(self._send_part, parts) for answer in answers]

    def _send_part(self, requests: Sequence[Request]) -> list[Answer]:
        with Connection(self._url) as connection:
            return [connection.send(request) for request in requests]
