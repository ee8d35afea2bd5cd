"""Why a request was refused: the few words that `Unauthorized` carries into the log and the counters.

A member is a class of failure, never a fact about the client: no token, key, MAC or name goes in.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """The failed check of a 401 (auth specification, section 8)."""

    NO_HEADER = "no Authorization header"
    OTHER_SCHEME = "not the Hawk scheme"
    MALFORMED_HEADER = "malformed Hawk header"
    MALFORMED_TOKEN = "malformed token"  # noqa: S105 - a reason, no password
    TOKEN_SIGNATURE = "invalid token signature"  # noqa: S105 - a reason, no password
    TOKEN_FIELDS = "invalid token fields"  # noqa: S105 - a reason, no password
    TOKEN_EXPIRED = "token expired"  # noqa: S105 - a reason, no password
    WRONG_NODE = "token of another node"
    WRONG_UID = "token of another user"
    WRONG_MAC = "invalid request signature"
    WRONG_PAYLOAD_HASH = "invalid payload hash"
