"""The command line: `python -m bench`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import inprocess, loaded, samples
from bench.operations import OPERATIONS
from bench.replay import ReplayError
from bench.report import table
from bench.samples import Row
from bench.seeding import SeedingError
from bench.stack import DATABASES, SERVERS
from syncstore.testing.processes import ProgramMissing, StartFailed


def parser() -> argparse.ArgumentParser:
    """The options, for the parser and for `--help`."""
    made = argparse.ArgumentParser(
        prog="python -m bench",
        description="What each operation of the storage API costs, in CPU per request.",
    )
    add = made.add_argument
    add("--databases", type=_names(DATABASES), default=list(DATABASES), metavar="A,B")
    add("--operations", type=_names(OPERATIONS), default=list(OPERATIONS), metavar="A,B",
        help=f"of: {', '.join(OPERATIONS)}")  # fmt: skip
    add("--seconds", type=int, default=2, help="length of a round of one operation (whole seconds)")
    add("--rounds", type=int, default=3, help="interleaved; the table has median, least and greatest")
    add("--connections", type=int, default=8)
    add("--users", type=int, default=2000, help="a user can write at most 100 times a second")
    add("--threads", type=int, help="threads of the worker (default: the server's own)")
    add("--server", choices=SERVERS, default="granian")
    add("--python", default=sys.executable, help="interpreter beside which the server's commands are")
    add("--pin", action="store_true", help="servers on the first CPU, wrk on the last")
    add("--json", type=Path, metavar="FILE", help="keep the run for a later --baseline")
    add("--baseline", type=Path, metavar="FILE", help="show ratios of the server's CPU to this run")
    add("--in-process", action="store_true", help="call the WSGI app directly, without servers")
    add("--requests", type=int, default=2000, help="in-process: calls per round")
    add("--profile", action="store_true", help="in-process: print where the time goes")
    return made


def _names(known: Sequence[str] | dict[str, Any]) -> Any:
    def names(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return chosen

    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print; 1 when a row failed or nothing could be measured."""
    options = parser().parse_args(arguments)
    baseline = samples.read(options.baseline) if options.baseline else None
    if os.getloadavg()[0] > 1:
        _progress(f"the machine is busy (load {os.getloadavg()[0]:.1f}): figures will be too high")
    try:
        rows = _in_process(options) if options.in_process else _loaded(options)
    except (ProgramMissing, StartFailed, SeedingError, ReplayError) as error:
        _progress(f"{type(error).__name__}: {error}")
        return 1
    if options.json:
        samples.write(options.json, rows, _about(options))
    print(table(rows, baseline))
    return 1 if any(row.complaint for row in rows) else 0


def _loaded(options: argparse.Namespace) -> list[Row]:
    cpus = sorted(os.sched_getaffinity(0))
    load = loaded.Load(
        databases=options.databases,
        operations=options.operations,
        seconds=options.seconds,
        rounds=options.rounds,
        connections=options.connections,
        users=options.users,
        threads=options.threads,
        server=options.server,
        python=options.python,
        server_cpus={cpus[0]} if options.pin else None,
        client_cpus={cpus[-1]} if options.pin else None,
    )
    return loaded.measure(load, _progress)


def _in_process(options: argparse.Namespace) -> list[Row]:
    # late: it costs half a second, which is nobody's business under load
    from syncstore.app import make_app

    return [
        row
        for kind in options.databases
        for row in inprocess.measure(
            make_app,
            kind,
            options.operations,
            users=options.users,
            requests=options.requests,
            rounds=options.rounds,
            profile=options.profile,
            progress=_progress,
        )
    ]


def _about(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        "options": {name: str(value) for name, value in vars(options).items()},
    }


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
