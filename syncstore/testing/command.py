"""The command `syncstore` as a person runs it: the installed script, in a folder, with a clean environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from syncstore.testing.processes import HOST, ChildProcess, free_port

SCRIPT = Path(sys.executable).with_name("syncstore")
_DEADLINE = 60.0


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment with these settings of syncstore and no other."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("SYNCSTORE_")}
    return ours | dict(settings or {})


class Folder:
    """A folder where commands run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self, *words: str, command: Sequence[str | Path] = (SCRIPT,), given: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run to its end: `run("purge", "--once", SYNCSTORE_PURGE__STEP="1")`. Output is text.

        `given` is what its standard input has.
        """
        return subprocess.run(
            [*map(str, command), *words],
            cwd=self.path,
            env=environment(settings),
            input=given,
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start and return at once; its standard error goes where its standard output goes."""
        return subprocess.Popen(
            [str(SCRIPT), *words],
            cwd=self.path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def serve(self, *words: str, port: int | None = None, **settings: str) -> Served:
        """`syncstore serve`, not yet started."""
        return Served(self.path, words, settings, port or free_port())


class Served(ChildProcess):
    """A running `syncstore serve`. What a person would see of it is in `log`."""

    def __init__(self, folder: Path, words: Sequence[str], settings: Mapping[str, str], port: int) -> None:
        command = [str(SCRIPT), "serve", "--bind", f"{HOST}:{port}", *words]
        super().__init__("serve", command, port, directory=folder, environment=settings)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://{HOST}:{self.port}"

    def answers(self) -> bool:
        with self.connect(timeout=5) as connection:
            connection.sendall(b"GET /__heartbeat__ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in connection.recv(64)

    def end(self, number: signal.Signals) -> int:
        """Send it a signal and wait for its end; its exit code."""
        process = self._process
        assert process is not None
        process.send_signal(number)
        return process.wait(self.deadline)

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(word) for word in text.split()]
