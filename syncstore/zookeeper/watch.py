"""A watch that is kept: over losses of the connection, armed again, and told of what changed meanwhile.

ZooKeeper's own watch is one message on one connection. Whenever the connection is there again, a watch reads anew
what it watches, in the same request that arms it; if that differs from what was seen, it fires as `synthetic`. Zxids
count the changes of the whole cluster, so that this holds for another session, too.

Three threads meet here: those who wait, the client's own, which must never block and wakes them, and the client's
watch thread, which runs the callbacks one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Literal, NamedTuple, Protocol

from syncstore.zookeeper.client import Answer, requests
from syncstore.zookeeper.connection import Connection, State
from syncstore.zookeeper.errors import NoNode, WatchClosed, WatchTimeout
from syncstore.zookeeper.failures import Failure, sort
from syncstore.zookeeper.nodes import Stat, stat_of

Kind = Literal["data", "exists", "gone", "children"]
On = Literal["exists", "children"]

_ARMING_TRIES = 10


class Change(Enum):
    """What a watch tells. The first four end it; the others are of the session, and only callbacks see them."""

    CREATED = "created"
    DELETED = "deleted"
    CHANGED = "changed"
    CHILD = "child"
    CONNECTED = "connected"
    SUSPENDED = "suspended"
    ENDED = "ended"


class WatchEvent(NamedTuple):
    """What happened to `path`.

    A `synthetic` event was found out by comparing, so that there may have been several changes and the type is that
    of the sum. `session_changed` says that the session is another than when the watch was made.
    """

    type: Change
    path: str
    synthetic: bool = False
    session_changed: bool = False


Callback = Callable[[WatchEvent, Any], None]
"""Called with an event and the watch's context. It must not wait for ZooKeeper: that raises RuntimeError."""

_SESSION = {
    State.CONNECTED: Change.CONNECTED,
    State.SUSPENDED: Change.SUSPENDED,
    State.ENDED: Change.ENDED,
}


class Around(Protocol):
    """What a watch needs of all the watches on its cluster."""

    @property
    def cluster(self) -> str:
        """The cluster's name."""

    def remove(self, watch: Watch) -> None:
        """It has fired, or was destroyed."""

    def refuse_in_callback(self) -> None:
        """Raise RuntimeError on a thread that runs a callback."""

    def running_callback(self, path: str) -> AbstractContextManager[None]:
        """Around a callback."""


