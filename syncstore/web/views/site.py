"""The endpoints that belong to the site and not to a user (sync-api section 17)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec

from syncstore.errors import Unavailable
from syncstore.storage.api import Storage
from syncstore.web.answers import Answer, json_zero

log = logging.getLogger(__name__)


class SiteViews:
    """Front page, health and version, all without authentication. `version_file` may be None."""

    def __init__(self, storage: Storage, version: str, version_file: Path | None, quota: int | None) -> None:
        self._storage = storage
        self._version = version
        self._version_file = version_file
        self._quota = {"enabled": quota is not None, "size": quota or 0}

    def root(self, _context: Any, _request: Any) -> Answer:
        """A sign of life for people."""
        text = b"It Works! syncstore is running on this host.\n"
        return Answer(text, content_type="text/plain; charset=utf-8")

    def heartbeat(self, _context: Any, _request: Any) -> Answer:
        """Whether the service can serve: 503 when its database does not answer."""
        document = {"version": self._version, "quota": self._quota, "database": "Ok", "status": "Ok"}
        status = 200
        try:
            self._storage.check()
        except Unavailable as error:
            log.warning("the heartbeat found the database away: %s", error.reason)
            document |= {"database": "Err", "status": "Err"}
            status = 503
        return Answer(
            msgspec.json.encode(document),
            status=status,
            headers=[("Retry-After", "10")] if status == 503 else (),
        )

    def lbheartbeat(self, _context: Any, _request: Any) -> Answer:
        """Whether the process answers at all, for load balancers."""
        return Answer(b"{}")

    def version(self, _context: Any, _request: Any) -> Answer:
        """The file that the operator says describes this deployment."""
        if self._version_file is None:
            return json_zero(404)
        try:
            return Answer(self._version_file.read_bytes())
        except OSError as error:
            log.warning("version_file cannot be read: %s", error)
            return json_zero(404)

    def error(self, _context: Any, _request: Any) -> Answer:
        """A fault on purpose, to see whether faults reach whoever watches the log."""
        log.error("a test error was asked for at /__error__")
        return json_zero(500)
