"""One exchange with another HTTP server under one deadline: connection, TLS, request and answer together.

A timeout of http.client is for each wait, so whoever sends a byte now and then would hold us for ever. Only the
system's resolver keeps time by itself (`/etc/resolv.conf`).
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from typing import Any

from syncstore.clock import Clock


class Deadline:
    """A moment on the monotonic clock."""

    def __init__(self, clock: Clock, moment: float) -> None:
        self._clock = clock
        self._moment = moment

    def left(self) -> float:
        """Seconds until then. Raises TimeoutError when it has passed: 0 would mean not to wait at all."""
        seconds = self._moment - self._clock.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds


class DeadlineConnection(http.client.HTTPConnection):
    """A connection whose every wait ends at one deadline. `tls` None is plain HTTP."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, deadline: Deadline) -> None:
        super().__init__(host, port)
        if tls is not None:
            self.default_port = 443  # what the Host header leaves out
        self._tls = tls
        self._deadline = deadline

    def connect(self) -> None:
        raw = self._reach()
        try:
            if self._tls is not None:
                raw.settimeout(self._deadline.left())
                raw = self._tls.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise
        self.sock: Any = _Wire(raw, self._deadline)

    def _reach(self) -> socket.socket:
        """A connection to the first address of the host that takes one."""
        last: OSError = OSError(f"{self.host} has no address")
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for untried, (family, kind, protocol, _, address) in zip(
            range(len(found), 0, -1), found, strict=True
        ):
            candidate = socket.socket(family, kind, protocol)
            try:
                # a share of the time for each, since IPv6 that leads nowhere often comes before IPv4 that works
                candidate.settimeout(self._deadline.left() / untried)
                candidate.connect(address)
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                candidate.close()
                last = error
            else:
                return candidate
        raise last


class _Wire:
    """As much of a socket as http.client uses, with the time that is left set before each wait."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        # the timeout of sendall is that of the whole call, unlike that of recv
        self._sock.settimeout(self._deadline.left())
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        self._sock.close()


class _Incoming(io.RawIOBase):
    """What a socket receives, as a file. The socket is the connection's to close."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.left())
        return self._sock.recv_into(buffer)
