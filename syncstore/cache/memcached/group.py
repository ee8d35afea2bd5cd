"""A group of memcacheds as one process uses it: which of them is home to whom, and whether the group is the same as
before.

All of a user's keys live on one server, his home, so that they fail and come back together. Where that is depends
on the names and weights of the servers alone (`ring`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from syncstore.cache.api import Change, Provider
from syncstore.cache.memcached.records import GroupRecord, HomeRecords
from syncstore.cache.memcached.ring import Modulo, Placed, Placement, Ring
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import DRIFT, SharedState
from syncstore.clock import Clock
from syncstore.errors import Unavailable

_MOST_WORDS: Final = 2000  # characters of a description that the database keeps
_ATTEMPTS = 10


class ServerCache(Provider, Protocol):
    """A provider over one server, with what its group asks of it besides."""

    @property
    def address(self) -> object:
        """Where the server is."""

    @property
    def max_key(self) -> int:
        """Bytes of a key at most."""

    def check_expiry(self, changes: Sequence[Change]) -> None:
        """Raise ValueError for a value that has expired before it is stored."""

    def flush(self) -> None:
        """Forget everything, also what others have stored. Raises BackendUnavailable, NotSupported."""


class Member(NamedTuple):
    """One server: its way in, its state, its way in for markers, and how often it is probed, in seconds, or -1."""

    name: str
    cache: ServerCache
    marks: Provider
    state: SharedState
    retry_interval: float


class Group:
    """The members by name, and the placement of users on them by a strategy's name."""

    def __init__(self, servers: Servers, strategy: str) -> None:
        self.servers = servers
        self.members: Mapping[str, Member] = {}
        self._strategy = strategy
        self._placed: tuple[Placed, ...] = ()
        self._placement: Placement | None = None
        self._adding = threading.Lock()

    @property
    def placement(self) -> Placement:
        """Where keys are placed now. Raises ValueError while there is no member."""
        return self._placement or make_placement(self._strategy, self._placed)

    def add(self, member: Member, weight: int) -> None:
        """Add a member, or put another in the place of the one of this name. Raises ValueError.

        To add one to a group in use is for values that may be missed: who places them as before does not see those of
        who places them anew.
        """
        with self._adding:
            new = Placed(member.name, weight)
            # In its old place: the standard strategy counts in this order.
            placed = tuple(new if old.name == new.name else old for old in self._placed)
            if member.name not in self.members:
                placed = (*placed, new)
            self._placement = make_placement(self._strategy, placed)
            self._placed = placed
            self.members = {**self.members, member.name: member}

    def weight(self, name: str) -> int:
        """A member's weight."""
        return next(placed.weight for placed in self._placed if placed.name == name)

    def home(self, tag: bytes) -> Member:
        """The server that keys with this tag belong to. Costs about a microsecond."""
        return self.members[self.placement.find(tag)]

    def close(self) -> None:
        """Close the connections."""
        for member in self.members.values():
            member.cache.close()
            member.marks.close()
        self.servers.records.close()


def make_placement(strategy: str, servers: Sequence[Placed]) -> Placement:
    """The placement of a setting's name. Raises ValueError."""
    return Ring(servers) if strategy == "consistent" else Modulo(servers)


class Description(NamedTuple):
    """What two processes must agree on to tell each other of their writes.

    `store` is the identity of the store of states, `rules` names what else decides where keys are, and `servers`
    have a word each. `lease` is in seconds.
    """

    store: str
    lease: float
    rules: str
    servers: tuple[str, ...]

    def __str__(self) -> str:
        text = " ".join((self.store, f"{self.lease:g}", self.rules, *self.servers))
        if len(text) <= _MOST_WORDS:
            return text
        return f"{self.store} {self.lease:g} {hashlib.sha256(text.encode()).hexdigest()}"

    def extends(self, other: str) -> bool:
        """Whether all that differs from another one is that servers were added: then no user has come back to a server
        that was his home once, and others wrote for meanwhile."""
        before, now = other.split(" "), str(self).split(" ")
        return len(before) > 3 and before[:3] == now[:3] and set(before[3:]) < set(now[3:])


def lease_of(description: str) -> float:
    """The lease of a group, in seconds, by what it says of itself; 0 of none."""
    words = description.split(" ")
    try:
        return float(words[1])
    except (IndexError, ValueError):
        return 0.0


def take_over(records: HomeRecords, description: Description, servers: Servers) -> None:
    """Make this group the one in use, before anything is read from its servers, or written.

    What servers remember from before another group wrote is forgotten. Whoever serves as another one finds out within
    its lease, which is waited for, and then neither reads from a cache nor writes. Raises Unavailable.
    """
    mine = str(description)
    for _ in range(_ATTEMPTS):
        before = records.group()
        if before.description == mine:
            servers.join(records, before)
            return
        words = before.description.split(" ") if description.extends(before.description) else []
        known = {word.rpartition("*")[0] for word in words[3:]}  # of NAME*WEIGHT
        for state in servers:
            if state.name not in known and state.current():
                state.forget_all()
        if records.change_group(before.number, mine):
            _wait_for(before, servers.clock)
            servers.join(records, GroupRecord(before.number + 1, mine))
            return
    raise Unavailable("others change the group of cache servers all the time")


def no_group(records: HomeRecords, what: str, clock: Clock) -> None:
    """Note that no group is in use from now on, but `what` writes without one. Raises Unavailable."""
    for _ in range(_ATTEMPTS):
        before = records.group()
        if before.description in ("", what):
            return
        if records.change_group(before.number, what):
            _wait_for(before, clock)
            return
    raise Unavailable("others change the group of cache servers all the time")


def _wait_for(before: GroupRecord, clock: Clock) -> None:
    """Wait until nobody relies any more on a group that was in use."""
    clock.sleep(lease_of(before.description) * DRIFT)
