"""The simulated SQL server: users' rows, their locks, transactions and commits, and the epochs of cache servers.

Every committed state is kept, with the step at which it became visible: that is the truth that the checker asks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from syncstore.errors import LockTimeout, RolledBack, Unavailable
from syncstore.testing.simulation.faults import Faults
from syncstore.testing.simulation.scheduler import Process
from syncstore.testing.simulation.sql_state import UserState


class Waits(Protocol):
    """What the server asks of a scheduler (see scheduler.World)."""

    @property
    def now(self) -> int: ...

    def step(self, what: str, detail: object = "") -> None: ...

    def note(self, what: str, detail: object = "") -> None: ...

    def sleep(self, seconds: float) -> None: ...

    def take(
        self, attempt: Callable[[], bool], queue: list[Any], timeout: float | None, what: str
    ) -> bool: ...

    def wake(self, queue: list[Any]) -> None: ...

    def later(self, what: str, action: Callable[[], None], *, most_steps: int = 0) -> None: ...


class Version(NamedTuple):
    """A state that was committed: at which step, by whose request, and by which change of a work."""

    state: UserState
    step: int = 0
    request: object = None
    change: tuple[Any, ...] = ()


class Row:
    """A user's row. `state` is what was committed last; `versions` all that differed in what a client can see."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.exists = False
        self.state = UserState()
        self.versions = [Version(UserState())]
        self.owner: Transaction | None = None
        self.sharers: set[Transaction] = set()
        self.queue: list[Any] = []


class Transaction:
    """An open transaction that has, or wants, a lock on one row. `after` is what its commit writes."""

    def __init__(self, row: Row, process: Process, request: object) -> None:
        self.row = row
        self.process = process
        self.request = request
        self.change: tuple[Any, ...] = ()
        self.after: UserState | None = None
        self.lost = False  # the server has forgotten it, and its client does not know
        self.committing = False
        self.left = False  # by its client; the server may still be at work for it


