"""The endpoints that belong to the site and not to a user (sync-api section 17)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from syncstore.auth.origin import ClientOrigin
from syncstore.errors import InvalidRequest, SyncError, Unavailable
from syncstore.storage.api import Storage
from syncstore.web import landing, negotiation
from syncstore.web.answers import JSON, Answer, json_zero

log = logging.getLogger(__name__)


class SiteViews:
    """Front page, health and version, all without authentication."""

    def __init__(
        self,
        storage: Storage,
        version: str,
        version_file: Path | None,
        quota: int | None,
        *,
        origin: ClientOrigin,
        configured: bool,
        check_token_server: Callable[[], None] | None = None,
    ) -> None:
        """`version_file` may be None. `configured` says whether `origin` is that of the setting `public_url`.

        `check_token_server` raises a SyncError when the token server cannot answer; None where there is none.
        """
        self._storage = storage
        self._version = version
        self._version_file = version_file
        self._quota = {"enabled": quota is not None, "size": quota or 0}
        self._origin = origin
        self._configured = configured
        self._check_token_server = check_token_server

    def root(self, _context: Any, request: Any) -> Answer:
        """A sign of life: a page for people with browsers, JSON or text for others."""
        kind = negotiation.page_type(request.environ.get("HTTP_ACCEPT", ""))
        if kind == negotiation.TEXT:
            return _text_page()
        try:
            url = self._origin.of(request.environ).node
        except InvalidRequest:
            return _text_page()  # nobody can be told an address that the request does not have
        facts = landing.Landing(url, self._configured, self._version, self._token_server_state())
        if kind == JSON:
            return Answer(landing.json_page(facts), headers=landing.HEADERS)
        return Answer(
            landing.html_page(facts), content_type="text/html; charset=utf-8", headers=landing.HTML_HEADERS
        )

    def _token_server_state(self) -> landing.TokenServerState:
        if self._check_token_server is None:
            return landing.TokenServerState.OFF
        try:
            self._check_token_server()
        except SyncError as error:
            log.warning("the landing page found the token server away: %s", error)
            return landing.TokenServerState.FAILS
        return landing.TokenServerState.ANSWERS

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


def _text_page() -> Answer:
    return Answer(landing.text_page(), content_type="text/plain; charset=utf-8", headers=landing.HEADERS)
