"""What the commands of `syncstore cache` work with: the memcacheds of the settings, over their database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from syncstore.cli import loading

if TYPE_CHECKING:
    from syncstore.app_cache_tools import AllTools
    from syncstore.locks.api import Locks
    from syncstore.settings import Settings
    from syncstore.storage.sql.store import SqlStorage


class Opened(NamedTuple):
    """What a command works with."""

    settings: Settings
    locks: Locks
    below: SqlStorage
    tools: AllTools


@contextmanager
def opened_tools(config: str | None) -> Iterator[Opened]:
    """The tools for the settings, over a database that is prepared. Raises ConfigError."""
    from syncstore import app, app_cache_tools
    from syncstore.clock import SystemClock

    settings = loading.load(loading.find(config))
    app_cache_tools.check_tools(settings)
    logging.getLogger("syncstore").setLevel(logging.ERROR)  # the commands say themselves what happens
    clock = SystemClock()
    database, statements = app.open_database(settings)
    locks = app.open_locks(settings, database, clock)
    below = app.open_storage(settings, database, statements, locks, clock)
    try:
        app.prepare_database(settings)
        tools = app_cache_tools.open_tools(settings, below, clock)
        try:
            yield Opened(settings, locks, below, tools)
        finally:
            tools.close()
    finally:
        locks.close()
        database.close()