class Watch:
    """Waits for one change. `seen` is what was there when it was made, None for nothing; see Handle.watch."""

    def __init__(
        self, watches: Around, path: str, full: str, kind: Kind, callback: Callback | None, context: object
    ) -> None:
        self.path = path
        self.kind: Kind = kind
        self.seen: Stat | None = None
        self.generation = 0
        self._full = full
        self._watches = watches
        self._callback = callback
        self._context = context
        self._changed = threading.Condition(threading.Lock())
        self._event: WatchEvent | None = None
        self._closed = ""
        self._shots: list[_Shot] = []

    @property
    def count(self) -> int:
        """How many events are still to come: 1, and 0 when it has fired or was destroyed."""
        return 0 if self._event is not None or self._closed else 1

    def wait(self, timeout: float) -> WatchEvent:
        """The event, once it is there. Raises WatchTimeout, and WatchClosed when it will not come any more."""
        deadline = time.monotonic() + timeout
        if self._event is None:
            self._watches.refuse_in_callback()
        with self._changed:
            while self._event is None:
                if self._closed:
                    raise WatchClosed(self._watches.cluster, f"the watch on {self.path} {self._closed}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WatchTimeout(f"nothing happened to {self.path} in {timeout:g} s")
                self._changed.wait(left)
            return self._event

    def destroy(self) -> None:
        """Forget it. Who waits gets WatchClosed. From any thread, the callback's too, and as often as one likes."""
        self.close("was destroyed")

    # -- what `Watches` calls

    def close(self, why: str) -> None:
        """Never fire, for the reason that completes "the watch on /path ..."."""
        with self._changed:
            if self._closed:
                return
            self._closed = why
            self._changed.notify_all()
        self._watches.remove(self)
        self._disarm()

    def drop_after_fork(self, why: str) -> None:
        """The same in a child, where the lock may be held by a thread that is not here."""
        self._changed = threading.Condition(threading.Lock())
        self._closed = why

    def arm(self, connection: Connection, deadline: float) -> None:
        """Read, remember, and be told of the next change. Raises ZKUnavailable."""
        self.generation = connection.generation
        try:
            self._arm(connection, deadline)
        except BaseException:
            self._disarm()
            raise

    def arm_again(self, connection: Connection) -> None:
        """The same without waiting, comparing with what was seen."""
        connection.client.on_completion_thread(self._arm_again, connection)

    def tell(self, connection: Connection, state: State) -> None:
        """Tell the callback of the session, and arm anew if it is there."""
        change = _SESSION.get(state)
        if self.count and change is not None:
            changed = connection.generation != self.generation
            self._call_back(connection, WatchEvent(change, self.path, session_changed=changed))
            if state is State.CONNECTED:
                self.arm_again(connection)

    def hit(self, shot: _Shot, kind: str) -> None:
        """ZooKeeper says that something happened. On the client's own thread."""
        change = Change[kind]
        if (change, self.kind) in ((Change.CHANGED, "exists"), (Change.CHILD, "gone")):
            self.arm_again(shot.connection)  # another value or child; but whether it exists was the question
        else:
            self._fire(shot.connection, change, synthetic=False)

    # -- inside

    def _arm(self, connection: Connection, deadline: float) -> None:
        for _ in range(_ARMING_TRIES):
            shot = self._shot(connection, self._on)
            try:
                answer = connection.call(shot.request, self.path, deadline, repeatable=True)
            except NoNode:
                if self.kind == "gone":
                    raise
                answer = None
            self.seen = _seen(answer)
            if self.seen is not None or self.kind != "children":
                return
            # The children of what is not there cannot be watched, but that it is made can.
            shot = self._shot(connection, "exists")
            if connection.call(shot.request, self.path, deadline, repeatable=True) is None:
                return
            self._disarm()  # made meanwhile: its value is not what is watched
        raise WatchTimeout(f"{self.path} is made and removed too fast to be watched")

    def _arm_again(self, connection: Connection) -> None:
        if self.count:
            self._disarm()  # what happens until the next is armed is found by comparing
            shot = self._shot(connection, "exists" if self.seen is None else self._on)
            connection.client.ask(shot.request).rawlink(lambda answer: self._compare(shot, answer))

    @property
    def _on(self) -> On:
        """What of a node that exists is watched. Its children's watch is not set where it does not exist."""
        return "children" if self.kind in ("children", "gone") else "exists"

    def _shot(self, connection: Connection, on: On) -> _Shot:
        shot = _Shot(self, connection, on, self._full)
        with self._changed:
            self._shots = [each for each in self._shots if not each.spent and each.connection is connection]
            self._shots.append(shot)
            shot.spent = bool(self._closed)
        return shot

    def _disarm(self) -> None:
        with self._changed:
            shots, self._shots = self._shots, []
        for shot in shots:
            shot.connection.client.expire_watch(shot.table, self._full, shot)

    def _compare(self, shot: _Shot, answer: Answer) -> None:
        """On the client's completion thread, with the answer to arming again."""
        error = answer.exception
        if error is not None and sort(error) is not Failure.NO_NODE:
            return  # not connected any more: it is armed when we are again
        now = None if error is not None else _seen(answer.value)
        if _essence(self.kind, now) != _essence(self.kind, self.seen):
            self._fire(shot.connection, self._difference(now), synthetic=True)

    def _difference(self, now: Stat | None) -> Change:
        if self.seen is None:
            return Change.CREATED
        if now is None or now.czxid != self.seen.czxid:
            return Change.DELETED  # and perhaps made anew
        return Change.CHILD if self.kind == "children" else Change.CHANGED

    def _fire(self, connection: Connection, change: Change, *, synthetic: bool) -> None:
        with self._changed:
            if self._event is not None or self._closed:
                return
            changed = connection.generation != self.generation
            event = WatchEvent(change, self.path, synthetic, changed)
            self._event = event
            self._changed.notify_all()
        self._watches.remove(self)
        self._call_back(connection, event)
        self._disarm()

    def _call_back(self, connection: Connection, event: WatchEvent) -> None:
        if self._callback is not None:
            connection.client.on_watch_thread(self._run, event)

    def _run(self, event: WatchEvent) -> None:
        """On the client's watch thread."""
        callback = self._callback
        if callback is None or self._closed:
            return
        with self._watches.running_callback(self.path):
            callback(event, self._context)


class _Shot:
    """One arming of a watch on one connection: what the client calls, once."""

    def __init__(self, watch: Watch, connection: Connection, on: On, full: str) -> None:
        self.connection = connection
        self.spent = False
        self.table = "_child_watchers" if on == "children" else "_data_watchers"
        kind = requests.GetChildren2 if on == "children" else requests.Exists
        self.request = kind(full, self)
        self._watch = watch

    def __call__(self, event: Any) -> None:
        if not self.spent:
            self.spent = True
            self._watch.hit(self, event.type)


def _seen(answer: Any) -> Stat | None:
    """The facts in what was read: of a GetChildren2 (names, facts), of an Exists the facts or None."""
    if isinstance(answer, tuple) and len(answer) == 2:
        answer = answer[1]
    return None if answer is None else stat_of(answer)


def _essence(kind: Kind, stat: Stat | None) -> tuple[int, int]:
    """What must differ for this kind of watch to fire."""
    if stat is None:
        return (0, 0)
    return (stat.czxid, {"data": stat.mzxid, "exists": 0, "gone": 0, "children": stat.pzxid}[kind])
