"""Removes what a call may still create after its caller has left.

A create that was sent and not answered may have been made, or be made when a frozen server goes on. Its answer, when
it comes late, says which. When the connection breaks instead, what it made is looked for by its name: at once when
we are connected again, and for one session timeout more, since a server may still have the request in its buffers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from syncstore.zookeeper.client import Answer
from syncstore.zookeeper.errors import NoNode, Refused, ZKTimeout, ZKUnavailable
from syncstore.zookeeper.failures import Failure, sort
from syncstore.zookeeper.nodes import Stat, join, parent_of

if TYPE_CHECKING:
    from syncstore.zookeeper.handle import Handle

_MOST = 10_000
_ACQUIRE_SECONDS = 2.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Job:
    """Remove from `parent` what has this `name`, or begins with it. What `owner` or `czxid` name must be right."""

    parent: str
    name: str
    prefix: bool = False
    owner: int = 0
    czxid: int = 0
    unique: bool = False
    sure_at: float | None = None  # when it was looked for long enough
    dropped: bool = False
    busy: bool = False  # being looked for, and removed

    def wants(self, stat: Stat) -> bool:
        return self.czxid in (0, stat.czxid) and self.owner in (0, stat.owner)


class Reaper:
    """Removes nodes of one cluster, on a thread that is there while it has something to do.

    `acquire` gives a handle on the cluster within so many seconds.
    """

    def __init__(self, cluster: str, acquire: Callable[[float], Handle]) -> None:
        self._cluster = cluster
        self._acquire = acquire
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._jobs: list[_Job] = []
        self._doubts: set[_Job] = set()  # no answer so far
        self._thread: threading.Thread | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs) + len(self._doubts)

    def doubt(
        self, path: str, answer: Answer, *, sequence: bool, unique: bool, owner: int, chroot: str
    ) -> None:
        """A create that was not answered in time. `owner` is the session of an ephemeral node, else 0."""
        parent = parent_of(path)
        name = path[len(parent) :].lstrip("/")
        job = _Job(parent, name, prefix=sequence, owner=owner, unique=unique)
        with self._changed:
            self._doubts.add(job)

        def answered(late: Answer) -> None:
            with self._changed:
                self._doubts.discard(job)
                if job.dropped:
                    return
            error = late.exception
            if error is None:
                made, stat = late.value
                made = made[len(chroot) :]
                self._add(_Job(parent_of(made), made.rpartition("/")[2], czxid=stat.czxid))
            elif sort(error) is Failure.LOST or (sort(error) is Failure.EXPIRED and not owner):
                if unique or owner:
                    self._add(job)
                else:
                    log.warning("ZooKeeper cluster %s: %s may have been created", self._cluster, path)

        answer.rawlink(answered)

    def leave(self, path: str, deadline: float) -> list[_Job]:
        """Somebody is about to create the node: from here on it is theirs, and no doubtful create is looked for there.

        Waits, until the deadline at most, while one is being removed. Gives what to `resume` if it is not created.
        """
        if not (self._jobs or self._doubts):
            return []
        with self._changed:
            same = [
                job
                for job in (*self._jobs, *self._doubts)
                if not job.prefix and join(job.parent, job.name) == path
            ]
            for job in same:
                job.dropped = True
            while any(job.busy for job in same) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            free = not any(job.busy for job in same)
        if not free:
            self.resume(same)
            raise ZKTimeout(self._cluster, f"an earlier {path} is being removed")
        return same

    def resume(self, left: list[_Job]) -> None:
        """It was not created after all: go on looking for what was left alone."""
        for job in left:
            if job.owner or job.czxid or job.unique:
                self._add(replace(job, sure_at=None, dropped=False, busy=False))

    def remove(self, parent: str, prefix: str) -> None:
        """Remove all children whose names begin with `prefix`."""
        if not prefix:
            raise ValueError("an empty prefix would remove everything")
        self._add(_Job(parent, prefix, prefix=True))

    def close(self) -> None:
        """Stop. What was not removed stays; ephemeral nodes end with the session."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drop_after_fork(self) -> None:
        """In a child: the jobs are the parent's."""
        self._begin()

    def _add(self, job: _Job) -> None:
        with self._changed:
            if self._closed:
                return
            if len(self._jobs) >= _MOST:
                log.warning("ZooKeeper cluster %s: too much to remove; %s stays", self._cluster, job.name)
                return
            self._jobs.append(job)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"zookeeper-reaper-{self._cluster}", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._changed:
                if self._closed or not self._jobs:
                    self._thread = None
                    return
                jobs = list(self._jobs)
            try:
                self._pass(jobs)
            except (ZKUnavailable, Refused) as error:
                log.debug("ZooKeeper cluster %s: %s; later again", self._cluster, error)
            with self._changed:
                self._jobs = [job for job in self._jobs if not job.dropped]
                if not self._closed and self._jobs:
                    # What is new is looked for at once, and what is old more and more seldom.
                    fresh = any(job.sure_at is None for job in self._jobs)
                    pause = _FIRST_PAUSE if fresh else min(pause * 2, _LONGEST_PAUSE)
                    self._changed.wait(pause)

    def _pass(self, jobs: list[_Job]) -> None:
        with self._acquire(_ACQUIRE_SECONDS) as zk:
            zk.sync()
            for job in jobs:
                with self._changed:
                    job.busy = not job.dropped
                if not job.busy:
                    continue
                try:
                    self._remove(zk, job)
                finally:
                    with self._changed:
                        job.busy = False
                        self._changed.notify_all()
                now = time.monotonic()
                if job.sure_at is None:
                    job.sure_at = now if job.czxid else now + zk.session_timeout
                job.dropped = job.dropped or now >= job.sure_at

    def _remove(self, zk: Handle, job: _Job) -> None:
        try:
            for path, stat in self._search(zk, job):
                with suppress(NoNode):
                    zk.delete(path, stat.version)
        except Refused as error:
            log.info("ZooKeeper cluster %s: %s", self._cluster, error)

    def _search(self, zk: Handle, job: _Job) -> list[tuple[str, Stat]]:
        names = [job.name]
        if job.prefix:
            try:
                names = [name for name in zk.children(job.parent) if name.startswith(job.name)]
            except NoNode:
                return []
        found = []
        for name in names:
            path = join(job.parent, name)
            stat = zk.exists(path)
            if stat is not None and job.wants(stat):
                found.append((path, stat))
        return found
