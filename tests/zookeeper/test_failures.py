"""An exception is sorted by what it means, and only those of the session mark a cluster failed."""

from __future__ import annotations

import pytest
from kazoo import exceptions as kazoo
from kazoo.handlers.threading import KazooTimeoutError

from syncstore.errors import Unavailable
from syncstore.zookeeper import errors
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.connection import State
from syncstore.zookeeper.failures import Failure, sort


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (kazoo.ConnectionLoss(), Failure.LOST),
        (kazoo.ConnectionClosedError(), Failure.LOST),
        (kazoo.SessionMovedError(), Failure.LOST),
        (KazooTimeoutError(), Failure.LOST),
        (errors.ZKTimeout("main", "x"), Failure.LOST),
        (kazoo.SessionExpiredError(), Failure.EXPIRED),
        (errors.SessionEnded("main", "x"), Failure.EXPIRED),
        (kazoo.AuthFailedError(), Failure.AUTH),
        (kazoo.NoAuthError(), Failure.AUTH),
        (kazoo.NoNodeError(), Failure.NO_NODE),
        (errors.NoNode("/a", "x"), Failure.NO_NODE),
        (kazoo.NodeExistsError(), Failure.EXISTS),
        (kazoo.BadVersionError(), Failure.BAD_VERSION),
        (kazoo.BadArgumentsError(), Failure.BAD_ARGS),
        (errors.RequestTooLarge("/a", 2, 1), Failure.TOO_LARGE),
        (kazoo.NotEmptyError(), Failure.OTHER),
        (ValueError(), Failure.OTHER),
    ],
)
def test_it_sorts(error: Exception, failure: Failure) -> None:
    assert sort(error) is failure


def test_no_answer_of_zookeeper_marks_the_cluster_failed(clusters: Clusters) -> None:
    with clusters.acquire("main") as zk:
        with pytest.raises(errors.NoNode) as caught:
            zk.get("/nothing")
        assert zk.error(caught.value, "reading") is Failure.NO_NODE
        assert zk.error(kazoo.ConnectionLoss(), "reading") is Failure.LOST
        assert zk.state is State.CONNECTED
        assert zk.generation == 1
    with clusters.acquire("main") as zk:
        assert zk.generation == 1


def test_what_cannot_be_asked_is_answered_with_503() -> None:
    for kind in (
        errors.ZKUnavailable,
        errors.ZKTimeout,
        errors.SessionEnded,
        errors.ZKBusy,
        errors.WatchClosed,
    ):
        assert issubclass(kind, Unavailable)


def test_an_unknown_cluster_is_a_key_error_that_can_be_read() -> None:
    with pytest.raises(KeyError, match="no ZooKeeper cluster 'other'"):
        Clusters([]).acquire("other")
    assert not Clusters([]).lookup("other")
