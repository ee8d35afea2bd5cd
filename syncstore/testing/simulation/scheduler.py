"""The scheduler: greenlets that take turns at every step of simulated I/O, on a virtual clock.

A step is a point where others may go first; what follows it, up to the next step, happens at once. Who goes on is
drawn from a seed, and so is everything else, so a run can be repeated. Time passes a little with every step, and
where everybody sleeps or waits it jumps to the first who does not.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Literal, NamedTuple, NoReturn

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]  # it ships none

SECOND = 1_000_000
"""Virtual time counts microseconds."""

Mode = Literal["random", "sticky", "priorities"]


class ProcessDied(BaseException):
    """The process in which a task ran is gone: nothing it still wants to do can be done. Not to be caught."""


class Stuck(Exception):
    """Everybody waits for each other, or nobody comes to an end."""


class Process:
    """One server process, as far as the scheduler is concerned. Times are in microseconds of virtual time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.frozen_until = 0
        self.clock_offset = 0
        self.clock_jumped_at = -1  # the step of the last jump
        self.sql_away_until = 0
        self.zookeeper_away_until = 0


class Task:
    """One thread of control: a client with the request it has sent, or a worker of a process."""

    __slots__ = (
        *("daemon", "done", "glet", "name", "number", "priority", "process"),
        *("queue", "serving", "wake"),
    )

    def __init__(
        self, number: int, name: str, run: Callable[[], None], hub: greenlet, *, daemon: bool
    ) -> None:
        self.number = number
        self.name = name
        self.daemon = daemon
        # Whoever makes it, its end leads back to the hub.
        self.glet: Any = greenlet(run, hub)
        self.process: Process | None = None  # where its code runs now
        self.serving: object = None  # the request that it works for
        self.done = False
        self.wake = -1  # when it goes on if nobody wakes it; -1 while it does not sleep
        self.queue: list[Task] | None = None
        self.priority = 0.0


class Line(NamedTuple):
    """One line of a trace: what was done at a step, before its outcome is known."""

    step: int
    now: int
    who: str
    what: str
    detail: object


class _Later(NamedTuple):
    due: int
    what: str
    action: Callable[[], None]


