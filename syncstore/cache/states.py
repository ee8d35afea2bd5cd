"""Whether the cache may be trusted: the state of its server, shared by all processes, and each one's view of it.

A server that could not be reached by one writer may still answer others, from what it remembers. So a writer that
cannot place its mark declares the server failed for everybody, in SQL, and whoever reads from the cache asks SQL
first, or has asked within the last `lease` seconds. The state is an epoch: even while the server may be trusted,
odd after it was declared failed. It is part of every cached value's key, so what a server remembered from before
a failure has a name that nobody asks for any more. The rules are those of server-states.md, model-checked; what
each of them prevents is said where it stands.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from syncstore.errors import Unavailable


class ServerState(Protocol):
    """What a layer asks about the server that its values live on."""

    def trusted(self) -> int | None:
        """The epoch under which values may be read and written now; None to go without the cache.

        May ask SQL, when what is known has become too old. Never raises.
        """

    def still(self, epoch: int) -> bool:
        """Whether an epoch that `trusted` gave may still be used. Asks nobody."""

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """For a writer that has locked its user's row and has no trusted epoch: the epoch to mark under, or None
        when everybody knows by now that the server failed, so that no mark is needed.

        `read_epoch` reads the epoch in the writer's transaction. Raises NotYet while others may still read from the
        server.
        """

    def trouble(self, reason: str) -> None:
        """The server did not answer: leave it alone for a moment. Others are told only after several in a row."""

    def answered(self) -> None:
        """The server did answer."""

    def troubled(self) -> bool:
        """Whether it is being left alone."""

    def declare_failed(self, epoch: int, reason: str) -> Unavailable:
        """A mark could not be placed under `epoch`: tell everybody. What to raise then.

        To be called after the writer has rolled back: it is a transaction of its own.
        """


class AlwaysUp:
    """The state of a cache that is part of the process: it cannot fail alone.

    It is of use to that process only. In a child after a fork nothing is cached: parent and children would each
    have their own idea of what is in SQL.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    def trusted(self) -> int | None:
        """Always, in the process that made it."""
        return 0 if os.getpid() == self._pid else None

    def still(self, epoch: int) -> bool:
        """Always."""
        return True

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """As `trusted`."""
        return self.trusted()

    def trouble(self, reason: str) -> None:
        """There is none."""

    def answered(self) -> None:
        """As always."""

    def troubled(self) -> bool:
        """Never, in the process that made it."""
        return os.getpid() != self._pid

    def declare_failed(self, epoch: int, reason: str) -> Unavailable:
        """A cache in the process that refuses its own: nothing to tell others."""
        return Unavailable("the cache of this process refused a mark")
