"""Processes that count together in a stored item: each reads the number and writes the next one, under the lock.

What is not exclusive loses some. No precondition helps: only the lock makes the sum right.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from syncstore.app import open_database, open_locks, open_storage
from syncstore.app_cache import open_layer
from syncstore.bso import Change
from syncstore.clock import SystemClock
from syncstore.errors import Conflict, NotFound
from syncstore.locks.api import Locks
from syncstore.settings import read_settings
from syncstore.storage.api import Storage

_ITEM = "n"


def count_together(
    ini: Mapping[str, str], uid: int, collection: str, *, processes: int, rounds: int, timeout: float
) -> int:
    """Let so many processes count up so many times; the number that stands there in the end."""
    context = multiprocessing.get_context("spawn")
    counting = [
        context.Process(target=_count, args=(dict(ini), uid, collection, rounds)) for _ in range(processes)
    ]
    try:
        for process in counting:
            process.start()
        for process in counting:
            process.join(timeout)
            if process.exitcode != 0:
                raise AssertionError(f"a counting process ended with {process.exitcode}")
    finally:
        for process in counting:
            process.kill()
    with _opened(ini) as (_, storage):
        return _number(storage, uid, collection)


class _Opened(NamedTuple):
    locks: Locks
    storage: Storage


@contextmanager
def _opened(ini: Mapping[str, str]) -> Iterator[_Opened]:
    clock = SystemClock()
    settings = read_settings(ini, {}, Path.cwd())
    with ExitStack() as stack:
        database, statements = open_database(settings)
        stack.callback(database.close)
        locks = open_locks(settings, database, clock)
        stack.callback(locks.close)
        layer = open_layer(settings, open_storage(settings, database, statements, locks, clock), clock)
        stack.callback(layer.stop)
        yield _Opened(locks, layer.storage)


def _count(ini: Mapping[str, str], uid: int, collection: str, rounds: int) -> None:
    left = rounds
    with _opened(ini) as (locks, storage):
        while left:
            try:
                with locks.write(uid, collection):
                    number = _number(storage, uid, collection)
                    with storage.lock_for_write(uid, collection, (_ITEM,), create=True) as work:
                        work.put([Change(_ITEM, str(number + 1))])
            except Conflict:
                continue  # others had it all the time
            left -= 1


def _number(storage: Storage, uid: int, collection: str) -> int:
    try:
        return int(storage.item(uid, collection, _ITEM).payload)
    except NotFound:
        return 0
