"""The keys of the database."""

from __future__ import annotations

from dataclasses import dataclass

from syncstore.settings import values
from syncstore.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class DatabaseKeys:
    """The keys of the database."""

    sqlalchemy_url: str = setting(
        "sqlalchemy.url",
        values.text,
        "",
        shown="`sqlite:///<here>/var/sync.db`",
        secret=True,
        doc="The database: sqlite, mysql, mariadb or postgresql, as SQLAlchemy writes URLs.",
    )
    pool_size: int = setting(
        "sqlalchemy.pool_size", values.number(1, 1000), 8, "Database connections that a process keeps open."
    )
    max_overflow: int = setting(
        "sqlalchemy.max_overflow",
        values.number(0, 1000),
        16,
        "Further connections that it may open under load.",
    )
    pool_timeout: float = setting(
        "sqlalchemy.pool_timeout",
        values.seconds(0, 60),
        5.0,
        "Seconds that a request waits for a free connection before it answers 503.",
    )
    connect_timeout: float = setting(
        "database.connect_timeout",
        values.seconds(1, 60),
        5.0,
        "Seconds to wait for a new database connection.",
    )
    answer_timeout: float = setting(
        "database.answer_timeout",
        values.seconds(1, 600),
        30.0,
        "Seconds to wait for the answer to one statement before the connection is given up.",
    )
    migrate: str = setting(
        "migrate",
        values.one_of("auto", "check"),
        "check",
        "What to do at start with a database of an older schema: `auto` brings it up to date, `check` will not start. "
        "A database without tables is set up by either.",
    )
