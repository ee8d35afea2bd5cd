"""Locks in a real ZooKeeper, as a process that a test starts opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from syncstore.clock import SystemClock
from syncstore.locks.api import Locks
from syncstore.locks.zookeeper import GRACE, ZooKeeperLocks
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts


@contextmanager
def open_zookeeper_locks(
    hosts: str,
    *,
    chroot: str = "",
    session_timeout: float = 4.0,
    timeout: float = 5.0,
    grace: float = GRACE,
) -> Iterator[Locks]:
    """Locks in the ZooKeeper at `hosts`, HOST:PORT,HOST:PORT. Times are in seconds; `timeout` is that of the Locks."""
    clusters = Clusters(
        [Ensemble("locks", parse_hosts(hosts), session_timeout=session_timeout, chroot=chroot)]
    )
    locks = Locks(ZooKeeperLocks(clusters["locks"], clusters.close, grace=grace), SystemClock(), timeout)
    try:
        yield locks
    finally:
        locks.close()
