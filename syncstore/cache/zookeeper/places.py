"""Which node a key has, and what stands in it.

    PATH/NAMESPACE/BB          one of 256 buckets, by the first byte of the key's SHA-256; never removed
    PATH/NAMESPACE/BB/KEY      a value; KEY is percent-encoded: letters, digits, "_", "-" and "~" stand for themselves
    PATH/NAMESPACE/culler      ephemeral: the process that removes what has expired

A value's node holds one byte for the form of what follows, 1; eight for when it expires, a double in seconds since
the epoch, 0 for never; and the value.
"""

from __future__ import annotations

import hashlib
from struct import Struct
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from syncstore.cache.api import BackendUnavailable, Item, Token
from syncstore.cache.of_several import MAX_KEY
from syncstore.zookeeper.nodes import Node, Stat, join

MAX_VALUE: Final = 1_000_000
"""Bytes. A request may have 1,047,552, and the longest names and all that goes with them need 5,000."""

BUCKETS: Final = tuple(f"{number:02x}" for number in range(256))

_HEAD = Struct(">Bd")
_FORM = 1
_LONGEST_PATH = 1_000


class Place(NamedTuple):
    """Where a key's value is: the bucket, and the node in it."""

    bucket: str
    node: str


class State(NamedTuple):
    """What stands in a node: the token is of its creation and its version."""

    token: Token
    expires: float
    value: bytes

    def live(self, now: float) -> bool:
        """Whether it has not expired."""
        return not 0 < self.expires <= now

    @property
    def item(self) -> Item:
        """As the contract has it."""
        return Item(self.value, self.token, self.expires)


class Places:
    """The nodes of one cache, below `path` in its cluster. Raises ValueError for a path that is too long."""

    def __init__(self, path: str, namespace: str) -> None:
        self.root = join(path, namespace)
        self.culler = join(self.root, "culler")
        if len(self.root) > _LONGEST_PATH:
            raise ValueError(f"a path of more than {_LONGEST_PATH} characters")

    def of(self, key: bytes) -> Place:
        """A key's place."""
        bucket = self.bucket(hashlib.sha256(key).digest()[0])
        # "." alone and ".." are no names for ZooKeeper.
        return Place(bucket, f"{bucket}/{quote(key, safe='').replace('.', '%2E')}")

    def bucket(self, number: int) -> str:
        """One of the 256."""
        return f"{self.root}/{BUCKETS[number]}"

    def key_of(self, bucket: str, name: str) -> bytes | None:
        """The key that has the child `name` of a bucket; None for a node that is not of this cache."""
        key = unquote_to_bytes(name)
        return key if 0 < len(key) <= MAX_KEY and self.of(key) == (bucket, f"{bucket}/{name}") else None


def encode(value: bytes, expires: float) -> bytes:
    """What stands in a value's node."""
    return _HEAD.pack(_FORM, expires) + value


def decode(path: str, node: Node) -> State:
    """The state of a node. Raises BackendUnavailable for what this version cannot read."""
    data = node.value
    if len(data) < _HEAD.size or data[0] != _FORM:
        raise BackendUnavailable(f"the ZooKeeper node {path} holds no value of a cache: remove it")
    (_, expires) = _HEAD.unpack_from(data)
    return State(token_of(node.stat), expires, data[_HEAD.size :])


def token_of(stat: Stat) -> Token:
    """The state that a node is in.

    `czxid` is the cluster's count of changes at its creation. Should a cluster lose its data it counts from the
    beginning, so that when it was created is in the token as well.
    """
    return Token((stat.czxid, stat.ctime), stat.version)
