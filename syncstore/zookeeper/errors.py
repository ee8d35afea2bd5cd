"""What can go wrong with ZooKeeper, in types of our own: nobody outside this package knows the client library's.

Two kinds: it cannot be asked (Unavailable, 503), and it was asked and said no (Refused).
"""

from __future__ import annotations

from syncstore.errors import Unavailable


class ZKUnavailable(Unavailable):
    """The cluster cannot be asked now, or did not answer in time.

    `maybe_done` says that a change was sent and not answered: it may have been made, and may yet be made.
    """

    def __init__(self, cluster: str, reason: str, *, maybe_done: bool = False) -> None:
        super().__init__(f"the ZooKeeper cluster {cluster}: {reason}")
        self.cluster = cluster
        self.maybe_done = maybe_done


class ZKTimeout(ZKUnavailable):
    """There was no answer before the deadline."""


class SessionEnded(ZKUnavailable):
    """The session that a handle, a node or a watch belonged to is over: expired, replaced, closed or forked away."""


class ZKBusy(ZKUnavailable):
    """Who does not want to wait would have to: the cluster's client is being made or replaced."""


class UnknownCluster(KeyError):
    """The settings name no such cluster: a fault of the caller."""

    def __init__(self, cluster: str) -> None:
        super().__init__(cluster)
        self.cluster = cluster

    def __str__(self) -> str:
        return f"the settings have no ZooKeeper cluster {self.cluster!r}"


class Refused(Exception):
    """ZooKeeper answered and did not do it, or was not asked since it would not have. Nothing was changed.

    `operation` is its place in the transaction, from 0, or None outside of one.
    """

    def __init__(self, path: str, reason: str, operation: int | None = None) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.operation = operation


class NoNode(Refused):
    """The node, or for a create its parent, does not exist."""


class NodeExists(Refused):
    """The node to create exists already."""


class BadVersion(Refused):
    """The node has another version than the caller knows."""


class NotEmpty(Refused):
    """The node to delete has children."""


class Forbidden(Refused):
    """The node's access list does not let us."""


class BadArguments(Refused):
    """The path or the request is malformed: a fault of the caller."""


class RequestTooLarge(Refused):
    """The request would be larger than servers read: they would drop the connection, and say nothing."""

    def __init__(self, path: str, size: int, limit: int) -> None:
        super().__init__(path, f"a request of {size} bytes exceeds {limit}")
        self.size = size
        self.limit = limit


class WatchTimeout(TimeoutError):
    """The watch did not fire while one waited."""


class WatchClosed(ZKUnavailable):
    """The watch was destroyed, or its cluster closed, or the process forked: it will not fire any more."""
