"""The locks that are queues in ZooKeeper: the backend `lock.backend = zookeeper`.

Who wants a lock makes an ephemeral node at the end of the lock's queue (`syncstore.locks.zookeeper_queue`) and waits
for the one before it: first come, first served, nobody asks again and again, and ZooKeeper removes the nodes of a
process that died with its session. An undisturbed lock costs three round trips: the directory, the node, and both
removed together.

What such a lock cannot promise: a process that hangs for longer than its session, or is cut off, has lost it, and
learns of that at release or never. The store is right all the same (`syncstore.locks.api`). A thread that hangs in a
process that lives keeps its lock.

A node whose making was not answered is not looked for and used: the cluster's reaper removes it, and the call asks
again under another name, to which the first one is not in the way. A node is used by the call alone that was told
its name.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Final
from uuid import uuid4

from syncstore.errors import LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import Key, Mode
from syncstore.locks.zookeeper_queue import FIRST, directory_of, nearest_before, number_of, prefix_of
from syncstore.locks.zookeeper_sweep import remove_empty, sweep
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.connection import State
from syncstore.zookeeper.errors import NoNode, NotEmpty, Refused, WatchClosed, WatchTimeout, ZKUnavailable
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.nodes import Delete, join
from syncstore.zookeeper.watch import Watch

GRACE: Final = 0.15
"""Seconds beyond a caller's timeout that ZooKeeper has for its answers: what is left of them when all the time was
spent on waiting for others, and all that there are when the timeout is 0."""

_RELEASE_SECONDS = 1.0
_LOOK_SECONDS = 0.5  # while waiting: whether the session is still there
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2  # after a failure

log = logging.getLogger(__name__)


class ZooKeeperLocks:
    """Locks in one cluster, for all processes that name it. `close` ends what was opened for them.

    `grace` is in seconds; see GRACE.
    """

    name = "zookeeper"

    def __init__(
        self, cluster: Cluster, close: Callable[[], None] = lambda: None, *, grace: float = GRACE
    ) -> None:
        self.cluster = cluster
        self.grace = grace
        self._close = close

    def acquire(self, key: Key, mode: Mode, timeout: float) -> ZooKeeperGrant:
        """Take the lock (see LockBackend); ends within `timeout` and `grace`."""
        return _Request(self, key, mode, timeout).grant()

    def close(self) -> None:
        """End the session, and with it all locks of this process."""
        self._close()

    def sweep(self) -> Iterator[int]:
        """Remove empty directories, a folder of them at a step (see LockBackend)."""
        return sweep(self.cluster)


class ZooKeeperGrant:
    """One held lock. `token` is the cluster's number of the change that made its node: it grows with every grant."""

    __slots__ = ("_alone", "_generation", "_locks", "_pid", "_place", "_session", "_subject", "token")

    def __init__(self, locks: ZooKeeperLocks, place: _Place, subject: str, *, alone: bool) -> None:
        self._locks = locks
        self._place = place
        self._subject = subject
        self._alone = alone
        self._generation = place.generation
        self._session = place.session
        self._pid = os.getpid()
        self.token = place.czxid

    def valid(self) -> bool:
        """Whether the session still lives as far as can be told here.

        A server that has the connection answers pings by itself, also when it is cut off from the others: for what
        that costs, the store decides.
        """
        connection = self._locks.cluster.connection
        return (
            connection is not None
            and connection.generation == self._generation
            and connection.state is State.CONNECTED
            and connection.session_id == self._session
            and time.monotonic() - connection.proof < connection.session_timeout * 2 / 3
            and self._pid == os.getpid()
        )

    def release(self) -> None:
        """Remove the own node, and the directory if nobody else is in it.

        Raises LockLost when the session is over, LockUnavailable when ZooKeeper does not answer.
        """
        if self._pid != os.getpid():
            raise LockLost(f"the lock on {self._subject} belongs to the process that forked this one")
        cluster = self._locks.cluster
        try:
            self._release(cluster)
        except NoNode:
            raise LockLost(f"somebody has removed the node of the lock on {self._subject}") from None
        except LockLost:
            self._place.reap(cluster)  # the servers may not know yet
            raise
        except (ZKUnavailable, Refused) as error:
            self._place.reap(cluster)
            raise LockUnavailable(str(error)) from error

    def _release(self, cluster: Cluster) -> None:
        deadline = time.monotonic() + _RELEASE_SECONDS
        with cluster.acquire(min(cluster.ensemble.op_timeout, _RELEASE_SECONDS)) as zk:
            if zk.generation != self._generation:
                raise LockLost(f"the session that held the lock on {self._subject} has ended")
            self._place.remove(zk, deadline, alone=self._alone)


