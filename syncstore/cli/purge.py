"""`syncstore purge`: delete what has expired or was replaced, once or again and again, in small steps."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from syncstore.cli import loading
from syncstore.cli.arguments import seconds
from syncstore.clock import SystemClock
from syncstore.errors import Unavailable
from syncstore.settings import Settings
from syncstore.storage.api import Storage
from syncstore.tokenserver.errors import TokenError

_PAUSE_SECONDS = 0.05
_INTERVAL_SECONDS = 3600.0


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "purge", help="delete what has expired or was replaced"
    )
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
    parser.add_argument(
        "--force", action="store_true", help="forget replaced users of nodes that are down, too"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make one pass, or passes until stopped."""
    from syncstore.app import prepare_database

    path = loading.find(options.config)
    loading.set_up_logging(path)
    settings = loading.load(path)
    prepare_database(settings)
    interval = options.interval or settings.purge_interval or _INTERVAL_SECONDS
    with _opened(settings, force=options.force) as (purge, replaced):
        while True:
            try:
                _one_pass(purge)
                if replaced is not None:
                    _forget_replaced(replaced)
            except (Unavailable, TokenError) as error:
                if options.once:
                    raise
                print(f"the pass ended early: {error}", file=sys.stderr)
            if options.once:
                return 0
            time.sleep(interval)


@contextmanager
def _opened(settings: Settings, *, force: bool) -> Iterator[tuple[Any, Any]]:
    """The purge of the storage, and that of replaced users or None where there is no token server."""
    from syncstore import app, app_cache, app_tokenserver

    clock = SystemClock()
    with ExitStack() as opened:
        database, statements = app.open_database(settings)
        opened.callback(database.close)
        locks = app.open_locks(settings, database, clock)
        opened.callback(locks.close)
        purge = app.open_purge(settings, database, statements, locks, clock)
        if not settings.tokenserver:
            yield purge, None
            return
        connections = app_tokenserver.open_connections(settings)
        opened.callback(connections.close)
        below = app.open_storage(settings, database, statements, locks, clock)
        storage: Storage = below
        # A memory belongs to the process that serves. What it remembers of a replaced user nobody asks for.
        if settings.cache_provider != "memory":
            layer = app_cache.open_layer(settings, below, clock)
            storage = layer.storage
            opened.callback(storage.close)
            opened.callback(layer.stop)
        secrets = app.open_secrets(settings)
        yield (
            purge,
            app_tokenserver.open_replaced_users(settings, connections, storage, secrets, clock, force=force),
        )


def _forget_replaced(replaced: Any) -> None:
    deleted = skipped = 0
    for step in replaced.steps():
        deleted += step.deleted
        skipped += step.skipped
        time.sleep(_PAUSE_SECONDS)
    print(f"forgot {deleted} replaced users, left {skipped} for later", flush=True)


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
