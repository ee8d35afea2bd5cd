"""What one holds between acquire and release: the calls to ZooKeeper, each with its deadline.

Between the two the cluster's client is not replaced, unless they are far apart, so keep them close together. Calls
take and give paths below the cluster's chroot. A `timeout` is in seconds, for the whole call; without one it is the
cluster's op_timeout. All calls raise ZKUnavailable, and SessionEnded when the session has been replaced.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from syncstore.zookeeper.client import Answer, kazoo_errors, requests
from syncstore.zookeeper.connection import Connection, State
from syncstore.zookeeper.ensemble import Host
from syncstore.zookeeper.errors import NodeExists, NoNode, RequestTooLarge, ZKUnavailable
from syncstore.zookeeper.failures import Failure, refusal, sort
from syncstore.zookeeper.nodes import (
    ANY_VERSION,
    Check,
    Create,
    Created,
    Delete,
    Get,
    List,
    Look,
    Node,
    Question,
    Stat,
    Step,
    below,
    check_path,
    parent_of,
    stat_of,
)
from syncstore.zookeeper.reaper import Reaper
from syncstore.zookeeper.watch import Callback, Kind, Watch
from syncstore.zookeeper.watches import Watches

MAX_REQUEST: Final = 1_048_576 - 1024
"""Bytes of one request. Servers read up to jute.maxbuffer, 1 MiB as they come, and add to it what they log."""

_EPHEMERAL = 1
_SEQUENCE = 2
_MAX_LEVELS = 32
_READS: Final = {Get: requests.GetData, Look: requests.Exists, List: requests.GetChildren}

log = logging.getLogger(__name__)


class Handle:
    """One hold on a cluster. Not for other threads, and not to be used after its release."""

    def __init__(
        self, connection: Connection, reaper: Reaper, watches: Watches, leave: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._reaper = reaper
        self._watches = watches
        self._leave = leave
        self._released = False
        self._thread = threading.get_ident()
        self._chroot = connection.ensemble.chroot

    # -- what it is

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._connection.ensemble.name

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The cluster's servers."""
        return self._connection.ensemble.hosts

    @property
    def generation(self) -> int:
        """Which session of this process with the cluster this is, from 1."""
        return self._connection.generation

    @property
    def session_id(self) -> int:
        """The session's number, the `owner` of its ephemeral nodes."""
        return self._connection.session_id

    @property
    def session_timeout(self) -> float:
        """Seconds of silence after which the servers end the session, as they granted it."""
        return self._connection.session_timeout

    @property
    def state(self) -> State:
        """Whether it is connected now."""
        return self._connection.state

    @property
    def proof(self) -> float:
        """When, on time.monotonic(), the last request was sent that a server has answered, pings included."""
        return self._connection.proof

    # -- reading

    def get(self, path: str, timeout: float | None = None) -> Node:
        """A node's value. Raises NoNode."""
        value, stat = self._read(requests.GetData, path, timeout)
        return Node(value or b"", stat_of(stat))

    def exists(self, path: str, timeout: float | None = None) -> Stat | None:
        """A node's facts, None when it does not exist."""
        stat = self._read(requests.Exists, path, timeout)
        return None if stat is None else stat_of(stat)

    def children(self, path: str, timeout: float | None = None) -> list[str]:
        """The names of a node's children, in no order. Raises NoNode."""
        return list(self._read(requests.GetChildren, path, timeout))

    def read_all(
        self, questions: Sequence[Question], *, after: Check | None = None, timeout: float | None = None
    ) -> list[Node | Stat | list[str] | None]:
        """The answers to several questions in one round trip, None of a node that does not exist.

        They are read in this order, on one server, which has first caught up with the leader (see `sync`). With
        `after` it has first agreed with the others on checking that node's version, whatever comes of it: that takes
        as long as a change, and a leader that was cut off cannot do it.
        """
        for question in questions:
            check_path(question.path)
        first = (
            requests.Sync(self._full("/"))
            if after is None
            else requests.Transaction([requests.CheckVersion(self._full(after.path), after.version)])
        )
        asked = [_READS[type(question)](self._full(question.path), None) for question in questions]
        path = questions[0].path if questions else "/"
        answers = self._using().read_all([first, *asked], path, self._deadline(timeout))
        if isinstance(answers[0], Exception):
            raise refusal(answers[0], "/") from answers[0]
        return [
            _read_answer(question, answer) for question, answer in zip(questions, answers[1:], strict=True)
        ]

    def sync(self, path: str = "/", timeout: float | None = None) -> None:
        """Let the server catch up with the leader: what was committed before is in what is read after."""
        check_path(path)
        self._call(requests.Sync(self._full(path)), path, timeout, repeatable=True)

    # -- changing

    def create(
        self,
        path: str,
        value: bytes = b"",
        *,
        ephemeral: bool = False,
        sequence: bool = False,
        unique: bool = False,
        timeout: float | None = None,
    ) -> Created:
        """Create a node, whose parent must exist. Raises NodeExists, NoNode, RequestTooLarge.

        An `ephemeral` node ends with the session. ZooKeeper adds a number of ten digits to the name of a `sequence`
        node; the name before it must be used by this call alone (a UUID in it), and `unique` says the same of
        another's. When no answer comes, what the call may yet create is removed: by that name, or because it is
        ephemeral and ours, or because the answer comes late. A lasting node of a name that others may use stays
        if the connection broke, since whose it is cannot be told.
        """
        check_path(path, sequence=sequence)
        full = self._full(path)
        self._check_size(path, len(value) + len(full.encode()))
        flags = (_EPHEMERAL if ephemeral else 0) | (_SEQUENCE if sequence else 0)
        request = requests.Create2(full, value, self._connection.client.acl, flags)

        def doubt(answer: Answer) -> None:
            owner = self._connection.session_id if ephemeral else 0
            self._reaper.doubt(
                path, answer, sequence=sequence, unique=unique or sequence, owner=owner, chroot=self._chroot
            )

        deadline = self._deadline(timeout)
        left = self._reaper.leave(path, deadline)
        try:
            made, stat = self._call_until(request, path, deadline, repeatable=False, doubt=doubt)
        except ZKUnavailable:
            self._reaper.resume(left)
            raise
        return Created(made[len(self._chroot) :], stat_of(stat))

    def ensure(self, path: str, timeout: float | None = None) -> None:
        """Make a node without a value, and those above it, where they are missing."""
        check_path(path)
        deadline = self._deadline(timeout)
        missing = [path]
        for _ in range(_MAX_LEVELS * 2):
            if not missing:
                return
            request = requests.Create(self._full(missing[-1]), b"", self._connection.client.acl, 0)
            try:
                # It may be sent again, since whoever made it, it is there.
                self._call_until(request, missing[-1], deadline, repeatable=True)
            except NodeExists:
                pass
            except NoNode:
                if missing[-1] == "/":
                    self._connection.make_chroot(deadline)  # somebody has removed it
                missing.append(parent_of(missing[-1]))
                continue
            missing.pop()
        raise NoNode(path, "those above it are removed as fast as they are made")

    def set(self, path: str, value: bytes, version: int = ANY_VERSION, timeout: float | None = None) -> Stat:
        """Give a node another value, if it has this version. Raises NoNode, BadVersion, RequestTooLarge."""
        check_path(path)
        full = self._full(path)
        self._check_size(path, len(value) + len(full.encode()))
        return stat_of(self._call(requests.SetData(full, value, version), path, timeout, repeatable=False))

    def delete(self, path: str, version: int = ANY_VERSION, timeout: float | None = None) -> None:
        """Remove a node, if it has this version. Raises NoNode, BadVersion, NotEmpty."""
        check_path(path)
        self._call(requests.Delete(self._full(path), version), path, timeout, repeatable=False)

    def transaction(self, steps: Sequence[Step], timeout: float | None = None) -> list[str | Stat | None]:
        """Do all the steps, or none of them.

        The result of each: the path of what was created, the facts of what was set, None of what was checked or
        deleted. Raises Refused, of the sort and with the place of the first step that could not be done. When no
        answer comes, all or nothing of it may have been done; it is not taken back.
        """
        for step in steps:
            check_path(step.path)
        operations = [self._operation(step) for step in steps]
        first = steps[0].path if steps else "/"
        self._check_size(first, sum(len(each.serialize()) + 16 for each in operations))
        results = self._call(requests.Transaction(operations), first, timeout, repeatable=False)
        for place, result in enumerate(results):
            if isinstance(result, Exception) and not isinstance(
                result, kazoo_errors.RolledBackError | kazoo_errors.RuntimeInconsistency
            ):
                raise refusal(result, steps[place].path, place) from result
        return [self._result(result) for result in results]

    def reap(self, parent: str, prefix: str) -> None:
        """Have all children of `parent` removed whose names begin with `prefix`, in the background until it is sure.

        For nodes of a call that was given up, by the unique name that it gave them.
        """
        check_path(parent)
        self._reaper.remove(parent, prefix)

    # -- watching

    def watch(
        self,
        path: str,
        kind: Kind = "data",
        callback: Callback | None = None,
        context: object = None,
        timeout: float | None = None,
    ) -> Watch:
        """A watch for one change of a node, which survives losses of the connection and of the session.

        "exists" is for being made or removed, "data" for that or another value, "children" for that or other
        children. `watch.seen` is what was there when it was armed. "gone" is for being removed, and raises NoNode
        when it is not there: with the others the server would keep a watch on what is never made, also when it
        was destroyed here, until the connection ends.
        """
        check_path(path)
        return self._watches.add(self._using(), path, kind, callback, context, self._deadline(timeout))

    # -- the end

    def error(self, error: BaseException, doing: str) -> Failure:
        """What sort of failure an exception is; those of the connection are logged with what was being done.

        It needs not be called: a cluster is marked failed by its connection's state alone.
        """
        failure = sort(error)
        if failure in (Failure.LOST, Failure.EXPIRED, Failure.AUTH):
            log.warning("ZooKeeper cluster %s, %s: %s (%s)", self.name, doing, failure.value, error)
        return failure

    def release(self) -> None:
        """Give it back. Raises RuntimeError in another thread than the one that acquired it, or the second time."""
        if self._released:
            raise RuntimeError("this handle was released before")
        if self._thread != threading.get_ident():
            raise RuntimeError("this handle belongs to another thread: whoever acquires must release")
        self._leave()
        self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    # -- inside

    def _using(self) -> Connection:
        if self._released:
            raise RuntimeError("this handle was released")
        return self._connection

    def _full(self, path: str) -> str:
        return below(self._chroot, path)

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self._connection.ensemble.op_timeout if timeout is None else timeout)

    def _read(self, kind: Callable[[str, None], Any], path: str, timeout: float | None) -> Any:
        check_path(path)
        return self._call(kind(self._full(path), None), path, timeout, repeatable=True)

    def _call(self, request: Any, path: str, timeout: float | None, *, repeatable: bool) -> Any:
        return self._call_until(request, path, self._deadline(timeout), repeatable=repeatable)

    def _call_until(
        self,
        request: Any,
        path: str,
        deadline: float,
        *,
        repeatable: bool,
        doubt: Callable[[Answer], None] | None = None,
    ) -> Any:
        return self._using().call(request, path, deadline, repeatable=repeatable, doubt=doubt)

    def _check_size(self, path: str, size: int) -> None:
        if size > MAX_REQUEST:
            raise RequestTooLarge(path, size, MAX_REQUEST)

    def _operation(self, step: Step) -> Any:
        full = self._full(step.path)
        if isinstance(step, Check):
            return requests.CheckVersion(full, step.version)
        if isinstance(step, Create):
            return requests.Create(full, step.value, self._connection.client.acl, 0)
        if isinstance(step, Delete):
            return requests.Delete(full, step.version)
        return requests.SetData(full, step.value, step.version)

    def _result(self, result: Any) -> str | Stat | None:
        if isinstance(result, str):
            return result[len(self._chroot) :]
        return None if result is True else stat_of(result)


def _read_answer(question: Question, answer: Any) -> Node | Stat | list[str] | None:
    if answer is None or isinstance(answer, kazoo_errors.NoNodeError):
        return None
    if isinstance(answer, Exception):
        raise refusal(answer, question.path) from answer
    if isinstance(question, Get):
        value, stat = answer
        return Node(value or b"", stat_of(stat))
    return list(answer) if isinstance(question, List) else stat_of(answer)
