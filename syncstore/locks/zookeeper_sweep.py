"""Taking away the empty directories of locks in ZooKeeper, which processes that died have left.

One that is empty is of no use, however young: who is about to make a node in it makes the directory again.
"""

from __future__ import annotations

from collections.abc import Iterator

from syncstore.errors import LockUnavailable
from syncstore.locks.zookeeper_queue import ROOT
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.errors import NoNode, NotEmpty, Refused, ZKUnavailable
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.nodes import join

_SECONDS = 2.0
_MOST = 200  # directories while one handle is held, which is as many round trips


def sweep(cluster: Cluster) -> Iterator[int]:
    """Remove the empty directories of a cluster's locks, a folder of them at a step: how many.

    Raises LockUnavailable.
    """
    try:
        with cluster.acquire(_SECONDS) as zk:
            folders = _children(zk, ROOT)
        for name in folders:
            yield _sweep_folder(cluster, join(ROOT, name))
    except ZKUnavailable as error:
        raise LockUnavailable(error.reason) from error
    except Refused as error:
        raise LockUnavailable(f"the ZooKeeper cluster {cluster.ensemble.name}: {error}") from error


def _sweep_folder(cluster: Cluster, folder: str) -> int:
    with cluster.acquire(_SECONDS) as zk:
        queues = _children(zk, folder)
    removed = 0
    for start in range(0, len(queues), _MOST):
        with cluster.acquire(_SECONDS) as zk:
            removed += sum(remove_empty(zk, join(folder, one)) for one in queues[start : start + _MOST])
    if removed == len(queues):
        with cluster.acquire(_SECONDS) as zk:
            remove_empty(zk, folder)
    return removed


def remove_empty(zk: Handle, path: str, timeout: float | None = None) -> bool:
    """Remove a node unless it has children; whether it is gone. Raises ZKUnavailable, Refused."""
    try:
        zk.delete(path, timeout=timeout)
    except NoNode:
        pass
    except NotEmpty:
        return False
    return True


def _children(zk: Handle, path: str) -> list[str]:
    try:
        return zk.children(path)
    except NoNode:
        return []
