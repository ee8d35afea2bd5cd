"""What can go wrong, in the field's words, with the facts a log line or an answer needs.

Every class below is raised by storage, locks or authentication and turned into an HTTP answer in one
place, `syncstore.web.errors`. Two rules hold everywhere: "not found" is never a failure of a back end,
and a failure of a back end is never "not found".
"""

from __future__ import annotations


class SyncError(Exception):
    """The root of all errors that have an agreed HTTP answer."""


class InvalidRequest(SyncError):
    """The client's words cannot be understood: 400 with an integer body (sync-api section 15).

    `code` is that integer: 0 in general, 6 for text that is no JSON, 8 for an invalid BSO, 17 for a
    declared size over the limit. `reason` is for the log.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class Unauthorized(SyncError):
    """The request does not prove who sends it: 401, the signal to fetch a new token.

    `reason` names the failed check in a few words for the log and never holds a key or a token.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NotFound(SyncError):
    """The item is not there, or has expired: 404. A collection that is missing reads as empty instead."""


class InvalidBatch(InvalidRequest):
    """The batch is unknown, expired, committed, of another collection or of another user: 400 body 0."""


class PreconditionFailed(SyncError):
    """The resource changed after X-If-Unmodified-Since: 412.

    `modified` is the resource's time in ticks of 10 ms, 0 when it does not exist.
    """

    def __init__(self, modified: int) -> None:
        super().__init__(f"the resource was modified at tick {modified}")
        self.modified = modified


class NotModified(SyncError):
    """The resource did not change after X-If-Modified-Since: 304. `modified` is in ticks of 10 ms."""

    def __init__(self, modified: int) -> None:
        super().__init__(f"the resource was last modified at tick {modified}")
        self.modified = modified


class OverQuota(SyncError):
    """The write would take the user over the quota: 403 body 14. `used` and `quota` are bytes."""

    def __init__(self, used: int, quota: int) -> None:
        super().__init__(f"{used} bytes used of a quota of {quota}")
        self.used = used
        self.quota = quota


class TooLarge(SyncError):
    """The body exceeds `limit` bytes: 413 body 17, decided before the body is read whole."""

    def __init__(self, size: int | None, limit: int) -> None:
        super().__init__(f"a body of {'unknown' if size is None else size} bytes exceeds {limit}")
        self.size = size
        self.limit = limit


class UnsupportedMediaType(SyncError):
    """The body's Content-Type cannot be read here: 415 body 0."""

    def __init__(self, content_type: str) -> None:
        super().__init__(f"content type {content_type[:80]!r} is not supported here")


class Unavailable(SyncError):
    """Nothing is wrong with the request, but it cannot be served now: 503 with Retry-After.

    `retry_after` is in seconds; None leaves the choice to the setting `retry_after.outage`.
    """

    def __init__(self, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class NotYet(Unavailable):
    """What was asked for has to wait for a moment whose end is known, and nothing was changed. The same request may be
    tried again `after` so many seconds, by whoever has it whole."""

    def __init__(self, reason: str, after: float) -> None:
        super().__init__(reason, int(after) + 1)
        self.after = after


class Conflict(Unavailable):
    """Others are at work and did not finish in time: 503, with a short Retry-After. Nothing was changed."""


class RolledBack(Conflict):
    """The store gave way to another transaction (a deadlock, a refused fence) and took everything back.

    The same request may be tried again at once.
    """


class LockTimeout(Conflict):
    """The lock was held by others until the deadline. Nothing was changed."""


class LockUnavailable(Unavailable):
    """The service that keeps the locks cannot be reached."""


class LockLost(RolledBack):
    """The lock's lease or session ended while it was held; the store refuses what came after."""


class LockUpgradeError(RuntimeError):
    """A thread that holds a read lock asked for the write lock: a fault of the caller (500).

    Two such threads would wait for each other for ever, so it is refused at once.
    """


class ConfigError(SyncError):
    """A setting is unknown, out of range or does not go with another. The text names the key."""
