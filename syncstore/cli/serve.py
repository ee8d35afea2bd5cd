"""`syncstore serve`: the production server, granian in WSGI mode, one process per worker."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from syncstore.cli import loading
from syncstore.errors import ConfigError

_STOP_SECONDS = 20


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser("serve", help="serve the storage API")
    loading.add_config(parser)
    parser.add_argument("--bind", metavar="HOST:PORT", help="where to listen, instead of serve.bind")
    parser.add_argument("--workers", type=int, metavar="N", help="processes, instead of serve.workers")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads per process, instead of serve.threads"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check everything once, here, where a person reads it; then start the workers and watch over them."""
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces

    from syncstore.app import open_secrets, prepare_database

    path = loading.find(options.config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    host, port = split_bind(options.bind or settings.bind)
    prepare_database(settings)
    open_secrets(settings)
    if path is not None:
        os.environ[loading.ENVIRONMENT_KEY] = str(path.resolve())
    workers = options.workers or settings.workers
    print(f"syncstore listens on http://{host}:{port} with {workers} worker(s)", file=sys.stderr, flush=True)
    Granian(
        "syncstore.cli.serve:worker",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=options.threads or settings.threads,
        http=HTTPModes.http1,
        websockets=False,
        backlog=2048,
        respawn_failed_workers=True,
        respawn_interval=1.0,
        workers_kill_timeout=_STOP_SECONDS,
        log_enabled=False,
    ).serve()
    return 0


def worker() -> Any:
    """The application of one worker process."""
    from syncstore.app import build
    from syncstore.clock import SystemClock

    config = os.environ.get(loading.ENVIRONMENT_KEY)
    path = Path(config) if config else None
    loading.set_up_logging(path)
    return build(loading.load(path), SystemClock())


def split_bind(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, [IPv6]:PORT or PORT. Raises ConfigError."""
    host, _, port = text.strip().rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"serve.bind = {text}: must be HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)
