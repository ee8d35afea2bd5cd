"""`syncstore purge`: delete what has expired, once or again and again, in small steps."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from syncstore.cli import loading
from syncstore.cli.arguments import seconds
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable

_PAUSE_SECONDS = 0.05
_INTERVAL_SECONDS = 3600.0


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser("purge", help="delete expired items and batches")
    loading.add_config(parser)
    parser.add_argument(
        "--once", action="store_true", help="make one pass and end; else a pass every --interval"
    )
    parser.add_argument(
        "--interval",
        type=seconds(1, 604_800),
        metavar="SECONDS",
        help="between passes, instead of purge.interval (3600 where that is 0)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make one pass, or passes until stopped."""
    from syncstore.app import open_database, open_purge, prepare_database
    from syncstore.locks.api import Locks
    from syncstore.locks.sql import SqlLocks

    path = loading.find(options.config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    prepare_database(settings)
    interval = options.interval or settings.purge_interval or _INTERVAL_SECONDS
    clock = SystemClock()
    database, statements = open_database(settings)
    locks = Locks(SqlLocks(database), clock, settings.lock_timeout)
    purge = open_purge(settings, database, statements, locks, clock)
    try:
        while True:
            try:
                _one_pass(purge)
            except Unavailable as error:
                if options.once:
                    raise
                print(f"the pass ended early: {error}", file=sys.stderr)
            if options.once:
                return 0
            time.sleep(interval)
    finally:
        database.close()


def _one_pass(purge: Any) -> None:
    users = items = batches = skipped = 0
    watched = sys.stderr.isatty()
    for step in purge.steps():
        users += step.users
        items += step.items
        batches += step.batches
        skipped += step.skipped
        if watched:
            print(f"\r{users} users, {items} items, {batches} batches", end="", file=sys.stderr, flush=True)
        time.sleep(_PAUSE_SECONDS)  # leaves room for the requests of clients between steps
    if watched:
        print(file=sys.stderr)
    print(
        f"purged {items} items and {batches} batches, looked at {users} users, left {skipped} busy ones for later",
        flush=True,
    )
