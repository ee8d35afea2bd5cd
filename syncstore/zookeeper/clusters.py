"""The clusters that the settings name: one client per process and cluster, made when it is first used.

    with clusters.acquire("main", timeout=2.0) as zk:
        value, stat = zk.get("/greeting")

A child after a fork closes what it inherited, without a word to the servers, and makes clients of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from syncstore.forks import in_each_child
from syncstore.zookeeper.cluster import DRAIN, Cluster, Status
from syncstore.zookeeper.ensemble import Ensemble
from syncstore.zookeeper.errors import UnknownCluster
from syncstore.zookeeper.handle import Handle


class Clusters:
    """Clusters by name. `drain` is how many seconds a failed client is kept for those who still hold it."""

    def __init__(self, ensembles: Iterable[Ensemble], *, drain: float = DRAIN) -> None:
        self._clusters = {each.name: Cluster(each, drain=drain) for each in ensembles}
        in_each_child(self._begin_in_child)

    def lookup(self, name: str) -> bool:
        """Whether there is a cluster of this name. Asks nobody."""
        return name in self._clusters

    def acquire(self, name: str, timeout: float | None = None) -> Handle:
        """A handle on a cluster, connected, for a `with` block or until its `release`, by the same thread.

        Waits `timeout` seconds, by default the cluster's op_timeout. Raises UnknownCluster, ZKUnavailable.
        """
        return self[name].acquire(timeout)

    def try_acquire(self, name: str) -> Handle:
        """The same without waiting. Raises ZKBusy while the client is made or replaced, and ZKUnavailable while
        it is not connected.
        """
        return self[name].try_acquire()

    def status(self) -> dict[str, Status]:
        """What there is to say of each. Asks nobody."""
        return {name: cluster.status() for name, cluster in self._clusters.items()}

    def close(self) -> None:
        """End all sessions, and wake all who wait for a watch."""
        for cluster in self._clusters.values():
            cluster.close()

    def __getitem__(self, name: str) -> Cluster:
        """A cluster. Raises UnknownCluster."""
        try:
            return self._clusters[name]
        except KeyError:
            raise UnknownCluster(name) from None

    def _begin_in_child(self) -> None:
        for cluster in self._clusters.values():
            cluster.drop_after_fork()
