"""The connections to a Redis, and asking several questions in one round trip.

The library makes and reads the protocol; it is not to try anything again by itself. A connection asks at its beginning
which life of the server it is in, and cannot outlive that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from redis.connection import Connection, SSLConnection
from redis.exceptions import NoScriptError, RedisError, ResponseError

from syncstore.cache.api import BackendUnavailable
from syncstore.cache.pooled import Pool, quiet, silence
from syncstore.cache.redis.address import Address
from syncstore.cache.redis.envelope import Life
from syncstore.cache.redis.scripts import ALL, Script

Command = Sequence[bytes | int | str | Script]
"""A command's words; the one of a script stands for its name."""
Reply = Any  # bytes, int, list or None, or the ResponseError that came in its place

_OLDEST: Final = (6, 2)  # which knows SET with PXAT
_SCRIPT_AT: Final = 1

T = TypeVar("T")


class Link:
    """A connection, made and ready."""

    def __init__(self, connection: Any, life: Life, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self.life = life

    def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """The replies to all, in one round trip. Raises RedisError."""
        packed = [
            [word.sha if isinstance(word, Script) else word for word in command] for command in commands
        ]
        replies = _ask(self._connection, packed, self._timeout)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            return self._ask_whole(commands, replies)
        return replies

    def _ask_whole(self, commands: Sequence[Command], replies: list[Reply]) -> list[Reply]:
        """Ask again, with the text of their scripts, those whose script somebody has removed: they were not done."""
        first = next(place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError))
        if not all(isinstance(reply, NoScriptError) for reply in replies[first:]):
            raise RedisError("the scripts were removed amid several changes")  # of which later ones are done
        whole = [
            ["EVAL", *(word.text if isinstance(word, Script) else word for word in command[_SCRIPT_AT:])]
            for command in commands[first:]
        ]
        return replies[:first] + _ask(self._connection, whole, self._timeout)

    def usable(self) -> bool:
        socket = self._connection._sock  # the library's own question costs a read that must time out
        return socket is not None and quiet(socket.fileno())

    def close(self) -> None:
        with suppress(RedisError, OSError):
            self._connection.disconnect()

    def abandon(self) -> bool:
        socket = self._connection._sock
        if socket is not None:
            silence(socket.fileno())
        return True


class Server:
    """A Redis as this process uses it. Each wait ends after `timeout` seconds."""

    def __init__(self, address: Address, *, connections: int, timeout: float) -> None:
        self.shown = str(address)
        self._address = address
        self._timeout = timeout
        self._pool = Pool(self._connect, size=connections, where=self.shown)

    def run(self, work: Callable[[Link], T], *, again: bool) -> T:
        """What `work` gives, which with `again` is called once more when its connection was lost. Raises
        BackendUnavailable, Busy."""
        end = time.monotonic() + self._timeout
        while True:
            link = self._pool.take(end)
            try:
                result = work(link)
            except RedisError as error:
                self._pool.discard(link)
                self._pool.close()  # they ended together most likely
                if not again or time.monotonic() >= end:
                    raise BackendUnavailable(f"{self.shown}: {_words(error)}") from error
                again = False
            except BaseException:
                self._pool.discard(link)
                raise
            else:
                self._pool.give(link)
                return result

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()

    def _connect(self) -> Link:
        address = self._address
        # Half of its methods have no types.
        connection: Any = (SSLConnection if address.tls else Connection)(
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.user or None,
            password=address.password or None,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            protocol=2,
        )
        try:
            connection.connect()
            asked: list[Sequence[bytes | int | str]] = [("INFO", "server")]
            asked += [("SCRIPT", "LOAD", script.text) for script in ALL]
            about, *loaded = _ask(connection, asked, self._timeout)
            for reply in (about, *loaded):
                good(reply)
            life = _life(about)
        except RedisError as error:
            connection.disconnect()
            raise BackendUnavailable(f"{self.shown}: {_words(error)}") from error
        except BaseException:
            connection.disconnect()
            raise
        return Link(connection, life, self._timeout)


def _ask(connection: Any, commands: Sequence[Sequence[bytes | int | str]], timeout: float) -> list[Reply]:
    end = time.monotonic() + timeout
    connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    replies: list[Reply] = []
    for _ in commands:
        try:
            replies.append(connection.read_response(disable_decoding=True))
        except ResponseError as error:
            replies.append(error)
        if time.monotonic() > end and len(replies) < len(commands):
            raise RedisError(f"no more answers within {timeout:g} s")
    return replies


def good(reply: Reply) -> Reply:
    """The reply, unless the server refused. Raises ResponseError."""
    if isinstance(reply, ResponseError):
        raise reply
    return reply


def _life(about: bytes) -> Life:
    """That which INFO tells of. Raises RedisError."""
    version = re.search(rb"^redis_version:(\d+)\.(\d+)", about, re.MULTILINE)
    run_id = re.search(rb"^run_id:(\w+)", about, re.MULTILINE)
    if version is None or run_id is None:
        raise RedisError("it does not tell its version and its run_id")
    if (int(version[1]), int(version[2])) < _OLDEST:
        raise RedisError(f"it is too old: {_OLDEST[0]}.{_OLDEST[1]} is needed")
    return Life.of(run_id[1])


def _words(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200] or type(error).__name__
