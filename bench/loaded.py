"""The measurement under load: all servers up, operations in turn, rounds interleaved.

A machine's speed drifts; so round one of everything is measured, then round two: a drift hits all rows alike
and shows in their ranges, instead of making the last row look slow.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.client import HTTPSender
from bench.cpu import pinned, tree_seconds
from bench.operations import OPERATIONS, Ground, Operation
from bench.replay import run_wrk, write_requests
from bench.samples import Row, Sample
from bench.seeding import seed, send_checked
from bench.signing import make_users
from bench.stack import Running, running


@dataclass(frozen=True)
class Load:
    """How to measure: the options of the command line, in their units (seconds, counts)."""

    databases: Sequence[str]
    operations: Sequence[str]
    seconds: float
    rounds: int
    connections: int
    users: int
    threads: int | None
    server: str
    python: str
    server_cpus: set[int] | None = None
    client_cpus: set[int] | None = None


@dataclass(frozen=True)
class _Target:
    database: str
    server: Running
    ground: Ground
    directory: Path


def measure(load: Load, progress: Callable[[str], None]) -> list[Row]:
    """Start, seed, measure, stop. Raises StartFailed, ProgramMissing, SeedingError, ReplayError."""
    rows = {
        (database, name): Row(database, name, OPERATIONS[name].expected, OPERATIONS[name].per_unit)
        for database in load.databases
        for name in load.operations
    }
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncstore-bench-")))
        targets = []
        for database in load.databases:
            progress(f"{database}: starting the servers")
            directory = scratch / database
            directory.mkdir()
            with pinned(load.server_cpus):
                server = stack.enter_context(
                    running(database, directory, server=load.server, python=load.python, threads=load.threads)
                )
            progress(f"{database}: seeding {load.users} users")
            ground = seed(HTTPSender(server.url), make_users(load.users, server.url), load.seconds)
            targets.append(_Target(database, server, ground, directory))
            for name in load.operations:
                requests = OPERATIONS[name].requests(ground)
                write_requests(directory / name, requests, server.url)
        for number in range(1, load.rounds + 1):
            for name in load.operations:
                for target in targets:
                    sample = _run(OPERATIONS[name], target, load)
                    rows[target.database, name].samples.append(sample)
                    verdict = sample.complaint or f"{sample.server_us:.1f} us"
                    progress(f"round {number}/{load.rounds} {target.database} {name}: {verdict}")
    return list(rows.values())


def _run(operation: Operation, target: _Target, load: Load) -> Sample:
    server = target.server
    if operation.prepare is not None:
        send_checked(HTTPSender(server.url), operation.prepare(target.ground))
    server_before, database_before = tree_seconds(server.server_pids), tree_seconds(server.database_pids)
    with pinned(load.client_cpus):
        seen = run_wrk(
            target.directory / operation.name,
            server.url,
            expected=operation.expected,
            seconds=load.seconds,
            connections=load.connections,
            once=operation.once,
        )
    server_used = tree_seconds(server.server_pids) - server_before
    database_used = tree_seconds(server.database_pids) - database_before
    answers = max(seen.answers, 1)
    return Sample(
        server_us=server_used / answers * 1e6,
        database_us=database_used / answers * 1e6 if server.database_pids else None,
        rate=seen.answers / seen.duration,
        p50=seen.p50,
        p99=seen.p99,
        complaint=seen.complaint,
    )
