"""X-Weave-Quota-Remaining: a warning to clients whose space is nearly used up (sync-api section 11)."""

from __future__ import annotations

from collections.abc import Sequence

_WARN_BELOW = 1024 * 1024


def quota_headers(left: int | None) -> Sequence[tuple[str, str]]:
    """The header when less than 1 MiB is left after a write: units of 1024 bytes, two decimals at most."""
    if left is None or left >= _WARN_BELOW:
        return ()
    return (("X-Weave-Quota-Remaining", str(round(left / 1024, 2))),)
