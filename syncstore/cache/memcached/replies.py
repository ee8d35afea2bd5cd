"""What memcached answers to meta commands, read strictly: a reply that is not exactly as it must be ends the connection.

pymemcache has no reader for `mg ... v`: its raw_command looks for the end mark inside the data. Here nothing is
searched in data: a value's length comes first, and its end has to be where that says.
The protocol is memcached's doc/protocol.txt, "Meta Commands"; error lines as 1.6.18 writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from syncstore.cache.api import BackendUnavailable

# The flags come in the order of the request, `v c f`; W, X and Z are the server's own.
_VALUE: Final = re.compile(rb"(?:EN|VA (\d{1,10}) c(\d{1,20}) f(\d{1,10})(?: [WXZ])*)\r\n").match
_OUTCOME: Final = re.compile(rb"(HD|NS|EX|NF)(?: c(\d{1,20}))?\r\n").match
_SERVER_ERROR: Final = re.compile(rb"SERVER_ERROR [ -~]*\r\n").match
_STAT: Final = re.compile(rb"(?:END|STAT ([!-~]+) ([ -~]*))\r\n").match
_MAX_LINE = 1024

Receive = Callable[[], bytes]
"""The next bytes from the server, at least one; raises BackendUnavailable."""


class OutOfStep(BackendUnavailable):
    """The server said something that no memcached says here, or that we could only be asked by a fault of ours."""


class Stored(NamedTuple):
    """A value: `data[start:stop]`, the server's number for it and its client flags."""

    data: bytes
    start: int
    stop: int
    number: int
    flags: int


class Outcome(NamedTuple):
    """What became of a change: HD, NS, EX, NF, or TOO_LARGE or FULL; the new number with HD after a store."""

    code: bytes
    number: int


TOO_LARGE: Final = b"SERVER_ERROR object too large for cache"
FULL: Final = b"SERVER_ERROR out of memory storing object"


class Replies:
    """Takes replies apart, one after the other, asking `receive` for more bytes where one is not complete.

    `begin` must be called before each exchange and `end` after it. `max_value` bounds what is read into memory.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._data = b""
        self._at = 0
        self.max_value = 0

    def begin(self) -> None:
        """Wait for the first bytes of the answer."""
        self._data = self._receive()
        self._at = 0

    def end(self) -> None:
        """Nothing may be left over: it would be taken for the answer to the next request. Raises OutOfStep."""
        data, self._data = self._data, b""
        if self._at != len(data):
            raise OutOfStep(f"memcached says more than it was asked: {data[self._at : self._at + 80]!r}")
        self._at = 0

    def value(self) -> Stored | None:
        """The reply to one `mg ... v c f`."""
        match = _VALUE(self._data, self._at) or self._await_line(_VALUE)
        size, number, flags = match.groups()
        start = match.end()
        if size is None:
            self._at = start
            return None
        stop = start + int(size)
        if len(self._data) < stop + 2:
            start, stop = self._await_value(start, stop)
        data = self._data
        if data[stop : stop + 2] != b"\r\n":
            raise OutOfStep("a value of memcached does not end where it should")
        self._at = stop + 2
        return Stored(data, start, stop, int(number), int(flags))

    def outcome(self) -> Outcome:
        """The reply to one `ms` or `md`."""
        match = _OUTCOME(self._data, self._at)
        if match is None:
            match = self._await_line(_OUTCOME, _SERVER_ERROR)
            line = match.group()[:-2]
            if line in (TOO_LARGE, FULL):
                self._at = match.end()
                return Outcome(line, 0)
            if line.startswith(b"SERVER_ERROR"):
                raise OutOfStep(f"memcached says {line[:80]!r}")
        self._at = match.end()
        code, number = match.groups()
        return Outcome(code, int(number or 0))

    def stats(self) -> dict[str, str]:
        """The reply to one `stats`."""
        found: dict[str, str] = {}
        while True:
            match = _STAT(self._data, self._at) or self._await_line(_STAT)
            self._at = match.end()
            name, value = match.groups()
            if name is None:
                return found
            found[name.decode()] = value.decode()

    def _await_line(
        self, matches: Callable[[bytes, int], re.Match[bytes] | None], *more: Callable[[bytes, int], re.Match[bytes] | None]
    ) -> re.Match[bytes]:
        """Receive until the line is complete, and match it. Raises OutOfStep."""
        while (end := self._data.find(b"\n", self._at, self._at + _MAX_LINE)) < 0:
            if len(self._data) - self._at >= _MAX_LINE:
                break
            self._data = self._data[self._at :] + self._receive()
            self._at = 0
        for matches_line in (matches, *more):
            match = matches_line(self._data, self._at)
            if match is not None:
                return match
        line = self._data[self._at : end if end >= 0 else None]
        raise OutOfStep(f"memcached says {line[:80]!r}")

    def _await_value(self, start: int, stop: int) -> tuple[int, int]:
        """Receive until the value and its end mark are there; where it lies then."""
        size = stop - start
        if size > self.max_value:
            raise OutOfStep(f"memcached says it has a value of {size} bytes")
        parts = [self._data[start:]]
        missing = size + 2 - len(parts[0])
        while missing > 0:
            part = self._receive()
            parts.append(part)
            missing -= len(part)
        self._data = b"".join(parts)
        return 0, size
