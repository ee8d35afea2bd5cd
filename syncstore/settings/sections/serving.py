"""The keys of what is answered besides, what is purged, and `syncstore serve`."""

from __future__ import annotations

from dataclasses import dataclass

from syncstore.settings import values
from syncstore.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class ServingKeys:
    """The keys of what is answered besides, what is purged, and `syncstore serve`."""

    retry_after_conflict: int = setting(
        "retry_after.conflict",
        values.number(1, 86400),
        10,
        "Seconds of Retry-After when another writer was at work.",
    )
    retry_after_outage: int = setting(
        "retry_after.outage",
        values.number(1, 86400),
        60,
        "Seconds of Retry-After when the database does not answer.",
    )
    backoff: int = setting(
        "backoff.seconds",
        values.number(0, 86400),
        0,
        "When above 0, X-Weave-Backoff asks clients to come back later than this.",
    )
    backoff_probability: float = setting(
        "backoff.probability",
        values.share,
        1.0,
        "The share of answers that carry X-Weave-Backoff, from 0 to 1.",
    )

    # -- what else the web answers
    cors_max_age: int = setting(
        "cors.max_age", values.number(1), 1_728_000, "Seconds for which a browser may keep a CORS preflight."
    )
    alert: str = setting(
        "alert",
        values.header_line,
        "",
        "Text of X-Weave-Alert, shown to users by their clients; empty for none.",
    )
    block_old_ios: bool = setting(
        "block_old_ios",
        values.flag,
        False,
        "Whether Firefox for iOS before version 20, which crashes on some answers, is kept out with 503.",
    )
    version_file: str = setting(
        "version_file", values.text, "", "A JSON file that /__version__ answers; empty for a 404."
    )

    # -- purge
    purge_interval: float = setting(
        "purge.interval",
        values.seconds(0, 604800),
        0.0,
        "Seconds between purges inside the serving process; 0 leaves it to `syncstore purge`.",
    )
    purge_grace: int = setting(
        "purge.grace",
        values.number(0, 10**9),
        86400,
        "Seconds for which an expired item or batch is kept before it is purged.",
    )
    purge_step: int = setting(
        "purge.step", values.number(1, 100_000), 1000, "Rows or users that one step of a purge looks at."
    )

    # -- syncstore serve
    bind: values.Address = setting(  # noqa: RUF009 - `setting` makes a field, and an values.Address is immutable
        "serve.bind",
        values.parse_address,
        values.Address("127.0.0.1", 8000),
        "HOST:PORT that `syncstore serve` listens on.",
        shown="`127.0.0.1:8000`",
    )
    workers: int = setting(
        "serve.workers", values.number(1, 1024), 1, "Processes of `syncstore serve`: one per core."
    )
    threads: int = setting(
        "serve.threads",
        values.number(0, 256),
        0,
        "Threads in each process, which overlap their waits for the database; 0 chooses 2 for SQLite, which has "
        "few waits to overlap, and 4 for the others.",
    )
