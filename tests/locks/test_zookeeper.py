"""The locks in a real ZooKeeper: every rule of locks, and sessions that end, connections that break, a server away."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

import pytest

from syncstore.testing.lock_conformance import LockConformance
from syncstore.testing.lock_holder import OpenLocks
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.zookeeper_locks import open_zookeeper_locks
from syncstore.testing.zookeeper_servers import ZooKeeperServer

SESSION = 2.0
PATIENT = 3.0  # seconds of grace, for a machine that does other things, too


class TestInZooKeeper(LockConformance):
    """With sessions that are long enough for a busy machine, and short enough to wait for their ends."""

    freed_after_death = freed_after_pause = SESSION + 1.0

    @pytest.fixture
    def open_locks(self, zookeeper_server: ZooKeeperServer) -> OpenLocks:
        chroot = f"/{uuid4().hex}"
        return partial(
            open_zookeeper_locks,
            zookeeper_server.hosts,
            chroot=chroot,
            session_timeout=SESSION,
            grace=PATIENT,
        )

    @pytest.fixture
    def open_unreachable_locks(self) -> OpenLocks:
        return partial(open_zookeeper_locks, f"{HOST}:{free_port()}")
