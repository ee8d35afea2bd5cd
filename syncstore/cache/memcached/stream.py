"""Bytes to and from a memcached within one deadline. pymemcache's Client opens and closes the socket.

The deadline is for a whole exchange, so a server that sends a byte now and then does not extend it. It is counted
on the machine's monotonic clock: it is the kernel who waits.
"""

from __future__ import annotations

import select
import socket
import time

from pymemcache.client.base import Client  # type: ignore[import-untyped]  # pymemcache ships no types

from syncstore.cache.api import BackendUnavailable
from syncstore.cache.memcached.address import Address

_RECEIVE_BYTES = 65_536


class Disconnected(BackendUnavailable):
    """The server closed the connection, or it broke."""


class _Dialling(Client):  # type: ignore[misc]  # it has no types to check against
    """pymemcache's Client, which as it is connects no sooner than it sends a command, and only to the first of the
    addresses of a host."""

    server: tuple[str, int] | str

    def dial(self, until: float) -> socket.socket:
        """Connect to the first address that accepts. `until` is on the monotonic clock. Raises OSError."""
        if isinstance(self.server, tuple):
            self._dial_each(*self.server, until)
        else:
            self._connect()
        sock: socket.socket = self.sock
        return sock

    def _dial_each(self, host: str, port: int, until: float) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, (*_, place) in enumerate(found, 1):
            self.server = (str(place[0]), int(place[1]))
            self.connect_timeout = max(0.001, until - time.monotonic())
            try:
                self._connect()
            except OSError:
                if number == len(found) or time.monotonic() >= until:
                    raise
            else:
                return


class Stream:
    """An open connection, of bytes. Making one connects, and raises BackendUnavailable when that fails.

    `connect_timeout` and `timeout` are in seconds, from a millisecond on; `timeout` is for a whole exchange. What the
    system takes to look up the name of a host is not in them: nothing in Python can bound that.
    """

    def __init__(self, address: Address, *, connect_timeout: float, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._client = _Dialling(
            address.path or (address.host, address.port),
            connect_timeout=connect_timeout,
            timeout=None,
            no_delay=True,
            default_noreply=False,
        )
        try:
            sock = self._client.dial(time.monotonic() + connect_timeout)
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one: `a..b`
            raise BackendUnavailable(f"no connection to memcached at {address}: {error}") from error
        # Not the socket's own timeouts, nor the kernel's: each call would count from zero, and after a signal again.
        sock.setblocking(False)
        self._send, self._recv = sock.send, sock.recv
        incoming, outgoing = select.poll(), select.poll()
        incoming.register(sock, select.POLLIN)
        outgoing.register(sock, select.POLLOUT)
        self._incoming, self._outgoing = incoming.poll, outgoing.poll
        self.begin()

    def begin(self) -> None:
        """The time for an exchange begins now."""
        self._deadline = time.monotonic() + self._timeout

    def transmit(self, data: bytes) -> None:
        """Begin an exchange and send all of `data`. Raises BackendUnavailable."""
        self.begin()
        try:
            sent = self._send(data)
            if sent != len(data):
                self._transmit_rest(memoryview(data)[sent:])
        except BlockingIOError:  # only ever for the first byte, when there is much that nobody has read
            self._transmit_rest(memoryview(data))
        except OSError as error:
            raise self._broken(error) from error

    def receive(self) -> bytes:
        """The next bytes, at least one. Raises BackendUnavailable."""
        left = self._deadline - time.monotonic()
        if left <= 0 or not self._incoming(left * 1000):
            raise self._late()
        try:
            data = self._recv(_RECEIVE_BYTES)
        except OSError as error:
            raise self._broken(error) from error
        if not data:
            raise Disconnected(f"memcached at {self._address} has closed the connection")
        return data

    def readable(self) -> bool:
        """Whether there is something to read now, if only the end."""
        return bool(self._incoming(0))

    def close(self) -> None:
        """Close the socket, and say nothing to the server: after a fork it is still the parent's."""
        self._client.close()

    def _transmit_rest(self, rest: memoryview) -> None:
        while rest:
            left = self._deadline - time.monotonic()
            if left <= 0 or not self._outgoing(left * 1000):
                raise self._late()
            try:
                rest = rest[self._send(rest) :]
            except OSError as error:
                raise self._broken(error) from error

    def _broken(self, error: OSError) -> Disconnected:
        return Disconnected(f"memcached at {self._address}: {error}")

    def _late(self) -> BackendUnavailable:
        return BackendUnavailable(f"memcached at {self._address} did not answer within {self._timeout} s")

    def __del__(self) -> None:
        # One that an interruption took from its user between two lines is closed here.
        self.close()
