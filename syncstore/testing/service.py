"""The product itself as a child process: `syncstore serve` on a port and an ini file of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from syncstore.testing.processes import HOST, ChildProcess, _descendants, free_port

SECRET = "a-secret-of-the-fault-tests"
_START = "import sys; from syncstore.cli import main; sys.exit(main(sys.argv[1:]))"
_LOGGING = """
[loggers]
keys = root, syncstore
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers = console
[logger_syncstore]
level = INFO
handlers =
qualname = syncstore
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(asctime)s %(levelname)s %(name)s: %(message)s
"""


def write_ini(path: Path, settings: Mapping[str, str], server: str = "") -> None:
    """An ini file with these settings of the app, `server` as its `[server:main]`, and a log on standard error."""
    lines = [f"{key} = {value.replace('%', '%%')}" for key, value in settings.items()]
    text = "[app:main]\nuse = egg:syncstore\n" + "\n".join(lines) + "\n" + server + _LOGGING
    path.write_text(text, encoding="utf-8")


class SyncServer(ChildProcess):
    """`syncstore serve` over `database_url`; `settings` are added to the ini file."""

    def __init__(
        self,
        database_url: str,
        settings: Mapping[str, str] | None = None,
        *,
        workers: int = 2,
        port: int | None = None,
    ) -> None:
        port = port or free_port()
        # fmt: off
        command = [
            sys.executable, "-c", _START, "serve", "--config", "syncstore.ini", "--bind", f"{HOST}:{port}",
            "--workers", str(workers),
        ]
        # fmt: on
        path = os.pathsep.join(filter(None, sys.path))
        super().__init__("syncstore", command, port, environment={"PYTHONPATH": path})
        ini = {"sqlalchemy.url": database_url, "auth.secrets": SECRET, "migrate": "auto"}
        write_ini(self.directory / "syncstore.ini", {**ini, **(settings or {})})

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://{HOST}:{self.port}"

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers."""
        mine = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        return [pid for pid in _descendants(self.pid) if _command(pid) == mine]

    def kill_worker(self) -> int:
        """Kill its oldest worker as a crash would; the pid. 0 when there is none at this moment."""
        workers = self.workers
        if not workers:
            return 0
        os.kill(workers[0], signal.SIGKILL)
        return workers[0]

    def answers(self) -> bool:
        with self.connect(timeout=5) as connection:
            connection.sendall(
                b"GET /__lbheartbeat__ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            return b" 200 " in connection.recv(64)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
