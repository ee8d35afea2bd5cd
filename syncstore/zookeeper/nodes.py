"""What one says about nodes: their facts, the steps of a transaction, and what a path may be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from syncstore.zookeeper.errors import BadArguments

ANY_VERSION = -1

# What servers refuse, or the client would quietly change: no control characters or surrogates, no empty step, no
# . or .. as a step, no slash at the end. One step may hold anything else.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]|//|(?:/\.{1,2}(?=/|\Z))")

_LONGEST_PATH = 32_768  # ours: a request that is too large ends the connection


class Stat(NamedTuple):
    """A node's facts. The `zxid`s are the cluster's counter of changes: when it was created, last set, and when a
    child was last made or removed. `owner` is the session of an ephemeral node, else 0; `length` is in bytes. `ctime`
    is when it was created by the leader's clock, in milliseconds since the epoch.
    """

    czxid: int
    mzxid: int
    pzxid: int
    version: int
    owner: int
    length: int
    children: int
    ctime: int = 0


class Node(NamedTuple):
    """A node's value and facts."""

    value: bytes
    stat: Stat


class Created(NamedTuple):
    """A node that was just created. `path` ends with its number if it is one of a sequence."""

    path: str
    stat: Stat


@dataclass(frozen=True)
class Check:
    """In a transaction: the node must have this version."""

    path: str
    version: int


@dataclass(frozen=True)
class Create:
    """In a transaction: create a lasting node."""

    path: str
    value: bytes = b""


@dataclass(frozen=True)
class Set:
    """In a transaction: give the node another value."""

    path: str
    value: bytes
    version: int = ANY_VERSION


@dataclass(frozen=True)
class Delete:
    """In a transaction: remove the node."""

    path: str
    version: int = ANY_VERSION


Step = Check | Create | Set | Delete


@dataclass(frozen=True)
class Get:
    """Of several questions: a node's value and facts."""

    path: str


@dataclass(frozen=True)
class Look:
    """Of several questions: a node's facts."""

    path: str


@dataclass(frozen=True)
class List:
    """Of several questions: the names of a node's children, in no order."""

    path: str


Question = Get | Look | List


def stat_of(stat: Any) -> Stat:
    """From kazoo's."""
    return Stat(
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.version,
        stat.ephemeralOwner,
        stat.dataLength,
        stat.numChildren,
        stat.ctime,
    )


def check_path(path: str, *, sequence: bool = False) -> None:
    """Refuse what ZooKeeper would refuse, or kazoo change. Raises BadArguments.

    A node of a `sequence` needs a name, too, which its number is added to.
    """
    if path == "/" and not sequence:
        return
    if len(path) > _LONGEST_PATH:
        raise BadArguments(f"{path[:80]}...", f"a path of more than {_LONGEST_PATH} characters")
    if not path.startswith("/") or path.endswith("/") or _FORBIDDEN.search(path):
        raise BadArguments(
            path, "not a path: /step/step, without empty steps, dots alone or control characters"
        )


def parent_of(path: str) -> str:
    """The path of a node's parent."""
    return path.rpartition("/")[0] or "/"


def join(parent: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def below(chroot: str, path: str) -> str:
    """The path as the servers have it, of one that is given below a chroot, which may be empty."""
    return (chroot or "/") if path == "/" else chroot + path
