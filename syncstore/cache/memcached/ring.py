"""Which server a key belongs to: a placement that depends on the servers' names and weights, and on nothing else.

Whether a server is alive has no part in it. Where it had, the death of one would move keys of the others, and its
return would move them back to what it remembers: measured for a modulo over the live ones, 75 of 100 keys when one
of four dies. Names, and not addresses, are what is hashed: a server may move to another address and keep its keys.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

POINTS: Final = 160
"""Points on the ring for each unit of weight: so many that equal servers get equal shares to within some percent."""

_POINTS_OF_DIGEST = 4  # an md5 has 16 bytes, a point 4


class Placed(NamedTuple):
    """A server as placement sees it. Twice the `weight` is twice the keys."""

    name: str
    weight: int = 1


class Placement(Protocol):
    """A strategy."""

    def find(self, tag: bytes) -> str:
        """The name of the server that keys with this tag belong to: their home."""

    def others(self, tag: bytes) -> Iterator[str]:
        """The names of all other servers, each once, in an order that depends on the tag: where copies are kept."""


class Ring:
    """The consistent strategy: a server that is added takes its share from each of the others, and moves no other key.

    Costs about a microsecond for each look-up.
    """

    def __init__(self, servers: Sequence[Placed]) -> None:
        check(servers)
        points = sorted(
            (point, server.name) for server in servers for point in _points(server.name, server.weight)
        )
        self._points = array("I", (point for point, _ in points))
        self._names = [name for _, name in points]
        self._end = len(points)

    def find(self, tag: bytes) -> str:
        """The server of the first point at or after the tag's (see Placement)."""
        place = bisect_left(self._points, _point(tag))
        return self._names[place if place < self._end else 0]

    def others(self, tag: bytes) -> Iterator[str]:
        """The servers that follow the home, each once, in the order of the ring: where replicas are kept."""
        start = bisect_left(self._points, _point(tag)) % self._end
        seen = {self._names[start]}
        for place in range(start + 1, start + self._end):
            name = self._names[place % self._end]
            if name not in seen:
                seen.add(name)
                yield name


class Modulo:
    """The standard strategy: the tag's number modulo the sum of all weights, in the order of the settings.

    For comparison, and for those who come from it: a server that is added moves nearly all keys.
    """

    def __init__(self, servers: Sequence[Placed]) -> None:
        check(servers)
        self._names = [server.name for server in servers for _ in range(server.weight)]

    def find(self, tag: bytes) -> str:
        """The server whose turn the tag's number is (see Placement)."""
        return self._names[_point(tag) % len(self._names)]

    def others(self, tag: bytes) -> Iterator[str]:
        """The servers that follow the home in the settings, each once."""
        start = _point(tag) % len(self._names)
        seen = {self._names[start]}
        for place in range(start + 1, start + len(self._names)):
            name = self._names[place % len(self._names)]
            if name not in seen:
                seen.add(name)
                yield name


def check(servers: Sequence[Placed]) -> None:
    """Raise ValueError for servers that cannot be told apart, or have no share."""
    if not servers:
        raise ValueError("no server is given")
    names: set[str] = set()
    for name, weight in servers:
        if name in names:
            raise ValueError(f"two servers have the name {name!r}")
        names.add(name)
        if weight < 1:
            raise ValueError(f"the weight of {name!r} is {weight}: it must be at least 1")


def tag_of(key: bytes) -> bytes:
    """The part of a key that decides where it is placed: up to the first colon, or all of it.

    So all keys that begin with one user's number live on one server, and fail and recover together.
    """
    tag, colon, _ = key.partition(b":")
    return tag if colon and tag else key


def again(tag: bytes, attempt: int) -> bytes:
    """The tag under which a stand-in is looked for, while its server has failed: another for each attempt, from 0."""
    return b"%b-%d" % (tag, attempt)


def _points(name: str, weight: int) -> Iterator[int]:
    for number in range(weight * POINTS // _POINTS_OF_DIGEST):
        digest = _md5(f"{name}-{number}".encode())
        for start in range(0, 4 * _POINTS_OF_DIGEST, 4):
            yield int.from_bytes(digest[start : start + 4], "little")


def _point(tag: bytes) -> int:
    return int.from_bytes(_md5(tag)[:4], "little")


def _md5(text: bytes) -> bytes:
    # For an even spread, not against anybody: who chooses his key may choose his server.
    return hashlib.md5(text, usedforsecurity=False).digest()
