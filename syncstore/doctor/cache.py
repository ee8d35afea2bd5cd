"""The cache: whether it answers, keeps what is stored in it, is large enough, and is in use."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from syncstore.cache.api import BackendError, BackendUnavailable, Conflict, NotFound, Provider
from syncstore.cache.memcached.records import Standing, standing
from syncstore.clock import Clock
from syncstore.doctor.findings import Finding

_LIFE = 60.0  # seconds of the doctor's own value, should it not come to removing it


def examine(cache: Provider, clock: Clock, where: str, needed: Mapping[str, int]) -> Finding:
    """Ask the memcached at `where`. `needed` are the collections in it alone, with the bytes of an item that clients
    are told they may store there."""
    subject = f"cache {cache.name} at {where}"
    try:
        return Finding(subject, _round_trip(cache, clock) or _memory(cache, needed))
    except BackendUnavailable as error:
        return Finding(
            subject,
            f"it cannot be used ({error}): start a memcached of 1.6 or later there, without -C, "
            "or correct memcached.servers",
        )
    except BackendError as error:
        return Finding(
            subject, f"it stores nothing ({error}): start memcached without -M, with more memory (-m)"
        )


def _round_trip(cache: Provider, clock: Clock) -> str:
    """Store, replace by compare-and-set, refuse a stale token, remove. What to change, if anything is amiss."""
    key = b"doctor:" + secrets.token_hex(8).encode()
    ends = clock.seconds() + _LIFE
    amiss = "it does not keep what is stored in it: look for a proxy in between, and start memcached with more memory"
    stale = cache.store(key, b"one", ends)
    try:
        if cache.retrieve(key).value != b"one":
            return amiss
        cache.store(key, b"two", ends, expect=stale)
        if cache.retrieve(key).value != b"two":
            return amiss
    except (NotFound, Conflict):
        return amiss
    try:
        cache.store(key, b"three", ends, expect=stale)
    except Conflict:
        cache.remove(key)
        return ""
    return (
        "it stores over what has changed: it is no memcached, or one with a proxy before it that knows no cas"
    )


def _memory(cache: Provider, needed: Mapping[str, int]) -> str:
    largest = cache.limits.max_value
    for collection, size in needed.items():
        if size > largest:
            return (
                f"its items have {largest} bytes at most, and clients are told that one of {collection} may have "
                f"{size}: start memcached with -I {_mebibytes(size)}m, or lower limits.collections"
            )
    facts = cache.status()
    evicted = int(facts.get("evicted", 0))
    if needed and evicted:
        memory = int(facts.get("max_bytes", 0)) // 2**20
        return (
            f"it has dropped {evicted} values for want of room, and of {', '.join(needed)} nobody else has any: "
            f"start memcached with more than {memory} MiB (-m)"
        )
    return ""


def _mebibytes(size: int) -> int:
    return size // 2**20 + 1


def state(server: str, epoch: int, retry_interval: float) -> str:
    """What to do about the state of a memcached that is well: empty while it is trusted, or not in use yet."""
    now = standing(epoch)
    if now is Standing.UP:
        return ""
    if now is Standing.HELD or retry_interval < 0:
        return f"it answers, but is out of use until somebody brings it back: syncstore cache up {server}"
    return (
        "it answers, but was declared failed and is out of use: servers that run try it again "
        f"every {retry_interval:g} s, so look at their logs if this stays"
    )
