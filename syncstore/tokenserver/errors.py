"""What the token server refuses, one class for each row of its table of errors (token-api section 3).

Clients and test suites compare the whole body, so its four texts are facts of the class. `reason` is for the log
alone and never holds a token. Where two servers of the field answer differently the newer one is followed.
"""

from __future__ import annotations

from typing import ClassVar

from syncstore.errors import SyncError


class TokenError(SyncError):
    """The root of these errors: HTTP status and the four texts of the body."""

    http: ClassVar[int] = 401
    status: ClassVar[str] = "error"
    location: ClassVar[str] = "body"
    name: str = ""
    description: ClassVar[str] = "Unauthorized"

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or self.description)
        self.reason = reason or self.description

    def document(self) -> dict[str, object]:
        """The body, as a value of JSON."""
        error = {"location": self.location, "name": self.name, "description": self.description}
        return {"status": self.status, "errors": [error]}


# -- who asks


class NoCredentials(TokenError):
    """Row 1: no Authorization, or nothing after its scheme."""


class UnsupportedScheme(TokenError):
    """Row 2: another scheme than Bearer; BrowserID is one of these."""

    description = "Unsupported"


class InvalidCredentials(TokenError):
    """Rows 3 and 6: the account's token is not believed, or X-KeyID cannot be read."""

    status = "invalid-credentials"


class MissingKeyId(TokenError):
    """Row 4: no X-KeyID."""

    status = "invalid-key-id"
    location = "header"
    description = "Missing X-KeyID header"


class InvalidKeyId(TokenError):
    """Row 5: an X-KeyID that is not ASCII."""

    status = "invalid-key-id"
    location = "header"
    description = "Invalid X-KeyID header"


class InvalidClientState(TokenError):
    """Row 7: an X-Client-State of another syntax."""

    http = 400
    location = "header"
    name = "X-Client-State"
    description = "Invalid client state value"


class ClientStateMismatch(TokenError):
    """Row 8: X-Client-State is not what X-KeyID says."""

    status = "invalid-client-state"


# -- what the account's record says against it


class UnacceptableClientState(TokenError):
    """Rows 9 to 12: a client state that may not follow the known one."""

    status = "invalid-client-state"
    location = "header"
    name = "X-Client-State"


class EmptyClientState(UnacceptableClientState):
    """Row 9: empty, although one is known."""

    description = "Unacceptable client-state value empty string"


class StaleClientState(UnacceptableClientState):
    """Row 10: an older record had it."""

    description = "Unacceptable client-state value stale value"


class ClientStateWithoutGeneration(UnacceptableClientState):
    """Row 11: new, but the generation did not grow."""

    description = "Unacceptable client-state value new value with no generation change"


class ClientStateWithoutKeysChange(UnacceptableClientState):
    """Row 12: new, but keys_changed_at did not grow."""

    description = "Unacceptable client-state value new value with no keys_changed_at change"


class InvalidGeneration(TokenError):
    """Row 13: an older generation than was seen: a credential from before a password change."""

    status = "invalid-generation"


class InvalidKeysChangedAt(TokenError):
    """Row 14: keys_changed_at shrank, vanished, or outgrew the generation."""

    status = "invalid-keysChangedAt"


# -- who may come in, and where to


class NewUsersDisabled(TokenError):
    """Row 16: an account without a record, where new ones are not taken."""

    http = 403
    status = "new-users-disabled"
    description = "New users are not allowed"


class UnsupportedApplication(TokenError):
    """Row 17: another application than sync."""

    http = 404
    location = "url"
    name = "application"
    description = "Unsupported application"


class UnsupportedVersion(TokenError):
    """Row 18: another version than 1.5; the body names it."""

    http = 404
    location = "url"
    description = "Unsupported application version"

    def __init__(self, version: str) -> None:
        super().__init__(f"version {version[:40]!r}")
        self.name = version


class _ServerFault(TokenError):
    http = 500
    status = "internal-error"
    location = "internal"
    description = "Server error"


class NoNode(_ServerFault):
    """Row 19: no node can take the user."""

    http = 503


class InternalError(_ServerFault):
    """Row 20: a retired user whose node is gone, and what else cannot be."""


# -- what does not answer


class AccountServerAway(TokenError):
    """Row 21: the account server does not answer, or the database does not: nothing is known against the client."""

    http = 503
    description = "Resource is not available"


class DatabaseAway(AccountServerAway):
    """Row 21 for the database."""


class DatabaseTimeout(TokenError):
    """Row 22: the database did not answer in time."""

    http = 504
    status = "elapsed"
    description = "Elapsed"


class NoPattern(TokenError):
    """Row 23: the service's row has no pattern of endpoints."""

    http = 503
    description = "The api_endpoint pattern for 'sync-1.5' is not known"


# -- beyond the table


class MethodNotAllowed(TokenError):
    """Another method than the resource has."""

    http = 405
    description = "Method not allowed"
