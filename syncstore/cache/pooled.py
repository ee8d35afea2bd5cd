"""The connections of one process to a service: their number bounded, each with one thread at a time, none inherited.

A fork waits until nobody is amid a call and closes what is idle, so a child has nothing that its parent uses. Where a
call does not end in time the child leaves that connection alone.
"""

from __future__ import annotations

import os
import select
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

from syncstore.cache.api import BackendUnavailable, Busy

_FORK_PATIENCE: Final = 10.0
_MAX_AGE: Final = 300.0  # seconds: what a connection was told at its beginning is not believed for longer


class Connection(Protocol):
    """One connection, made and ready."""

    def usable(self) -> bool:
        """Whether one that was idle may be used: nothing has come on it, and it has not ended."""

    def close(self) -> None:
        """End it. Raises nothing."""

    def abandon(self) -> bool:
        """See to it that nothing done to it, in this child of a fork, reaches the service. False where a child can
        have no connection beside one that it inherited."""


C = TypeVar("C", bound=Connection)


class Pool(Generic[C]):
    """Up to `size` connections, made by `connect` where none is idle, which raises BackendUnavailable.

    `where` is the service in errors.
    """

    def __init__(self, connect: Callable[[], C], *, size: int, where: str) -> None:
        self._connect = connect
        self._size = size
        self._where = where
        self._idle: list[tuple[float, C]] = []
        self._left_behind: list[C] = []
        self._barred = False
        self._begin()
        _around_forks(self)

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._used: dict[int, tuple[float, C]] = {}
        self._taken = 0
        self._forking = False

    def take(self, end: float) -> C:
        """A connection, alone. Raises Busy when none came free until `end`, in monotonic seconds; what `connect`
        raises."""
        if self._barred:
            raise BackendUnavailable(f"{self._where}: this process was forked amid a call: start it anew")
        with self._changed:
            while self._forking or self._taken >= self._size:
                left = end - time.monotonic()
                if left <= 0:
                    self._changed.notify()  # it may have been us who were told of one that is free again
                    raise Busy(f"{self._where}: all {self._size} connections of this process are in use")
                self._changed.wait(left)
            self._taken += 1
        try:
            oldest = time.monotonic() - _MAX_AGE
            while self._idle:
                try:
                    made, connection = self._idle.pop()
                except IndexError:
                    break
                if made > oldest and connection.usable():
                    self._used[id(connection)] = made, connection
                    return connection
                connection.close()
            connection = self._connect()
            self._used[id(connection)] = time.monotonic(), connection
        except BaseException:
            self._let_go()
            raise
        return connection

    def give(self, connection: C) -> None:
        """Give one back that is in order."""
        self._idle.append(self._used.pop(id(connection)))
        self._let_go()

    def discard(self, connection: C) -> None:
        """Give one back whose state is not known."""
        del self._used[id(connection)]
        connection.close()
        self._let_go()

    def _let_go(self) -> None:
        with self._changed:
            self._taken -= 1
            if self._forking:
                self._changed.notify_all()
            else:
                self._changed.notify()

    def close(self) -> None:
        """Close what is idle. Connections are made again when they are needed."""
        while self._idle:
            with suppress(IndexError):  # another thread took the last one
                self._idle.pop()[1].close()

    # -- forks

    def before_fork(self) -> None:
        """Have no connection while the process is forked: let nobody begin a call, and wait for those who have."""
        end = time.monotonic() + _FORK_PATIENCE
        with self._changed:
            while self._forking:  # by another thread, which waits for nobody who waits here
                self._changed.wait()
            self._forking = True
            while self._taken and self._changed.wait(max(0.0, end - time.monotonic())):
                pass
        self.close()

    def after_fork_in_parent(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        for _, connection in self._used.values():
            self._left_behind.append(connection)
            if not connection.abandon():
                self._barred = True
        self._begin()


def quiet(descriptor: int) -> bool:
    """Whether nothing has come on a socket, not even its end: a service says nothing unasked but that it ends."""
    poll = select.poll()
    try:
        poll.register(descriptor, select.POLLIN)
        return not poll.poll(0)
    except (OSError, ValueError):
        return False


def silence(descriptor: int) -> None:
    """Have all that is written to a socket go nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nowhere, descriptor, inheritable=False)
        os.close(nowhere)


def _around_forks(pool: Pool[C]) -> None:
    """Tell a pool of forks, for as long as it lives, which this does not prolong."""
    reference = weakref.ref(pool)

    def tell(method: Callable[[Pool[C]], None]) -> Callable[[], None]:
        def told() -> None:
            living = reference()
            if living is not None:
                method(living)

        return told

    os.register_at_fork(
        before=tell(Pool.before_fork),
        after_in_parent=tell(Pool.after_fork_in_parent),
        after_in_child=tell(Pool.after_fork_in_child),
    )
