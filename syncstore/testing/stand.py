"""A syncstore, an nginx before it with TLS, and the doctor as a person calls it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from syncstore.cli import main
from syncstore.testing.certificates import Certificate
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import NginxServer
from syncstore.testing.service import SECRET, SyncServer, write_ini

# What stands before the location in each configuration here.
SERVER = """server {{
    listen {host}:{port} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    client_max_body_size 3m;
    {location}
}}"""


class Diagnosis(NamedTuple):
    """What the doctor printed: the lines by what was looked at, and its exit code."""

    code: int
    lines: dict[str, str]

    @property
    def faults(self) -> dict[str, str]:
        """The lines that do not end in ok."""
        return {subject: advice for subject, advice in self.lines.items() if advice != "ok"}

    def advice(self, subject: str) -> str:
        """What the line of `subject` says; it must be the only fault, and the code must say that there is one."""
        assert list(self.faults) == [subject], self
        assert self.code == 1
        return self.faults[subject]


class Running(NamedTuple):
    """A server with the settings that were added for it, and the port that its proxies listen on in turn."""

    server: SyncServer
    settings: dict[str, str]
    proxy_port: int


class Servers:
    """Starts one server for each set of settings, and keeps it for whoever asks for the same."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[frozenset[tuple[str, str]], Running] = {}

    def get(self, settings: Mapping[str, str]) -> Running:
        """The server with these settings; PROXY in a value stands for the port of its proxies."""
        key = frozenset(settings.items())
        if key not in self._running:
            port = free_port()
            database = f"sqlite:///{self._folder / f'sync{port}.db'}"
            filled = {name: value.replace("PROXY", str(port)) for name, value in settings.items()}
            server = self._stack.enter_context(SyncServer(database, filled, workers=1))
            self._running[key] = Running(server, {"sqlalchemy.url": database, **filled}, port)
        return self._running[key]


class Stand:
    """A server, a proxy before it and the doctor, for one test. The proxy is stopped at its end."""

    def __init__(self, folder: Path, certificate: Certificate, servers: Servers, stack: ExitStack) -> None:
        self.certificate = certificate
        self.ini: dict[str, str] = {}
        self.port = 0
        self.upstream = ""
        self._path = folder / "syncstore.ini"
        self._servers = servers
        self._stack = stack

    def syncstore(self, settings: Mapping[str, str] | None = None) -> None:
        """Let there be a server with these settings, and give them to the doctor, too."""
        running = self._servers.get(settings or {})
        self.port = running.proxy_port
        self.upstream = f"{HOST}:{running.server.port}"
        self.write({"auth.secrets": SECRET, "serve.bind": self.upstream, **running.settings})

    def write(self, ini: dict[str, str]) -> None:
        """Write the ini file that the doctor reads."""
        self.ini = ini
        write_ini(self._path, ini)

    def change(self, **settings: str) -> None:
        """Change some settings of the doctor, two underscores standing for a dot, and not those of the server."""
        self.write({**self.ini, **{key.replace("__", "."): value for key, value in settings.items()}})

    def nginx(self, config: str) -> None:
        """Start an nginx with these `server` blocks, one of which listens on `port`."""
        self._stack.enter_context(started(lambda: NginxServer(config, self.port)))

    def proxy(self, location: str) -> str:
        """Start an nginx with TLS and this location, UPSTREAM standing for the server; its address."""
        certificate, key = self.certificate
        text = location.replace("UPSTREAM", self.upstream)
        self.nginx(SERVER.format(host=HOST, port=self.port, certificate=certificate, key=key, location=text))
        return f"https://localhost:{self.port}"

    def doctor(self, *words: str, trusting: bool = True) -> Diagnosis:
        """Call the doctor, who trusts the certificate."""
        ca = ["--ca", str(self.certificate.certificate)] if trusting else []
        output = io.StringIO()
        with redirect_stdout(output):
            code = main(["doctor", "--config", str(self._path), *ca, *words])
        # A subject may hold a URL, whose colons are not followed by a blank.
        return Diagnosis(code, dict(line.split(": ", 1) for line in output.getvalue().splitlines()))
