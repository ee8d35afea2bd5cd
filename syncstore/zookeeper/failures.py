"""What an exception means: whether the connection is gone, the session, or only this request came to nothing."""

from __future__ import annotations

from enum import Enum

from syncstore.zookeeper.client import KazooTimeoutError, kazoo_errors
from syncstore.zookeeper.errors import (
    BadArguments,
    BadVersion,
    Forbidden,
    NodeExists,
    NoNode,
    NotEmpty,
    Refused,
    RequestTooLarge,
    SessionEnded,
    ZKUnavailable,
)


class Failure(Enum):
    """The sorts of failure. Those above NO_NODE are of the connection, the others of one request."""

    LOST = "lost"
    EXPIRED = "expired"
    AUTH = "auth"
    NO_NODE = "no node"
    EXISTS = "exists"
    BAD_VERSION = "bad version"
    BAD_ARGS = "bad arguments"
    TOO_LARGE = "too large"
    OTHER = "other"


# The first that fits counts: ConnectionClosedError is a SessionExpiredError to kazoo.
_SORTS: tuple[tuple[type[BaseException], Failure], ...] = (
    (kazoo_errors.ConnectionClosedError, Failure.LOST),
    (kazoo_errors.SessionExpiredError, Failure.EXPIRED),
    (SessionEnded, Failure.EXPIRED),
    (ZKUnavailable, Failure.LOST),
    (kazoo_errors.ConnectionLoss, Failure.LOST),
    (kazoo_errors.SessionMovedError, Failure.LOST),
    (kazoo_errors.OperationTimeoutError, Failure.LOST),
    (kazoo_errors.RequestTimeoutError, Failure.LOST),
    (kazoo_errors.ThrottledOpError, Failure.LOST),
    (KazooTimeoutError, Failure.LOST),
    (kazoo_errors.AuthFailedError, Failure.AUTH),
    (kazoo_errors.NoAuthError, Failure.AUTH),
    (kazoo_errors.SessionClosedRequireSaslError, Failure.AUTH),
    (Forbidden, Failure.AUTH),
    (kazoo_errors.NoNodeError, Failure.NO_NODE),
    (NoNode, Failure.NO_NODE),
    (kazoo_errors.NodeExistsError, Failure.EXISTS),
    (NodeExists, Failure.EXISTS),
    (kazoo_errors.BadVersionError, Failure.BAD_VERSION),
    (BadVersion, Failure.BAD_VERSION),
    (kazoo_errors.BadArgumentsError, Failure.BAD_ARGS),
    (kazoo_errors.InvalidACLError, Failure.BAD_ARGS),
    (BadArguments, Failure.BAD_ARGS),
    (RequestTooLarge, Failure.TOO_LARGE),
)

_REFUSALS: tuple[tuple[type[BaseException], type[Refused], str], ...] = (
    (kazoo_errors.NoNodeError, NoNode, "there is no such node"),
    (kazoo_errors.NodeExistsError, NodeExists, "the node exists already"),
    (kazoo_errors.BadVersionError, BadVersion, "the node has another version"),
    (kazoo_errors.NotEmptyError, NotEmpty, "the node has children"),
    (kazoo_errors.NoAuthError, Forbidden, "the node's access list does not let us"),
    (kazoo_errors.NoChildrenForEphemeralsError, BadArguments, "an ephemeral node has no children"),
    (kazoo_errors.BadArgumentsError, BadArguments, "ZooKeeper calls the request malformed"),
    (kazoo_errors.InvalidACLError, BadArguments, "ZooKeeper does not accept the access list"),
)


def sort(error: BaseException) -> Failure:
    """What sort of failure an exception is."""
    for kind, failure in _SORTS:
        if isinstance(error, kind):
            return failure
    return Failure.OTHER


def refusal(error: BaseException, path: str, operation: int | None = None) -> Refused:
    """Our own exception for one of kazoo's that is an answer."""
    for kind, refused, words in _REFUSALS:
        if isinstance(error, kind):
            return refused(path, words, operation)
    return Refused(path, f"ZooKeeper answers {type(error).__name__}", operation)
