"""Errors as answers: the one place that knows which status, body and headers each gets (sync-api section 15)."""

from __future__ import annotations

import logging
import random

from syncstore.errors import (
    Conflict,
    InvalidRequest,
    NotFound,
    NotModified,
    OverQuota,
    PreconditionFailed,
    SyncError,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from syncstore.web.answers import Answer, json_zero

log = logging.getLogger(__name__)

_CHALLENGE = [("WWW-Authenticate", "Hawk")]
_QUOTA_CODE = 14
_SIZE_CODE = 17


class ErrorAnswers:
    """Turns errors into answers. The two Retry-After times are in seconds."""

    def __init__(self, *, retry_after_conflict: int, retry_after_outage: int) -> None:
        self._conflict = retry_after_conflict
        self._outage = retry_after_outage

    def answer(self, error: SyncError, method: str, path: str) -> Answer:
        """The answer to an error of a request, logged with its reason where that is not everyday traffic."""
        # In the order of how often clients see them: 304, 404 and 412 are part of every sync.
        if isinstance(error, NotModified):
            return Answer(b"", status=304, modified=error.modified)
        if isinstance(error, NotFound):
            return json_zero(404)
        if isinstance(error, PreconditionFailed):
            answer = json_zero(412)
            answer.modified = error.modified
            return answer
        if isinstance(error, Unauthorized):
            log.info("401 %s %.200r: %s", method, path, error.reason)
            return json_zero(401, _CHALLENGE)
        if isinstance(error, InvalidRequest):
            log.info("400 %s %.200r: %s", method, path, error.reason)
            return json_zero(400, code=error.code)
        if isinstance(error, Unavailable):
            log.warning("503 %s %.200r: %s", method, path, error.reason)
            return json_zero(503, [("Retry-After", str(self._retry_after(error)))])
        if isinstance(error, OverQuota):
            log.info("403 %s %.200r: %s", method, path, error)
            return json_zero(403, code=_QUOTA_CODE)
        if isinstance(error, TooLarge):
            log.info("413 %s %.200r: %s", method, path, error)
            return json_zero(413, code=_SIZE_CODE)
        if isinstance(error, UnsupportedMediaType):
            log.info("415 %s %.200r: %s", method, path, error)
            return json_zero(415)
        raise error

    def _retry_after(self, error: Unavailable) -> int:
        seconds = error.retry_after
        if seconds is None:
            seconds = self._conflict if isinstance(error, Conflict) else self._outage
        # Spread the return of many clients that were sent away at one moment: up to 5 %, at least 5 s.
        return seconds + random.randint(0, max(5, seconds // 20))  # noqa: S311 - spreads load, guards nothing
