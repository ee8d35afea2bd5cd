"""What is known of the memcacheds of a group, and shared by all processes that use them: the contract of a store of it.

The state of a server is its epoch, which only grows, and only by compare-and-set. It decides what cached values are
called, so a server that was away never serves what it remembered, and nothing that was written without it is
missed. So all processes that use the same servers must share one store; that of the database is shared by
construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

MAX_NAME: Final = 255
"""Characters of a server's name at most, with what a store puts before it."""

MAX_REASON: Final = 200
"""Characters of a reason that are kept."""


class Standing(Enum):
    """What an epoch says of its server.

    A failed one may have a stand-in. A returning one has none any more, and is not used itself yet: that lies
    between, wherever stand-ins are allowed, until everybody has noticed. A held one has failed, by an operator's wish,
    and does not return by itself.
    """

    UP = "up"
    FAILED = "failed"
    HELD = "held"
    RETURNING = "returning"


class ServerRecord(NamedTuple):
    """A server's state: its epoch, 0 while nothing is known of it; since when, in milliseconds since the epoch; why;
    and who said so, as `host:pid`."""

    epoch: int = 0
    since: int = 0
    reason: str = ""
    by: str = ""


class RecordStore(Protocol):
    """A store of records. Safe to use from several threads, and in the child after a fork; opens nothing before its
    first call. Every call ends within the store's own deadlines."""

    @property
    def name(self) -> str:
        """The store's name in settings and messages."""

    def read(self, servers: Sequence[str]) -> list[ServerRecord]:
        """The records as they are now, in this order.

        Never older than a change that was confirmed to anybody before the call. Raises Unavailable.
        """

    def advance(self, server: str, seen: int, to: int, reason: str) -> bool:
        """Let the epoch, if it still is `seen`, be `to`, which is greater; whether that was done.

        `seen` is 0 for a server that is not known yet. After Unavailable it is not known whether it was.
        """

    def identity(self) -> str:
        """What tells this store from any other, as long as it lives: made at its creation, never the same again.

        Letters and digits, 32 at most. Raises Unavailable.
        """

    def close(self) -> None:
        """Give back what it holds."""


NEW: Final = "new"
"""Why a server is out of use when its state is found for the first time."""

FORGOTTEN: Final = "all that it holds was forgotten"
"""Why one is that was in use: it may return, and nobody has to say so."""

GROUP: Final = "group"
"""The name under which a writer reads the number of the group in use, in his own transaction."""


class GroupRecord(NamedTuple):
    """Which group of servers is in use: a number that grows with each change, 0 before there was any, and what the
    group says of itself."""

    number: int = 0
    description: str = ""


class HomeRecords(RecordStore, Protocol):
    """The store of records in the database of the data, which knows besides which group of servers is in use for it:
    wherever that group's records are, all who write the data come by here."""

    def group(self) -> GroupRecord:
        """The group in use, as it is now. Raises Unavailable."""

    def read_with_group(self, servers: Sequence[str]) -> tuple[list[ServerRecord], GroupRecord]:
        """The records and the group, of one moment (see RecordStore.read)."""

    def change_group(self, seen: int, description: str) -> bool:
        """Let another group be in use, if that of the number `seen` still is; its number is greater by one.

        Whether that was done. Raises Unavailable.
        """


def standing(epoch: int) -> Standing:
    """What an epoch says: by its last three bits."""
    if not epoch & 1:
        return Standing.UP
    if epoch & 2:
        return Standing.RETURNING
    return Standing.HELD if epoch & 4 else Standing.FAILED


def after_failure(epoch: int, *, held: bool = False) -> int:
    """The epoch that follows one when its server has failed, or is to be held."""
    return (epoch | 7) + (6 if held else 2)


def on_return(epoch: int) -> int:
    """The epoch of a failed server's return, for as long as others may use a stand-in."""
    return epoch | 7


def after_return(epoch: int) -> int:
    """The epoch that follows a failure's, or its return's, when the server is used again."""
    return (epoch | 7) + 1


def first_epoch(seconds: float) -> int:
    """The epoch of a server that nothing is known of, at a time in seconds since the epoch.

    It may be full of what an earlier life of the store had it remember: seconds give names that are new in any.
    """
    return 8 * int(seconds)
