"""One connection to a memcached, which says who it is when the connection opens.

Whoever is interrupted while an answer is on its way must throw the connection away, whatever interrupted it: the
next one to use it would get the answer of the last. So `close` is the only call that may follow an exception.
"""

from __future__ import annotations

import re
from typing import Final

from syncstore.cache.api import BackendUnavailable
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.replies import OutOfStep, Replies
from syncstore.cache.memcached.stream import Stream

_OLDEST: Final = (1, 6)  # the first whose meta commands are complete
_VERSION = re.compile(r"(\d+)\.(\d+)")

Incarnation = tuple[str, int, int]
"""A server's address, process id and the second it started: all that a memcached tells of its life."""


class Connection:
    """A connection, which `open` opens. Not safe to use from two threads at once.

    `item_size_max` is what the server stores at most, in bytes, with key and header. `owed` replies have not been
    read yet. `reused` says that it has served before: then the server may have gone since.
    """

    incarnation: Incarnation
    item_size_max: int
    _stream: Stream
    _replies: Replies

    def __init__(self, address: Address, *, connect_timeout: float, timeout: float) -> None:
        self.address = address
        self.owed = 0
        self.reused = False
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._is_open = False

    def open(self) -> None:
        """Connect, and ask the server who it is. Raises BackendUnavailable, and then it must be closed."""
        self._stream = Stream(self.address, connect_timeout=self._connect_timeout, timeout=self._timeout)
        self._is_open = True
        self._replies = Replies(self._stream.receive)
        replies = self.ask(b"stats\r\nstats settings\r\n")
        stats, settings = replies.stats(), replies.stats()
        replies.end()
        version = _VERSION.match(stats.get("version", ""))
        if version is None or (int(version[1]), int(version[2])) < _OLDEST:
            raise BackendUnavailable(f"the memcached at {self.address} is older than 1.6")
        if settings.get("cas_enabled") == "no":
            raise BackendUnavailable(f"the memcached at {self.address} was started with -C: it has no cas")
        try:
            started = int(stats["time"]) - int(stats["uptime"])
            self.incarnation = (str(self.address), int(stats["pid"]), started)
            self.item_size_max = int(settings["item_size_max"])
        except (KeyError, ValueError) as error:
            raise OutOfStep(f"what answers at {self.address} is no memcached") from error
        replies.max_value = self.item_size_max

    def ask(self, request: bytes) -> Replies:
        """Send a request and wait for its replies: all must be taken, and then `end` called.

        Raises BackendUnavailable. No reply may be owed.
        """
        self._stream.transmit(request)
        self._replies.begin()
        return self._replies

    def tell(self, request: bytes, replies: int) -> None:
        """Send changes, and owe their replies. Raises BackendUnavailable."""
        self.owed += replies
        self._stream.transmit(request)

    def settle(self) -> None:
        """Read the replies that are owed, and forget them. Raises BackendUnavailable."""
        self._stream.begin()
        self._replies.begin()
        for _ in range(self.owed):
            self._replies.outcome()
        self._replies.end()
        self.owed = 0

    def readable(self) -> bool:
        """Whether there is something to read now. When no reply is owed, that can only be the end."""
        return self._stream.readable()

    def stats(self) -> dict[str, str]:
        """The server's general statistics. Raises BackendUnavailable."""
        replies = self.ask(b"stats\r\n")
        stats = replies.stats()
        replies.end()
        return stats

    def flush(self) -> None:
        """Have the server forget everything. Raises BackendUnavailable."""
        replies = self.ask(b"flush_all\r\n")
        replies.done()
        replies.end()

    def close(self) -> None:
        """Close the socket, if there is one, and say nothing to the server."""
        if self._is_open:
            self._stream.close()
