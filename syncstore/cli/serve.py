"""`syncstore serve`: the production server, granian in WSGI mode, one process per worker."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from syncstore.cli import loading
from syncstore.cli.arguments import whole
from syncstore.errors import ConfigError
from syncstore.settings import Address, Settings, parse_address

_STOP_SECONDS = 20


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser("serve", help="serve the storage API")
    loading.add_config(parser)
    parser.add_argument(
        "--bind", type=_address, metavar="HOST:PORT", help="where to listen, instead of serve.bind"
    )
    parser.add_argument(
        "--workers", type=whole(1, 1024), metavar="N", help="processes, instead of serve.workers"
    )
    parser.add_argument(
        "--threads", type=whole(1, 256), metavar="N", help="threads per process, instead of serve.threads"
    )
    parser.set_defaults(run=run)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def run(options: argparse.Namespace) -> int:
    """Check everything once, here, where a person reads it; then start the workers and watch over them."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces

    from syncstore.app import check, open_secrets, prepare_database

    path = loading.find(options.config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    if options.workers:
        settings = replace(settings, workers=options.workers)  # with the checks of what goes together
    asked = options.bind or settings.bind
    address = listening_address(asked)
    check(settings)
    prepare_database(settings)
    open_secrets(settings)
    if path is not None:
        os.environ[loading.ENVIRONMENT_KEY] = str(path.resolve())
    server = Granian(
        "syncstore.cli.serve:worker",
        factory=True,
        address=address.host,
        port=address.port,
        interface=Interfaces.WSGI,
        workers=settings.workers,
        blocking_threads=options.threads or settings.threads or _threads_for(settings),
        http=HTTPModes.http1,
        websockets=False,
        backlog=2048,
        respawn_failed_workers=True,
        respawn_interval=1.0,
        workers_kill_timeout=_STOP_SECONDS,
        log_enabled=False,
    )
    # Told when the signals that end it are understood and the port is taken.
    server.on_startup(lambda: _announce(settings, path, asked))
    server.serve()
    return 0


def _announce(settings: Settings, path: Path | None, address: Address) -> None:
    from syncstore.app import secret_path, shown_database

    workers = settings.workers
    given = settings.secrets or settings.master_secrets or settings.node_secrets
    # fmt: off
    print(
        f"syncstore serves {address.url}, {workers} worker{'s' if workers > 1 else ''}\n"
        f"  settings  {path.resolve() if path else 'of the environment'}\n"
        f"  data      {shown_database(settings)}\n"
        f"  secret    {'in the settings' if given else secret_path(settings)}",
        file=sys.stderr, flush=True,
    )
    # fmt: on


def _threads_for(settings: Settings) -> int:
    """How many threads pay: with SQLite they mostly hand the interpreter's lock to each other."""
    from syncstore.databases import storage_tables

    return 2 if storage_tables(settings).url.get_backend_name() == "sqlite" else 4


def worker() -> Any:
    """The application of one worker process. The database was prepared before there were workers."""
    _die_when_asked()
    loading.ignore_known_warnings()
    from syncstore.app import build
    from syncstore.clock import SystemClock

    config = os.environ.get(loading.ENVIRONMENT_KEY)
    path = Path(config) if config else None
    loading.set_up_logging(path)
    return build(loading.load(path), SystemClock())


def _die_when_asked() -> None:
    """A worker that is still starting ends at once.

    A forked one has the handlers of its parent, which do nothing in it, until granian sets the worker's own; a
    SIGTERM in this second would be lost, and the end of the server would wait for its deadline.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the parent hears, too, and it ends us


def listening_address(address: Address) -> Address:
    """The number behind a host name, once it is sure that nobody listens there. Raises ConfigError.

    The workers share their port through SO_REUSEPORT, which would let a second server share it, too, and take
    half of the requests; so a socket without that option asks first.
    """
    host = "0.0.0.0" if address.host == "*" else address.host  # noqa: S104 - only where the operator says so
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except socket.gaierror as error:
        raise ConfigError(
            f"serve.bind = {address}: {address.host} has no address: {error.strerror}"
        ) from None
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.EADDRINUSE:
            reason = "another program listens there"
        elif error.errno == errno.EACCES:
            reason = "ports below 1024 are for root"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = "this machine does not have that address"
        raise ConfigError(f"serve.bind = {address}: {reason}") from None
    return Address(str(place[0]), address.port)
