"""One session with one cluster: connected or not, with a deadline on every request, and over for good when it is over.

A generation is a session. When the session expires, or nobody was reached for so long that it must be taken for
expired, the connection has failed and its owner makes the next one; a short loss of connection heals by itself and
keeps the session. A request is sent only while connected, so none can be carried out long after its caller left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

from syncstore.zookeeper.client import Answer, Client, KazooTimeoutError, NotSent, kazoo_errors, requests
from syncstore.zookeeper.ensemble import Ensemble
from syncstore.zookeeper.errors import NodeExists, Refused, SessionEnded, ZKTimeout, ZKUnavailable
from syncstore.zookeeper.failures import Failure, refusal, sort

_PAUSE = 0.02


class State(Enum):
    """Where a connection is in its life."""

    CONNECTING = "connecting"  # never connected so far
    CONNECTED = "connected"
    SUSPENDED = "suspended"  # not connected now; the session may still be there
    ENDED = "ended"


Doubt = Callable[[Answer], None]
"""Takes the answer to a change that was sent and not answered in time; it may still come."""


class Connection:
    """A connection of generation `generation`. `notify` is called with it and its new state; it must not block.

    `in_callback.now` is true on a thread that runs a watch's callback, which cannot wait. All deadlines
    are on time.monotonic().
    """

    def __init__(
        self,
        ensemble: Ensemble,
        generation: int,
        notify: Callable[[Connection, State], None],
        in_callback: threading.local,
    ) -> None:
        self.ensemble = ensemble
        self.generation = generation
        self.session_id = 0
        self.connects = 0  # how often it was connected
        self.end_reason = ""
        self.failure: Failure | None = None  # why it ended
        self.draining_since: float | None = None  # when somebody first waited to replace it
        self._notify = notify
        self._state = State.CONNECTING
        self._suspended_at = 0.0
        self.prepared = not ensemble.chroot
        self._changed = threading.Condition(threading.Lock())
        self._in_callback = in_callback
        self.client = Client(ensemble, self._client_changed)

    def open(self) -> None:
        """Begin to connect, and do not wait for it. Raises ZKUnavailable when this process has no means left."""
        try:
            self.client.start_async()
        except (OSError, RuntimeError) as error:  # no file or thread to be had
            self.client.shut()
            raise ZKUnavailable(self.ensemble.name, f"no client can be made: {error}") from error

    # -- what it is

    @property
    def state(self) -> State:
        return self._state

    @property
    def failed(self) -> bool:
        """Whether the session is over, or must be taken for it: then only another connection helps."""
        return self._state is State.ENDED or (
            self._state is State.SUSPENDED
            and time.monotonic() - self._suspended_at > self.client.session_timeout
        )

    @property
    def session_timeout(self) -> float:
        """Seconds after which the servers end a silent session, as they granted it."""
        return float(self.client.session_timeout)

    @property
    def proof(self) -> float:
        """When, on time.monotonic(), the last request was sent that a server has answered, pings included."""
        return float(self.client.proof)

    # -- what it does

    def ready(self, deadline: float) -> None:
        """Wait until requests can be sent, and the chroot is there. Raises ZKUnavailable."""
        self._await_connected(deadline)
        if not self.prepared:
            self.make_chroot(deadline)
            self.prepared = True

    def make_chroot(self, deadline: float) -> None:
        """Make what is missing of the path below which all the others are. Raises ZKUnavailable."""
        try:
            self._make_chroot(deadline)
        except Refused as error:
            raise ZKUnavailable(self.ensemble.name, f"the chroot cannot be made: {error}") from error

    def call(
        self, request: Any, path: str, deadline: float, *, repeatable: bool, doubt: Doubt | None = None
    ) -> Any:
        """The answer to a request. Raises ZKUnavailable; and Refused, with `path`, when the answer is no.

        What is `repeatable` is sent again when the connection breaks. Otherwise `doubt` is given the answer that
        did not come, and ZKUnavailable says that the change may have been made.
        """
        self._refuse_in_callback()
        while True:
            self._await_connected(deadline)
            sent = time.monotonic()
            if sent >= deadline:
                raise ZKTimeout(self.ensemble.name, f"no time was left to ask about {path}")
            answer = self.client.ask(request)
            try:
                value = answer.get(timeout=deadline - sent)
            except NotSent:
                continue
            except KazooTimeoutError:
                if doubt:
                    doubt(answer)
                raise ZKTimeout(
                    self.ensemble.name,
                    f"no answer about {path} in {deadline - sent:.1f} s",
                    maybe_done=not repeatable,
                ) from None
            except kazoo_errors.ZookeeperError as error:
                failure = sort(error)
                if failure is Failure.LOST and repeatable:
                    # It was an answer if we are connected still: the servers are overwhelmed, or we have moved.
                    if self.client.may_send:
                        time.sleep(_PAUSE)
                    continue
                if failure in (Failure.LOST, Failure.EXPIRED):
                    if doubt:
                        doubt(answer)
                    kind = SessionEnded if failure is Failure.EXPIRED else ZKUnavailable
                    raise kind(
                        self.ensemble.name,
                        f"the connection broke at a request about {path}",
                        maybe_done=not repeatable,
                    ) from error
                if isinstance(error, kazoo_errors.AuthFailedError):
                    raise SessionEnded(self.ensemble.name, "it does not accept who we are") from error
                self._proved(sent)
                raise refusal(error, path) from error
            self._proved(sent)
            return value

    def read_all(self, questions: Sequence[Any], path: str, deadline: float) -> list[Any]:
        """The answers to questions that are all sent before the first is answered; kazoo's exception for a refusal.

        They are asked again, all of them, when the connection breaks. Raises ZKUnavailable.
        """
        self._refuse_in_callback()
        while True:
            self._await_connected(deadline)
            sent = time.monotonic()
            if sent >= deadline:
                raise ZKTimeout(self.ensemble.name, f"no time was left to ask about {path}")
            answers = self.client.ask_all(questions)
            # They come in order: whoever has the last has them all, and was woken once.
            if not answers[-1].wait(deadline - sent):
                raise ZKTimeout(
                    self.ensemble.name, f"no answers about {path} and others in {deadline - sent:.1f} s"
                )
            errors = [answer.exception for answer in answers]
            failures = {sort(error) for error in errors if error is not None}
            if Failure.EXPIRED in failures:
                raise SessionEnded(self.ensemble.name, f"the session ended at a request about {path}")
            if any(isinstance(error, kazoo_errors.AuthFailedError) for error in errors):
                raise SessionEnded(self.ensemble.name, "it does not accept who we are")
            if Failure.LOST in failures:
                if self.client.may_send:
                    time.sleep(_PAUSE)  # see call
                continue
            self._proved(sent)
            return [error or answer.value for error, answer in zip(errors, answers, strict=True)]

    def end(self, failure: Failure, reason: str) -> None:
        """Be over: nothing can be asked any more. The client goes on until `shut`."""
        with self._changed:
            if self._state is State.ENDED:
                return
            self._state = State.ENDED
            self.failure = failure
            self.end_reason = reason
            self._changed.notify_all()
        self._notify(self, State.ENDED)

    def shut(self) -> None:
        """End the session and the client's threads, in the background: it may take as long as a connection attempt."""
        self.end(Failure.LOST, "it was closed")
        threading.Thread(target=self._shut, name=f"zookeeper-shut-{self.ensemble.name}", daemon=True).start()

    def shut_now(self) -> None:
        """The same, and wait for it."""
        self.end(Failure.LOST, "it was closed")
        self._shut()

    def drop_after_fork(self) -> None:
        """In a child: this is the parent's session. Locks may be held by threads that are not here."""
        self._changed = threading.Condition(threading.Lock())
        self._state = State.ENDED
        self.failure = Failure.LOST
        self.end_reason = "it belongs to the process that forked this one"
        self.client.drop_after_fork()

    # -- inside

    def _await_connected(self, deadline: float) -> None:
        if self.client.may_send and self._state is State.CONNECTED:
            return
        self._refuse_in_callback()
        with self._changed:
            while not (self.client.may_send and self._state is State.CONNECTED):
                if self._state is State.ENDED:
                    raise SessionEnded(self.ensemble.name, self.end_reason)
                if self.failed:
                    raise SessionEnded(self.ensemble.name, "unreachable for longer than its session lasts")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ZKTimeout(self.ensemble.name, "not connected")
                if self._state is State.SUSPENDED:
                    left = min(left, self._suspended_at + self.client.session_timeout - time.monotonic())
                self._changed.wait(max(left, 0.0) + 0.001)

    def _refuse_in_callback(self) -> None:
        if getattr(self._in_callback, "now", False):
            raise RuntimeError("a watch's callback cannot wait for ZooKeeper: its answers come after it")

    def _make_chroot(self, deadline: float) -> None:
        steps = self.ensemble.chroot[1:].split("/")
        for count in range(1, len(steps) + 1):
            path = "/" + "/".join(steps[:count])
            if self.call(requests.Exists(path, None), path, deadline, repeatable=True) is None:
                create = requests.Create(path, b"", self.client.acl, 0)
                with suppress(NodeExists):
                    self.call(create, path, deadline, repeatable=True)

    def _proved(self, sent: float) -> None:
        self.client.proof = max(self.client.proof, sent)

    def _client_changed(self) -> None:
        """On kazoo's own thread, which must not wait."""
        client = self.client
        if client.expired:
            self.end(Failure.EXPIRED, "the session has expired")
        elif client.refused:
            self.end(Failure.AUTH, "it does not accept who we are")
        elif client.stopped:
            self.end(Failure.LOST, "its client has stopped")
        else:
            self._moved(connected=client.may_send)

    def _moved(self, *, connected: bool) -> None:
        with self._changed:
            if self._state is State.ENDED:
                return
            if connected:
                self._state = State.CONNECTED
                self.session_id = self.client._session_id
                self.connects += 1
                self.draining_since = None
            else:
                self._state = State.SUSPENDED
                self._suspended_at = time.monotonic()
            state = self._state
            self._changed.notify_all()
        self._notify(self, state)

    def _shut(self) -> None:
        self.client.shut()
