"""What memcached answers to meta commands, read strictly: what is not exactly as it must be is no answer.

pymemcache has no reader for `mg ... v`: its raw_command looks for the end mark inside the data. Here nothing is
searched for in data: a value's length comes first, and its end has to be where that says.
The protocol is memcached's doc/protocol.txt, "Meta Commands"; error lines are as 1.6.18 writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from syncstore.cache.api import BackendUnavailable

# The flags come in the order of the request, `v c f`; W, X and Z are the server's own.
_VALUE: Final = re.compile(rb"(?:EN|VA (\d{1,10}) c(\d{1,20}) f(\d{1,10})(?: [WXZ])*)\r\n").match
_OUTCOME: Final = re.compile(rb"(HD|NS|EX|NF|SERVER_ERROR [ -~]*)(?: c(\d{1,20}))?\r\n").match
_STAT: Final = re.compile(rb"(?:END|STAT ([!-~]+)(?: ([ -~]*))?)\r\n").match
_DONE: Final = re.compile(rb"OK\r\n").match
_MAX_LINE = 1024

TOO_LARGE: Final = b"SERVER_ERROR object too large for cache"
FULL: Final = b"SERVER_ERROR out of memory storing object"
_OUTCOMES: Final = frozenset({b"HD", b"NS", b"EX", b"NF", TOO_LARGE, FULL})

# A line begins with one of these; what else there is may be a user's, and is not for a log.
_WORD: Final = re.compile(
    rb"(HD|NS|EX|NF|EN|VA|MN|ME|END|STAT|RESET|OK|VALUE|STORED|ERROR|CLIENT_ERROR|SERVER_ERROR)[ \r]"
).match

Stored = tuple[bytes, int, int, int, int]
"""A value is `data[start:stop]`: data, start, stop, the server's number for it, and its client flags."""

_Match = Callable[[bytes, int], re.Match[bytes] | None]


class OutOfStep(BackendUnavailable):
    """The server says what no memcached says here. The connection is worth nothing any more."""


class Replies:
    """Takes replies apart, one after the other, asking `receive` for more bytes where one is not complete.

    `receive` returns at least one byte or raises BackendUnavailable. `begin` comes before the replies to a request
    and `end` after them. `max_value` bounds what is read into memory for one reply, in bytes.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self.max_value = 0
        self._receive = receive
        self._data = b""
        self._at = 0

    def begin(self) -> None:
        """Wait for the first bytes."""
        self._data = self._receive()
        self._at = 0

    def end(self) -> None:
        """Nothing may be left over: it would be taken for the answer to the next request. Raises OutOfStep."""
        data, self._data = self._data, b""
        if self._at != len(data):
            raise OutOfStep(f"memcached says more than it was asked: {_told(data[self._at :])}")

    def value(self) -> Stored | None:
        """The reply to `mg <key> v c f`; None for a miss."""
        match = _VALUE(self._data, self._at) or self._await_line(_VALUE)
        size, number, flags = match.groups()
        start = match.end()
        if size is None:
            self._at = start
            return None
        stop = start + int(size)
        data = self._data
        if len(data) < stop + 2:
            data = self._await_value(start, stop)
            start, stop = 0, stop - start
        if data[stop : stop + 2] != b"\r\n":
            raise OutOfStep("a value of memcached does not end where it should")
        self._at = stop + 2
        return data, start, stop, int(number), int(flags)

    def outcome(self) -> tuple[bytes, int]:
        """The reply to an `ms <key> <size> c` or `md <key>`: HD, NS, EX, NF, TOO_LARGE or FULL, and the server's number
        for a stored value."""
        match = _OUTCOME(self._data, self._at) or self._await_line(_OUTCOME)
        code, number = match.groups()
        if code not in _OUTCOMES:
            raise self._no_reply()
        self._at = match.end()
        return code, int(number or 0)

    def done(self) -> None:
        """The reply to a `flush_all`: OK."""
        match = _DONE(self._data, self._at) or self._await_line(_DONE)
        self._at = match.end()

    def stats(self) -> dict[str, str]:
        """The reply to a `stats`."""
        found: dict[str, str] = {}
        while True:
            match = _STAT(self._data, self._at) or self._await_line(_STAT)
            self._at = match.end()
            name, value = match.groups()
            if name is None:
                return found
            found[name.decode()] = (value or b"").decode()

    def _await_line(self, matching: _Match) -> re.Match[bytes]:
        """Receive until the line is complete."""
        while b"\n" not in self._data[self._at : self._at + _MAX_LINE]:
            if len(self._data) - self._at >= _MAX_LINE:
                break
            self._data = self._data[self._at :] + self._receive()
            self._at = 0
        match = matching(self._data, self._at)
        if match is None:
            raise self._no_reply()
        return match

    def _no_reply(self) -> OutOfStep:
        return OutOfStep(f"memcached says what is no reply: {_told(self._data[self._at :])}")

    def _await_value(self, start: int, stop: int) -> bytes:
        """Receive until the value and its end mark are there; they begin what is returned."""
        size = stop - start
        if size > self.max_value:
            raise OutOfStep(f"memcached says it has a value of {size} bytes")
        parts = [self._data[start:]]
        missing = size + 2 - len(parts[0])
        while missing > 0:
            parts.append(self._receive())
            missing -= len(parts[-1])
        self._data = b"".join(parts)
        return self._data


def _told(data: bytes) -> str:
    word = _WORD(data)
    return f"{len(data)} bytes" + (f" that begin with {word[1].decode()}" if word else "")
