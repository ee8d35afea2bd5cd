"""`POST /1.0/webhooks/fxa/events`: the account server reports deleted accounts and changed passwords.

A report is a signed token (a security event token, RFC 8417) in the Authorization header; it is believed only
with the configured audience and issuer (token-api section 6.3).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from syncstore.tokenserver.claims import bearer_token
from syncstore.tokenserver.errors import AccountServerAway, InvalidCredentials
from syncstore.tokenserver.keys import KeySource
from syncstore.tokenserver.register import Register
from syncstore.tokenserver.rules import MAX_GENERATION
from syncstore.tokenserver.signatures import NotSigned, Signatures, UnknownKey
from syncstore.tokenserver.views import Reply

log = logging.getLogger(__name__)

_EVENT = "https://schemas.accounts.firefox.com/event/"
_DELETED = _EVENT + "delete-user"
_PASSWORD_CHANGED = _EVENT + "password-change"


class _Report(msgspec.Struct):
    """The payload. `aud` may be one name or several (RFC 7519)."""

    sub: str
    iss: str
    aud: str | list[str]
    events: dict[str, msgspec.Raw]


class _PasswordChange(msgspec.Struct):
    time: int = msgspec.field(name="changeTime")


class EventsView:
    """Believes reports for `client_id` by `issuer`, and does to users what they say."""

    def __init__(self, keys: KeySource, register: Register, *, client_id: str, issuer: str) -> None:
        self._keys = keys
        self._signatures = Signatures(keys)
        self._register = register
        self._client_id = client_id
        self._issuer = issuer

    def __call__(self, environ: Mapping[str, Any], _match: Mapping[str, str]) -> Reply:
        """Take one report. Raises TokenError."""
        report = self._read(bearer_token(environ.get("HTTP_AUTHORIZATION")))
        if _DELETED in report.events:
            changed = self._register.retire(report.sub)
            log.info("an account was deleted: %d records retired", changed)
        change = report.events.get(_PASSWORD_CHANGED)
        if change is not None:
            self._password_changed(report.sub, change)
        return Reply(200, b"")

    def _read(self, token: str) -> _Report:
        try:
            signed = self._signatures.open(token)
            report = msgspec.json.decode(signed.payload, type=_Report)
        except NotSigned:
            raise InvalidCredentials("a report that is no signed token") from None
        except UnknownKey:
            if not self._keys.complete:
                raise AccountServerAway("a report that waits for the keys of the account server") from None
            raise InvalidCredentials("a report that no known key has signed") from None
        except (ValueError, RecursionError) as error:
            raise InvalidCredentials(f"a report that cannot be read: {error}") from None
        audience = [report.aud] if isinstance(report.aud, str) else report.aud
        if self._client_id not in audience or report.iss != self._issuer:
            raise InvalidCredentials(f"a report for {audience!r:.200} by {report.iss!r:.200}")
        return report

    def _password_changed(self, account: str, event: msgspec.Raw) -> None:
        try:
            change = msgspec.json.decode(event, type=_PasswordChange)
        except ValueError as error:
            log.warning("a report of a changed password is passed over: %s", error)
            return
        if 0 < change.time < MAX_GENERATION:
            changed = self._register.credentials_changed(account, change.time)
            log.info("a password was changed: %d records", changed)
