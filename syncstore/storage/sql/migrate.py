"""Bringing a database to the schema of this version, once, however many processes start together."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from syncstore.errors import ConfigError, Unavailable

log = logging.getLogger(__name__)

_LOCK_NAME = "syncstore_migrate"
_LOCK_NUMBER = 7_203_551  # PostgreSQL's advisory locks have numbers, this one is ours
_LOCK_SECONDS = 60
_POLL_SECONDS = 0.05


class Branch(NamedTuple):
    """One family of tables: the folder of its scripts below `migrations`, and the table that keeps its version.

    Two families may share a database and are brought up to date independently.
    """

    folder: str
    version_table: str


STORAGE = Branch("", "alembic_version")
TOKENSERVER = Branch("tokenserver", "tokenserver_version")


def scripts(of: Branch = STORAGE) -> ScriptDirectory:
    """The migration scripts: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[2]
    for root in (package / "migrations", package.parent / "migrations"):
        folder = root / of.folder
        if (folder / "versions").is_dir():
            config = Config()
            config.set_main_option("script_location", str(folder).replace("%", "%%"))
            config.set_main_option("path_separator", "os")
            return ScriptDirectory.from_config(config)
    raise ConfigError("the migrations are missing from this installation")


def newest(of: Branch = STORAGE) -> str:
    """The schema version that this code works with."""
    head = scripts(of).get_current_head()
    if head is None:
        raise ConfigError("the migrations are missing from this installation")
    return head


def version(url: str, of: Branch = STORAGE) -> str | None:
    """The schema version of the database; None when it was never set up."""
    try:
        with _engine(url).connect() as connection:
            return _current(connection, of)
    except (SQLAlchemyError, OSError) as error:
        raise Unavailable(
            f"the database cannot be asked for its schema version: {_first_line(error)}"
        ) from error


def settled_version(url: str, of: Branch = STORAGE) -> str | None:
    """The same while nobody migrates: one who sets up an empty database goes through every version there is.

    Waits for whoever is at it, up to a minute.
    """
    try:
        with _alone(url):
            return version(url, of)
    except (SQLAlchemyError, OSError) as error:
        raise Unavailable(
            f"the database cannot be asked for its schema version: {_first_line(error)}"
        ) from error


def _current(connection: Connection, of: Branch) -> str | None:
    options = {"version_table": of.version_table}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def upgrade(url: str, of: Branch = STORAGE) -> bool:
    """Bring the database up to date; whether there was anything to do.

    Processes that start together wait for the first one, up to a minute.
    """
    script = scripts(of)
    try:
        # Cheap and without a lock in the ordinary case.
        if version(url, of) == script.get_current_head():
            return False
        with _alone(url), _engine(url).connect() as connection:
            return _run(connection, script, of)
    except (SQLAlchemyError, OSError) as error:
        raise Unavailable(f"the migration failed: {_first_line(error)}") from error


def _run(connection: Connection, script: ScriptDirectory, of: Branch) -> bool:
    head = script.get_current_head()
    current = _current(connection, of)
    connection.rollback()
    if current == head:
        return False
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise ConfigError(
            f"the database has schema {current}, which is newer than this syncstore: upgrade it"
        )
    log.info("migrating the database from schema %s to %s", current or "nothing", head)

    def steps(revision: Any, _context: MigrationContext) -> Any:
        return script._upgrade_revs("head", revision)  # what alembic's own `upgrade` command calls

    options: dict[str, Any] = {
        "fn": steps,
        "script": script,
        "transaction_per_migration": True,
        "version_table": of.version_table,
    }
    if connection.dialect.name == "sqlite":
        options["transactional_ddl"] = True  # true of the engine below, which begins transactions itself
    context = MigrationContext.configure(connection, opts=options)
    with Operations.context(context):
        context.run_migrations()
    connection.commit()
    return True


def _engine(url: str) -> Engine:
    """An engine for this module alone: SQLAlchemy's own transactions, no pool left behind."""
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        Path(make_url(url).database or "").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The driver's own idea of transactions leaves DDL outside of them.
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Be the only process that migrates this database."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        with open(f"{parsed.database}.migrating", "w") as lock:
            _lock_file(lock)
            yield
        return
    with _engine(url).connect() as connection:
        if backend == "postgresql":
            connection.execute(text(f"SET lock_timeout = '{_LOCK_SECONDS}s'"))
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _LOCK_NUMBER})
        else:
            granted = connection.execute(
                text("SELECT GET_LOCK(CONCAT(:name, '.', DATABASE()), :seconds)"),
                {"name": _LOCK_NAME, "seconds": _LOCK_SECONDS},
            ).scalar()
            if granted != 1:
                raise _still_migrating()
        # Both locks belong to the session and go with the connection.
        yield
        connection.invalidate()


def _lock_file(file: IO[str]) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _still_migrating() from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _still_migrating() -> Unavailable:
    return Unavailable(f"another process has been migrating the database for {_LOCK_SECONDS} s", 60)


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).split("\n", 1)[0][:200]
