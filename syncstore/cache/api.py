"""What a small-object cache is: the contract that every provider keeps, whatever stands behind it.

Keys and values are bytes. A stored value may vanish at any moment where `features.evicts` says so; it never
changes by itself. Two rules hold everywhere: that a key is missing is no fault (`NotFound` is not a
`BackendError`), and a fault is never told as a miss. After `BackendUnavailable` it is not known whether a change
took place, and it may still take place later.

A token stands for one state of one key. It is worth nothing once the cache has lost its memory: a provider whose
numbers begin anew after a restart binds them to the incarnation of the server that gave them, and refuses
(`Conflict`) what was given by another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

# -- values


class Token(NamedTuple):
    """One state of one key: the server's number for it, and the incarnation of the server that gave it."""

    incarnation: object
    number: int


class Absent:
    """In place of a token: the key must not exist."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()
Expect = Token | Absent | None


class Item(NamedTuple):
    """A stored value. `expires` is in seconds since the epoch, 0 for none.

    An empty value with a token is what `fetch` puts into the place of a missing one: nothing but a reservation, and
    how long that lives is not told.
    """

    value: bytes
    token: Token
    expires: float = 0.0


class Store(NamedTuple):
    """To store a value. `expires` is in seconds since the epoch, 0 to keep it; `expect` as in `Provider.store`."""

    key: bytes
    value: bytes
    expires: float = 0.0
    expect: Expect = None


class Remove(NamedTuple):
    """To remove a key, with `expect` only if it is still in that state."""

    key: bytes
    expect: Token | None = None


Change = Store | Remove


class Features(NamedTuple):
    """What a provider can do. A configuration that needs more is refused at start.

    `cas`: `expect` is honoured. `shared`: all processes of a host see the same values; `shared_hosts`: all hosts.
    `persistent`: values outlive a restart. `evicts`: values may vanish before they expire. `iterable`: `iterate`
    works.
    """

    cas: bool
    shared: bool
    shared_hosts: bool
    persistent: bool
    evicts: bool
    iterable: bool


class Limits(NamedTuple):
    """Sizes in bytes, times in seconds; None is unlimited.

    `ttl_step` is how exactly values expire inside. They are never handed out late, but for that long one that has
    expired may still be in the way of a store that expects ABSENT, and be found by a removal.
    """

    max_key: int
    max_value: int
    min_key: int = 1
    ttl_step: float = 0.0
    max_ttl: float | None = None
    max_items: int | None = None


def check_expiry(changes: Sequence[Change], now: float) -> None:
    """Raise ValueError for a value that would have expired before it is stored, as every change of a provider does."""
    for change in changes:
        if isinstance(change, Store) and change.expires and not change.expires > now:
            raise ValueError(f"a value that expired {now - change.expires} s ago")


# -- errors


class NotFound(LookupError):
    """The key is not there, or has expired. Never a fault."""


class BackendError(Exception):
    """The root of what can go wrong with a provider."""


class BackendUnavailable(BackendError):
    """The cache could not be asked, or did not answer in time: whether a change took place is not known."""


class Busy(BackendUnavailable):
    """This process uses all the connections that it may have. Nothing was sent, and nothing is known against the
    server."""


class StorageFull(BackendError):
    """There is no room and nothing may be evicted. Nothing was stored; where a provider evicts, what was there may be
    gone, whatever was expected (memcached with -M takes it away)."""


class TooLarge(BackendError):
    """The value is larger than the provider's limit, both in bytes. Nothing was changed."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a value of {size} bytes exceeds the limit of {limit}")
        self.size = size
        self.limit = limit


class BadKey(BackendError):
    """The key is empty or longer than `limit` bytes. Nothing was changed."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a key of {size} bytes is not between 1 and {limit}")
        self.size = size
        self.limit = limit


class Conflict(BackendError):
    """The key is not in the expected state. Nothing was changed."""


class NotSupported(BackendError):
    """The provider cannot do this (see Features)."""


# -- the contract

Outcome = Token | None | NotFound | BackendError
"""What became of one change of several: the new state's token, None for a removal, or what refused it."""


class Provider(Protocol):
    """A small-object cache. Safe to use from several threads, and in the child after a fork.

    Making one opens no connection. Every call ends within the provider's deadlines. An `expires` that is not in
    the future raises ValueError.
    """

    @property
    def name(self) -> str:
        """The provider's name in settings."""

    @property
    def features(self) -> Features:
        """What it can do."""

    @property
    def limits(self) -> Limits:
        """What fits into it. May ask the server, once; raises BackendUnavailable when that is away."""

    def retrieve(self, key: bytes) -> Item:
        """The value of a key. Raises NotFound, BackendError."""

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        """Store a value; the token of the new state.

        With a token only over that state, with ABSENT only where nothing is, else whatever is there. Raises
        Conflict when the key is in another state, TooLarge, BadKey, StorageFull, BackendUnavailable.
        """

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove a key. Raises NotFound when it was not there, Conflict when it is not in the expected state."""

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys, read in this order in one round trip; None for a missing one.

        With `reserve`, in seconds, a missing key is filled with an empty placeholder of that life, and its item
        is handed out: so the caller has a token over which to store what it is about to look up. Of several who
        miss at once all get the same placeholder.
        """

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes in this order in one round trip; one that is refused does not stop the next.

        Each is atomic, all together are not. Raises BackendUnavailable when any outcome is not known.
        """

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same without waiting for the outcomes, which nobody will learn. Raises nothing of the backend's."""

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items, in no order. Raises NotSupported."""

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """Drop up to `limit` expired items; how many. A provider that does so by itself answers 0."""

    def status(self) -> Mapping[str, int | float | str]:
        """Facts for an operator, such as counters and sizes."""

    def close(self) -> None:
        """Give back connections and memory."""
