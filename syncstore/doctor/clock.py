"""The clock of this machine against the one that its public address tells."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from syncstore.doctor.findings import Finding

# Seconds. Hawk and tokens bear more; what does not is a token server elsewhere, and everybody's patience.
TOLERANCE = 30.0


def examine(date: str | None, now: float) -> Finding:
    """Compare `date`, the Date header of an answer that just came, with `now`, in seconds since the epoch."""
    if date is None:
        return Finding("clock", "the answer has no Date header: let the proxy pass it on")
    try:
        there = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding("clock", f"the answer's Date header is no date ({date[:40]!r}): mend the proxy")
    ahead = now - there
    if abs(ahead) <= TOLERANCE:
        return Finding("clock")
    return Finding(
        "clock",
        f"this machine is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the one that answers: "
        "set both by NTP",
    )
