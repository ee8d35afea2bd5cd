"""Stores of servers' states, as a process that a test starts opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncstore.cache.memcached.records_in_file import TIMEOUT, FileRecords
from syncstore.cache.memcached.records_in_zookeeper import ZooKeeperRecords
from syncstore.clock import SystemClock
from syncstore.storage.sql.server_records import SqlRecords
from syncstore.testing.sql_store import open_sql_store
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts


@contextmanager
def open_file_records(path: Path, *, timeout: float = TIMEOUT) -> Iterator[FileRecords]:
    """Records in a file. `timeout` is in seconds."""
    records = FileRecords(path, SystemClock(), timeout=timeout)
    try:
        yield records
    finally:
        records.close()


@contextmanager
def open_sql_records(url: str) -> Iterator[SqlRecords]:
    """Records in the database at `url`, which has all tables."""
    store = open_sql_store(url, SystemClock())
    try:
        yield store.storage.records
    finally:
        store.database.close()


@contextmanager
def open_zookeeper_records(
    hosts: str,
    *,
    path: str = "/states",
    chroot: str = "",
    session_timeout: float = 4.0,
    timeout: float = 20.0,
) -> Iterator[ZooKeeperRecords]:
    """Records in the ZooKeeper at `hosts`, HOST:PORT,HOST:PORT. Times are in seconds."""
    clusters = Clusters(
        [
            Ensemble(
                "states",
                parse_hosts(hosts),
                session_timeout=session_timeout,
                op_timeout=timeout,
                chroot=chroot,
            )
        ]
    )
    records = ZooKeeperRecords(clusters["states"], path, SystemClock(), clusters.close, timeout=timeout)
    try:
        yield records
    finally:
        records.close()
