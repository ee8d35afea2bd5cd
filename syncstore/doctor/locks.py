"""The locks: takes one as a writer does, and gives it back."""

from __future__ import annotations

from syncstore.doctor.findings import Finding
from syncstore.doctor.signing import UID
from syncstore.errors import Conflict, SyncError
from syncstore.locks.api import Locks

_PLACES = {
    "sql": "the database",
    "memcached": "memcached, and at lock.memcached.server or memcached.servers",
    "zookeeper": "ZooKeeper, of whose servers more than half must run, and at the keys zk.* of its cluster",
}


def examine(locks: Locks) -> Finding:
    """Take and release the lock of the doctor's own user."""
    backend = locks.backend.name
    subject = f"locks in {backend}"
    in_sql = backend == "sql"
    try:
        with locks.write(UID, "doctor") as held:
            held.check()
    except Conflict:
        if in_sql:
            return Finding(subject, "somebody holds the database for long: look for a writer that hangs")
        end = "lock.ttl" if backend == "memcached" else "the session timeout of ZooKeeper"
        return Finding(subject, f"another doctor holds the lock, or one that died: try again after {end}")
    except SyncError as error:
        return Finding(subject, f"none can be taken ({error}): look at {_PLACES[backend]}")
    return Finding(subject)
