"""The bounded set of connections to one memcached, last in first out, that nothing can drain.

What counts against the bound is the connections that exist, by weak references: one that gets lost in an
interruption stops counting by itself. A child after a fork closes what it inherited, without a word, and begins anew.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable

from syncstore.cache.api import BackendUnavailable, Busy
from syncstore.cache.memcached.connection import Connection
from syncstore.cache.memcached.stream import Disconnected
from syncstore.forks import in_each_child

_MOST_OWED = 100  # replies of 30 bytes at most: far from what would fill a socket's buffer


class Connections:
    """No more than `size` connections, which `connect` makes and the pool opens when none is idle.

    `wait` is how many seconds one waits for another's connection when all are in use. Whoever takes one gives it
    back when its last exchange is complete, and discards it after any exception, be it KeyboardInterrupt.
    """

    def __init__(self, connect: Callable[[], Connection], *, size: int, wait: float) -> None:
        self._connect = connect
        self._size = size
        self._wait = wait
        self._begin()
        in_each_child(self._begin_in_child)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        # Taking from it and giving back is one step each, and so needs no lock.
        self._idle: list[Connection] = []
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._waiting = 0
        self._changed = threading.Condition(threading.Lock())

    def _begin_in_child(self) -> None:
        inherited = list(self._all)
        self._begin()
        for connection in inherited:
            connection.close()

    @property
    def connections(self) -> int:
        """How many there are now, idle or in use."""
        return len(self._all)

    def take(self) -> Connection:
        """A connection for reading. Its server may have gone since it last served: see Connection.reused.

        Raises BackendUnavailable, as all that take one do, and Busy when all are in use.
        """
        connection = self._take()
        return self._settled(connection) if connection.owed else connection

    def take_live(self) -> Connection:
        """A connection whose server was there a moment ago: for what cannot be sent twice."""
        connection = self._take()
        if connection.owed:
            connection = self._settled(connection)
        return self.take_new_instead(connection) if connection.readable() else connection

    def take_to_tell(self) -> Connection:
        """A connection for what is sent without waiting: replies may still be owed."""
        connection = self._take()
        if connection.readable():
            if connection.owed:
                connection = self._settled(connection)
            if connection.readable():
                return self.take_new_instead(connection)
        elif connection.owed >= _MOST_OWED:
            self.discard(connection)
            return self._take_new()
        return connection

    def take_new_instead(self, lost: Connection) -> Connection:
        """A new connection in place of one whose server has gone, with which all idle ones are as lost."""
        self.discard(lost)
        self._close_idle()
        return self._take_new()

    def give_back(self, connection: Connection) -> None:
        """Others may use it again."""
        connection.reused = True
        if self._closed:
            self.discard(connection)
            return
        self._idle.append(connection)
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def discard(self, connection: Connection) -> None:
        """Nobody can use it again."""
        connection.close()
        with self._changed:
            self._all.discard(connection)
            self._changed.notify()

    def close(self) -> None:
        """Close all connections, those in use when they are given back.

        Replies that are owed are awaited, for one deadline at most: a socket that is closed before they are read is
        reset, and the server then throws away what it has not read yet.
        """
        self._closed = True
        answers = True
        while connection := self._pop_idle(-1):
            try:
                if answers and connection.owed:
                    connection.settle()
            except BackendUnavailable:
                answers = False
            finally:
                self.discard(connection)

    def _take(self) -> Connection:
        if self._pid != os.getpid():  # forked by something that does not tell Python
            self._begin_in_child()
        return self._pop_idle(-1) or self._open(self._await_room())

    def _pop_idle(self, place: int) -> Connection | None:
        try:
            return self._idle.pop(place)
        except IndexError:
            return None

    def _take_new(self) -> Connection:
        return self._open(self._await_room(new=True))

    def _await_room(self, *, new: bool = False) -> Connection:
        """An idle connection unless it shall be a `new` one, or one that is not open yet."""
        until = time.monotonic() + self._wait
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    if not new and (idle := self._pop_idle(-1)):
                        return idle
                    if len(self._all) >= self._size and (oldest := self._pop_idle(0)):
                        oldest.close()
                        self._all.discard(oldest)
                        del oldest
                    if len(self._all) < self._size:
                        connection = self._connect()
                        self._all.add(connection)
                        return connection
                    left = until - time.monotonic()
                    if left <= 0:
                        raise Busy(f"all {self._size} connections to memcached are in use")
                    self._changed.wait(left)
            finally:
                self._waiting -= 1

    def _open(self, connection: Connection) -> Connection:
        if not connection.reused:
            try:
                connection.open()
            except BaseException:
                self.discard(connection)
                raise
        return connection

    def _settled(self, connection: Connection) -> Connection:
        try:
            connection.settle()
        except Disconnected:
            return self.take_new_instead(connection)
        except BaseException:
            self.discard(connection)
            raise
        return connection

    def _close_idle(self) -> None:
        while connection := self._pop_idle(-1):
            self.discard(connection)