class Database:
    """The server. `request` tells whose request the present task serves; `step` counts for the versions."""

    def __init__(
        self,
        world: Waits,
        faults: Faults,
        *,
        request: Callable[[], object] = lambda: None,
        count: Callable[[], int] = lambda: 0,
        chance: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.world = world
        self.faults = faults
        self.rows: dict[int, Row] = {}
        self.epochs: dict[str, int] = {}
        self.other_epochs: dict[str, int] = {}  # of another store, which may stand anywhere
        self.group = ""
        self.reads = 0  # those that ask for users' data
        self._request = request
        self._count = count
        self._chance = chance
        self._open: dict[Transaction, None] = {}  # in order

    def row(self, uid: int) -> Row:
        """A user's row, which may not exist yet."""
        row = self.rows.get(uid)
        if row is None:
            row = self.rows[uid] = Row(uid)
        return row

    # -- statements

    def read(self, process: Process, what: str, detail: object = "") -> str:
        """The step of a reading statement outside of a transaction: the caller's next look is its snapshot.

        What to hand to `answered` after that look.
        """
        of_epoch = what == "sql epoch"
        self.reads += not of_epoch
        fault = self.faults.hit("sql epoch" if of_epoch else "sql read")
        self.world.step(what, detail)
        if fault in ("sql read fails", "epoch fails"):
            self.world.note(what, "FAILS")
            raise Unavailable("a simulated failure of a read")
        self._reachable(process)
        return fault

    def arriving(self, fault: str) -> str:
        """A statement that changes something is on its way, and a slow one may be so before it does or after.

        What to hand to `answered` then.
        """
        if fault != "sql read slow" or self._chance() < 0.5:
            return fault
        self.world.note("sql question", "SLOW")
        self.world.sleep(self._chance() * 2)
        return ""

    def answered(self, fault: str) -> None:
        """The answer of a read is on its way, sometimes for long."""
        if fault in ("sql read slow", "epoch slow"):
            self.world.note("sql answer", "SLOW")
            self.world.sleep(self._chance() * 2)
        elif self._chance() < 0.03:
            self.world.step("sql answer")

    def _reachable(self, process: Process) -> None:
        if process.sql_away_until > self.world.now:
            self.world.note("sql", "UNREACHABLE")
            raise Unavailable("the simulated SQL server is away")

    def begin(self, process: Process, uid: int, timeout: float) -> Transaction:
        """A transaction that has locked the user's row, made if need be. Raises LockTimeout, Unavailable."""
        row = self.row(uid)
        at = Transaction(row, process, self._request())
        fault = self.faults.hit("sql lock")

        def lock() -> bool:
            if row.owner is not None or row.sharers:
                return False
            row.owner = at
            self._open[at] = None
            return True

        self._reachable(process)
        if not self.world.take(lock, row.queue, timeout, "sql lock"):
            raise LockTimeout(f"the simulated row of user {uid} is locked")
        row.exists = True
        if fault:
            if fault == "sql connection lost":
                self.world.later("the server loses a connection", lambda: self.lose(at), most_steps=8)
            else:
                self._forget(at)
                self.world.note("sql lock", "FAILS")
                raise Unavailable("a simulated failure while the row was locked")
        return at

    def share(self, process: Process, uid: int) -> Transaction | None:
        """A transaction with a shared lock on the row, None where it is not to be had at once."""
        row = self.row(uid)
        self.read(process, "sql lock shared")
        if row.owner is not None or not row.exists:
            return None
        at = Transaction(row, process, self._request())
        row.sharers.add(at)
        self._open[at] = None
        return at

    def statement(self, at: Transaction, what: str, detail: object = "") -> None:
        """The step of a statement in a transaction."""
        self.world.step(what, detail)
        if at.lost:
            at.left = True
            self.world.note(what, "CONNECTION LOST")
            raise Unavailable("the simulated connection was lost")

    # -- the end of a transaction

    def rollback(self, at: Transaction) -> None:
        """End it without effect."""
        if at.left:
            return
        at.left = True
        self.world.step("sql rollback")
        self._forget(at)

    def commit(self, at: Transaction) -> None:
        """Make it visible. Raises RolledBack when it was not, Unavailable when nobody knows."""
        at.left = at.committing = True
        fault = self.faults.hit("commit")
        world = self.world
        world.step("sql COMMIT", at.change)
        if at.lost or fault == "commit refused":
            self._forget(at)
            world.note("sql COMMIT", "CONNECTION LOST")
            raise Unavailable("the simulated connection was lost at COMMIT")
        if fault == "commit rolled back":
            self._forget(at)
            world.note("sql COMMIT", "ROLLED BACK")
            raise RolledBack("a simulated deadlock")
        if fault == "commit late":
            world.later("a COMMIT is executed", lambda: self._apply(at), most_steps=40)
        elif fault == "commit never":
            world.later("a COMMIT is dropped", lambda: self._forget(at), most_steps=40)
        else:
            self._apply(at)
        if fault in ("commit late", "commit never", "commit reply lost"):
            world.note("sql COMMIT", fault.upper())
            raise Unavailable("the simulated COMMIT was not answered")
        if fault == "commit slow":
            world.sleep(0.3)

    def _apply(self, at: Transaction) -> None:
        row = at.row
        if at.lost or row.owner is not at:
            return
        if at.after is not None:
            visible = at.after.mark != row.state.mark
            row.state = at.after
            if visible:
                row.versions.append(Version(at.after, self._count(), at.request, at.change))
                self.world.note("  is visible now", f"user {row.uid} at {at.after.mark}")
        self._forget(at)

    def _forget(self, at: Transaction) -> None:
        at.lost = True
        self._open.pop(at, None)
        row = at.row
        row.sharers.discard(at)
        if row.owner is at:
            row.owner = None
        if row.queue:
            self.world.wake(row.queue)

    def release(self, at: Transaction) -> None:
        """Let go of a shared lock."""
        self._forget(at)

    # -- accidents

    def lose(self, at: Transaction) -> None:
        """The server forgets a transaction, and its client does not know."""
        if at in self._open and not (at.left and at.committing):
            self._forget(at)

    def process_died(self, process: Process) -> None:
        """Transactions of a dead process are rolled back, soon; one that was committing may still commit."""
        for at in [at for at in self._open if at.process is process]:
            if at.committing and self._chance() < 0.5:
                self.world.later("a COMMIT of the dead is executed", partial(self._apply, at), most_steps=20)
            else:
                self.world.later("the dead are rolled back", partial(self._forget, at), most_steps=20)

    # -- the epochs of cache servers

    def epoch(self, server: str, store: int = 0) -> int:
        """As it is."""
        return (self.other_epochs if store else self.epochs).get(server, 0)

    def advance_epoch(self, server: str, seen: int, to: int, store: int = 0) -> bool:
        """By compare-and-set."""
        epochs = self.other_epochs if store else self.epochs
        if epochs.get(server, 0) != seen:
            return False
        epochs[server] = to
        self.world.note("  epoch", to)
        return True