class _Place:
    """One call's node in a queue."""

    def __init__(self, zk: Handle, directory: str, call: str, mode: Mode, timeout: float) -> None:
        """Make it, whose directory must exist. Raises NoNode, ZKUnavailable, Refused."""
        self.call = call
        self._prefix = prefix_of(call, mode)
        self._directory = directory
        made = zk.create(
            join(directory, self._prefix), ephemeral=True, sequence=True, unique=True, timeout=timeout
        )
        self.generation = zk.generation
        self.session = made.stat.owner
        self.czxid = made.stat.czxid
        self.number = number_of(made.path)
        self._path = made.path
        self.name = made.path.rpartition("/")[2]

    def remove(self, zk: Handle, deadline: float, *, alone: bool) -> None:
        """Remove it and, if it is empty then, its directory, until `deadline` on time.monotonic().

        Who was `alone` may hope to do both at once; otherwise the next one is not kept waiting for the second.
        Raises NoNode, ZKUnavailable.
        """
        if alone:
            try:
                zk.transaction([Delete(self._path), Delete(self._directory)], _until(deadline))
            except NotEmpty:
                """Others wait. They may all have gone when we have, and then the directory is ours to remove."""
            else:
                return
        zk.delete(self._path, timeout=_until(deadline))
        try:
            remove_empty(zk, self._directory, _until(deadline))
        except ZKUnavailable:
            log.debug("%s may stay; a sweep finds it", self._directory)

    def reap(self, cluster: Cluster) -> None:
        """Have it removed in the background, wherever it may be by now."""
        cluster.reaper.remove(self._directory, self._prefix)


class _Request:
    """One thread's asking for a lock."""

    def __init__(self, locks: ZooKeeperLocks, key: Key, mode: Mode, timeout: float) -> None:
        self._locks = locks
        self._cluster = locks.cluster
        self._directory = directory_of(key)
        self._subject = f"collection {key[1]!r} of user {key[0]}"
        self._mode = mode
        self._deadline = time.monotonic() + timeout
        self._place: _Place | None = None
        self._given_up: set[str] = set()

    def grant(self) -> ZooKeeperGrant:
        """Queue and wait until it is ours, or the time is up."""
        try:
            return self._grant()
        except BaseException:
            if self._place is not None:
                self._place.reap(self._cluster)
            raise

    def _grant(self) -> ZooKeeperGrant:
        pause = _FIRST_PAUSE
        while True:
            try:
                with self._cluster.acquire(self._patience()) as zk:
                    place = self._queue_up(zk)
                    before = self._before(zk, place)
                    if before is None:
                        return ZooKeeperGrant(self._locks, place, self._subject, alone=place.number == FIRST)
                    if self._left() <= 0:
                        self._leave(zk, place)
                        raise LockTimeout(f"others hold the lock on {self._subject}")
                    try:
                        watch = zk.watch(before, "gone", timeout=self._patience())
                    except NoNode:
                        continue  # gone before it was looked at
            except NoNode:
                self._give_up_place()  # the session or the directory went while we were at it
                if self._left() + self._locks.grace <= 0:
                    raise LockTimeout(f"others were at the lock on {self._subject}") from None
            except ZKUnavailable as error:
                if self._patience() <= pause:
                    raise LockUnavailable(error.reason) from error
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            except Refused as error:
                raise LockUnavailable(
                    f"the ZooKeeper cluster {self._cluster.ensemble.name}: {error}"
                ) from error
            else:
                pause = _FIRST_PAUSE
                try:
                    self._wait(watch, place)
                finally:
                    watch.destroy()

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _patience(self) -> float:
        return max(0.0, self._left() + self._locks.grace)

    def _queue_up(self, zk: Handle) -> _Place:
        """Our place in the queue of this session; a new one if there is none."""
        place = self._place
        if place is not None:
            if place.generation == zk.generation:
                return place
            self._give_up_place()
        zk.ensure(self._directory, self._patience())
        call = uuid4().hex
        self._given_up.add(call)  # until it is known that there is such a node
        place = self._place = _Place(zk, self._directory, call, self._mode, self._patience())
        self._given_up.remove(call)
        return place

    def _before(self, zk: Handle, place: _Place) -> str | None:
        """The path of the node that we wait for. Raises NoNode when our own has gone."""
        if place.number == FIRST:
            return None
        names = zk.children(self._directory, self._patience())
        if place.name not in names:
            raise NoNode(self._directory, "our node is not there any more")
        name = nearest_before(names, place.number, self._mode, self._given_up)
        return None if name is None else join(self._directory, name)

    def _leave(self, zk: Handle, place: _Place) -> None:
        """Go out of the queue, at once if that can be."""
        try:
            place.remove(zk, self._deadline + self._locks.grace, alone=False)
        except NoNode:
            pass
        except (ZKUnavailable, Refused):
            return  # it is reaped
        self._place = None

    def _give_up_place(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._given_up.add(place.call)
            place.reap(self._cluster)

    def _wait(self, watch: Watch, place: _Place) -> None:
        """Until the one before us has gone, our session has ended, or the time is up."""
        while (left := self._left()) > 0:
            try:
                watch.wait(min(left, _LOOK_SECONDS))
            except WatchTimeout:
                connection = self._cluster.connection
                if connection is None or connection.failed or connection.generation != place.generation:
                    return
            except WatchClosed:
                return
            else:
                return


def _until(deadline: float) -> float:
    """Seconds that are left."""
    return max(0.0, deadline - time.monotonic())
