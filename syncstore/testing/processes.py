"""Run a server program as a child process that can be killed, frozen and started again on the same port.

A child never outlives us: its leash, a shell of a megabyte that waits at a pipe only we hold, kills it when
the pipe closes, whatever ended us. Linux could do that by PR_SET_PDEATHSIG, but there the child dies with the
thread that started it, and a test that restarts a server from a thread of its own would lose it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"

# Below the ports that systems give to outgoing connections: one of those could take a server's port while the
# server is down, and it would not come back.
_PORTS = range(15_000, 30_000)
_POLL_SECONDS = 0.01
_LOG_TAIL = 4_000


class ProgramMissing(RuntimeError):
    """`program` is not installed. `package` is what Debian calls the package it comes in."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(f"{program} is not installed (Debian: apt install {package})")
        self.program = program
        self.package = package


class StartFailed(RuntimeError):
    """The program ended, or did not answer in time. The message ends with the last lines of its log."""

    def __init__(self, name: str, reason: str, log: str) -> None:
        super().__init__(f"{name} {reason}; its log ends with:\n{log}")
        self.name = name
        self.reason = reason


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    random = SystemRandom()  # hypothesis seeds the shared one: two runs at once would meet at each port
    for _ in range(1000):
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port among {_PORTS}")


class ChildProcess:
    """Any server program, and what can be done to it.

    `command` is run in `directory`, which also keeps its log; without one it gets a directory of its own in
    the system's temporary folder, removed by `close` or at the end of a `with`. `user` (when we are root) is
    whom it runs as. `start`, `stop` and `restart` wait at most `deadline` seconds.
    """

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        deadline: float = 30.0,
    ) -> None:
        self.name = name
        self.command = command
        self.port = port
        self.environment = environment
        self.user = user
        self.deadline = deadline
        self._owns_directory = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix=f"syncstore-{name}-"))
        if user is not None:
            shutil.chown(self.directory, user)
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """The file that has all the program wrote to standard output and standard error."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The process id of the running program."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the program was started and has not ended. A frozen one is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Run the program and return when it answers. Raises StartFailed, and then nothing is running."""
        if self.alive:
            raise RuntimeError(f"{self.name} is running already")
        self._let_go()
        self._process = self._spawn(self.command, start_new_session=True)
        self._leash = _leash(self._process.pid)
        try:
            self._await_answer(self._process)
        except BaseException:
            self.kill9()
            raise
        return self

    def stop(self) -> None:
        """Ask the program to end, and kill it when it does not in time. No error when it ended before."""
        if self._process is None or not self.alive:
            self._let_go()
            return
        self.thaw()
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(self.deadline)
        except subprocess.TimeoutExpired:
            self.kill9()
        self._let_go()

    def kill9(self) -> None:
        """End the program and its children at once, as a crash would; returns when they are gone."""
        if self._process is None or not self.alive:
            self._let_go()
            return
        process = self._process
        self.freeze()  # so that it starts no more children while we look for them
        family = [process.pid, *_descendants(process.pid)]
        for pid in family:
            _signal(pid, signal.SIGKILL)
        process.wait(self.deadline)
        self._await_end(family[1:])
        self._let_go()

    def freeze(self) -> None:
        """Stop the program and its children in their tracks: connections stay open and nobody answers."""
        pid = self._running().pid
        _signal(pid, signal.SIGSTOP)
        for child in _descendants(pid):
            _signal(child, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen program go on. Does nothing to one that was not frozen."""
        pid = self._running().pid
        for each in (*_descendants(pid), pid):
            _signal(each, signal.SIGCONT)

    def restart(self) -> Self:
        """Stop the program if it runs, and start it on the same port and data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop the program and remove its directory, unless that was given to us."""
        self.stop()
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self if self.alive else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answers(self) -> bool:
        """Whether the program serves now: here, whether it accepts a connection; servers ask for more."""
        with self.connect(timeout=1):
            return True

    def connect(self, timeout: float) -> socket.socket:
        """A new TCP connection to the program; `timeout` (seconds) holds for each later call, too."""
        return socket.create_connection((HOST, self.port), timeout)

    def _spawn(self, command: Sequence[str], *, start_new_session: bool = False) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env=None if self.environment is None else {**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=start_new_session,
                user=self.user,
                extra_groups=None if self.user is None else [],
            )

    def _run(self, command: Sequence[str]) -> None:
        """Run a program that prepares the data and ends by itself. Raises StartFailed."""
        process = self._spawn(command)
        try:
            code = process.wait(self.deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise StartFailed(command[0], f"took longer than {self.deadline} s", self._log_tail()) from None
        if code != 0:
            raise StartFailed(command[0], f"ended with code {code}", self._log_tail())

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + self.deadline
        while time.monotonic() < end:
            if process.poll() is not None:
                raise StartFailed(self.name, f"ended with code {process.returncode}", self._log_tail())
            try:
                if self.answers():
                    return
            except OSError:
                pass  # not listening yet, or listening and not yet serving
            time.sleep(_POLL_SECONDS)
        raise StartFailed(self.name, f"did not answer within {self.deadline} s", self._log_tail())

    def _await_end(self, pids: Sequence[int]) -> None:
        # They are not our children, so there is nothing to wait on but their absence.
        end = time.monotonic() + self.deadline
        while any(_exists(pid) for pid in pids):
            if time.monotonic() > end:
                raise TimeoutError(f"children of {self.name} survived SIGKILL for {self.deadline} s")
            time.sleep(_POLL_SECONDS)

    def _running(self) -> subprocess.Popen[bytes]:
        # The pid of one that has ended may be another's by now, so it must not be signalled.
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process

    def _let_go(self) -> None:
        """Release the leash of a program that has ended: its pid may soon be another's."""
        if self._leash is not None:
            self._leash.communicate(b"\n", timeout=self.deadline)
            self._leash = None

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace") if self.log.exists() else ""


def _leash(pid: int) -> subprocess.Popen[bytes]:
    """A shell that kills the process group `pid` unless it reads a line before the end of its input."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r line || kill -9 "-$1"', "leash", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C at the terminal must not take the leash first
    )


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    """The children of `pid` and theirs. Empty where there is no /proc to tell."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state parent ...", and the name may hold anything, brackets too
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue  # ended while we looked
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(pid, []))
    for child in found:  # grows as it goes
        found += children.get(child, [])
    return found


def _exists(pid: int) -> bool:
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        threads = len(list((process / "task").iterdir()))
    except OSError:
        return False
    # A zombie holds no file and no port, unless it is but the first thread of a process that still ends.
    return state != "Z" or threads > 1
