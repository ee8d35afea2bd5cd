"""Which processes of this machine serve a database: one that has a memory of it, or any number without.

A process that writes beside another one's memory makes what that one remembers wrong. So each locks a file that
belongs to the database: alone with `cache.provider = memory`, else shared. The lock ends with the process; what it
cannot see is another machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from pathlib import Path

from sqlalchemy import URL

from syncstore.databases import storage_tables
from syncstore.errors import ConfigError
from syncstore.settings import Settings

log = logging.getLogger(__name__)


def claim_alone(settings: Settings) -> int:
    """Be the only process that serves the database; the file that is locked. Raises ConfigError."""
    path = claim_file(settings)
    try:
        file = _opened(path)
    except OSError as error:
        raise ConfigError(f"cache.provider = memory: {path} cannot be opened: {error.strerror}") from error
    if not _locked(file, fcntl.LOCK_EX):
        raise ConfigError(
            "cache.provider = memory is for one process, and another one serves this database already: "
            "stop that one, or set cache.provider = memcached, or none"
        )
    return file


def claim_shared(settings: Settings) -> int | None:
    """Serve the database beside others; the file that is locked.

    None where there can be no such file, as in a folder that cannot be written. Raises ConfigError when another
    process has a memory.
    """
    path = claim_file(settings)
    try:
        file = _opened(path)
    except OSError as error:
        log.info("other processes on this database are not looked for: %s: %s", path, error.strerror)
        return None
    if not _locked(file, fcntl.LOCK_SH):
        raise ConfigError(
            "another process serves this database with cache.provider = memory, which has to be the only one: "
            "stop that one first"
        )
    return file


def is_last(claim: int | None) -> bool:
    """Whether no other process of this machine serves the database; False where that is not known."""
    if claim is None:
        return False
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def claim_file(settings: Settings) -> Path:
    """The file: beside an SQLite database, else in `var` beside the ini file."""
    url: URL = storage_tables(settings).url
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(f"{os.path.realpath(url.database)}.cache-lock")
    name = hashlib.sha256(url.render_as_string(hide_password=True).encode()).hexdigest()[:16]
    return settings.here / "var" / f"{name}.cache-lock"


def _opened(path: Path) -> int:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _locked(file: int, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    return True