class World:
    """The tasks of one history, their order and their time. `tick` is what a step takes, in microseconds."""

    def __init__(
        self,
        random: Random,
        *,
        mode: Mode = "random",
        tick: int = 100,
        most_steps: int = 20_000,
        start: int = 1_700_000_000 * SECOND,
    ) -> None:
        self.random = random
        self.mode = mode
        self.now = start
        self.started = start
        self.steps = 0
        self.current: Task | None = None
        self.trace: list[Line] | None = None
        self.environment: list[tuple[int, Callable[[], None]]] = []  # by step, the next one last
        self._draw = random.random
        self._tick = tick
        self._most_steps = most_steps
        self._ready: list[Task] = []
        self._asleep: list[Task] = []
        self._later: list[_Later] = []
        self._hub = getcurrent()
        self._alive = 0
        self._tasks: list[Task] = []
        self._stuck: Stuck | None = None
        self._change_points: list[int] = []

    # -- making tasks

    def spawn(self, name: str, run: Callable[[], None], *, daemon: bool = False) -> Task:
        """A new task. The history ends when all that are no daemons have."""

        def body() -> None:
            try:
                run()
            except ProcessDied:
                pass
            finally:
                self._finished(task)

        task = Task(len(self._tasks), name, body, self._hub, daemon=daemon)
        task.priority = self._draw()
        self._tasks.append(task)
        self._ready.append(task)
        if not daemon:
            self._alive += 1
        return task

    def _finished(self, task: Task) -> None:
        task.done = True
        if task in self._ready:
            self._ready.remove(task)
        if not task.daemon:
            self._alive -= 1

    def run(self) -> None:
        """Run until every task but the daemons has ended. Raises Stuck, and whatever a task raised."""
        if self.mode == "priorities":
            self._change_points = sorted((int(self._draw() * 150) for _ in range(3)), reverse=True)
        self._hub = getcurrent()
        while self._alive and self._stuck is None:
            try:
                task = self._next()
            except Stuck as stuck:
                self._stuck = stuck
                break
            self.current = task
            task.glet.switch()
        self.current = None
        if self._stuck is not None:
            raise self._stuck

    def end(self) -> None:
        """End what still runs: everybody finds that it has died."""
        for task in self._tasks:
            if task.process is None:
                task.process = Process("end")
            task.process.dead = True
        for task in self._tasks:
            if not task.done:
                self.current = task
                task.glet.throw(ProcessDied)
        self.current = None

    # -- what a task does

    def step(self, what: str, detail: object = "") -> None:
        """A step of I/O: others may go first. Raises ProcessDied in a process that is dead."""
        task = self.current
        assert task is not None, "a step outside of any task"
        process = task.process
        if process is not None and process.dead:
            raise ProcessDied
        self.steps += 1
        self.now += self._tick
        if self.steps > self._most_steps:
            self._give_up(Stuck(f"no end after {self.steps} steps"))
        self._yield(task)
        if process is not None and process.dead:
            raise ProcessDied
        if self.trace is not None:
            self.note(what, detail)

    def note(self, what: str, detail: object = "") -> None:
        """Write a line into the trace, if there is one."""
        if self.trace is not None:
            who = "" if self.current is None else self.current.name
            if self.current is not None and self.current.process is not None:
                who = f"{who}@{self.current.process.name}"
            self.trace.append(Line(self.steps, self.now - self.started, who, what, detail))

    def sleep(self, seconds: float) -> None:
        """Let time pass, in which others go on."""
        task = self.current
        assert task is not None, "sleep outside of any task"
        if task.process is not None and task.process.dead:
            raise ProcessDied
        self._count()
        self._block(task, self.now + 1 + max(0, int(seconds * SECOND)))
        if task.process is not None and task.process.dead:
            raise ProcessDied

    def take(self, attempt: Callable[[], bool], queue: list[Task], timeout: float | None, what: str) -> bool:
        """Try until `attempt` succeeds, waiting in `queue` in between; False when `timeout` seconds have passed."""
        self.step(what)
        if attempt():
            return True
        task = self.current
        assert task is not None
        deadline = -1 if timeout is None else self.now + int(timeout * SECOND)
        while timeout is None or self.now < deadline:
            self._count()
            queue.append(task)
            task.queue = queue
            self._block(task, deadline)
            if task.process is not None and task.process.dead:
                raise ProcessDied
            if attempt():
                self.note(what, "after waiting")
                return True
        self.note(what, "in vain")
        return False

    def wake(self, queue: list[Task]) -> None:
        """Let everybody in a queue try again."""
        for task in list(queue):
            self._rouse(task)

    def died(self, process: Process) -> None:
        """The process is dead: its tasks learn of it when they go on, and they go on now."""
        process.dead = True
        for task in self._tasks:
            if task.process is process and not task.done and (task.wake != -1 or task.queue is not None):
                self._rouse(task)

    def later(self, what: str, action: Callable[[], None], *, most_steps: int = 0) -> None:
        """Something that happens by itself, at a later step; `most_steps` bounds the delay roughly."""
        due = self.steps + (int(self._draw() * most_steps) if most_steps else 0)
        self._later.append(_Later(due, what, action))

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._later

    # -- who goes on

    def _count(self) -> None:
        self.steps += 1
        if self.steps > self._most_steps:
            self._give_up(Stuck(f"no end after {self.steps} steps"))

    def _yield(self, task: Task) -> None:
        try:
            chosen = self._next()
        except Stuck as stuck:
            self._give_up(stuck)
        if chosen is not task:
            self.current = chosen
            chosen.glet.switch()

    def _block(self, task: Task, wake: int) -> None:
        self._ready.remove(task)
        task.wake = wake
        self._asleep.append(task)
        self._yield(task)

    def _rouse(self, task: Task) -> None:
        if task.queue is not None:
            task.queue.remove(task)
            task.queue = None
        task.wake = -1
        if task in self._asleep:
            self._asleep.remove(task)
            self._ready.append(task)

    def _give_up(self, why: Stuck) -> NoReturn:
        """Back to the hub, for good."""
        self._stuck = why
        self._hub.switch()
        raise ProcessDied

    def _next(self) -> Task:
        ready = self._ready
        while True:
            while self.environment and self.environment[-1][0] <= self.steps:
                self.environment.pop()[1]()
            if self._later and self._do_later():
                continue
            if not ready:
                self._pass_time()
                continue
            task = ready[0] if len(ready) == 1 else self._choose(ready)
            process = task.process
            if process is not None and process.frozen_until > self.now and not process.dead:
                ready.remove(task)
                task.wake = process.frozen_until
                self._asleep.append(task)
                continue
            return task

    def _choose(self, ready: list[Task]) -> Task:
        if self.mode == "sticky":
            if self.current is not None and self.current in ready and self._draw() < 0.8:
                return self.current
        elif self.mode == "priorities":
            if self._change_points and self.steps >= self._change_points[-1]:
                self._change_points.pop()
                if self.current is not None:
                    self.current.priority = self._draw() - 1
            return max(ready, key=_priority)
        return ready[int(self._draw() * len(ready))]

    def _do_later(self) -> bool:
        """Perhaps do what was left for later; always when there is nothing else to do."""
        due = [one for one in self._later if one.due <= self.steps]
        if not due and not self._ready:
            due = self._later
        if not due or (self._ready and self._draw() * (len(self._ready) + len(due)) >= len(due)):
            return False
        chosen = due[int(self._draw() * len(due))]
        self._later.remove(chosen)
        current, self.current = self.current, None
        self.note("later: " + chosen.what)
        chosen.action()
        self.current = current
        return True

    def _pass_time(self) -> None:
        """Let the first who sleeps go on."""
        timed = [task for task in self._asleep if task.wake != -1]
        if not timed or (all(task.daemon for task in timed) and self._all_blocked()):
            waiting = ", ".join(task.name for task in self._asleep)
            raise Stuck(f"a deadlock of {waiting or 'nobody'}")
        first = min(timed, key=_wake)
        self.now = max(self.now, first.wake)
        for task in [task for task in timed if task.wake <= self.now]:
            self._rouse(task)

    def _all_blocked(self) -> bool:
        return not any(task.wake != -1 for task in self._asleep if not task.daemon)


def _priority(task: Task) -> float:
    return task.priority


def _wake(task: Task) -> int:
    return task.wake
