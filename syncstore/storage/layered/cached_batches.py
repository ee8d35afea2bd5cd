"""Pending uploads to cached-only collections: each batch is a cached value of its own that nobody else reads.

A batch that the cache has dropped is unknown, and its client begins anew. A commit first takes the value out of
the cache, which only one can do, so that no batch is applied twice.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping, Sequence

import msgspec

from syncstore.bso import Change
from syncstore.cache.api import (
    ABSENT,
    BackendError,
    Conflict,
    Expect,
    NotFound,
    Provider,
    Token,
    TooLarge,
)
from syncstore.clock import Clock
from syncstore.errors import Conflict as RequestConflict
from syncstore.errors import InvalidBatch, Unavailable
from syncstore.errors import TooLarge as RequestTooLarge
from syncstore.storage.durable import WIPE, KeptTime
from syncstore.storage.layered import contents

_ID = re.compile(r"[A-Za-z0-9_-]{16}", re.ASCII)


class _Layout(msgspec.Struct, array_like=True):
    """`opened_at` is the storage's time when the batch was opened, in ticks; `ends` in milliseconds."""

    collection: str
    opened_at: int
    ends: int
    changes: list[tuple[str, str | None, int | None, int | None]]


_decode = msgspec.msgpack.Decoder(_Layout).decode
_encode = msgspec.msgpack.Encoder().encode


class Claim(msgspec.Struct, frozen=True):
    """A batch as it was read, or is to be: `over` is the state of the cache in which that was so."""

    batch: str
    over: Expect
    collection: str
    opened_at: int
    ends: int
    changes: Mapping[str, Change]

    def with_more(self, changes: Sequence[Change]) -> Claim:
        """The same with later items over the staged ones, field by field."""
        merged = contents.merged(self.changes, changes)
        return Claim(self.batch, self.over, self.collection, self.opened_at, self.ends, merged)


class CachedBatches:
    """The batches of one cache. `lifetime` is in seconds from their opening and is never extended."""

    def __init__(self, cache: Provider, clock: Clock, lifetime: int) -> None:
        self._cache = cache
        self._clock = clock
        self._lifetime = lifetime

    def open(self, uid: int, collection: str, at: int) -> Claim:
        """A new batch, not yet stored. `at` is the storage's time."""
        batch = base64.urlsafe_b64encode(secrets.token_bytes(12)).decode()
        return Claim(batch, ABSENT, collection, at, self._clock.now_ms() + self._lifetime * 1000, {})

    def find(self, uid: int, collection: str, batch: str, kept: Mapping[str, KeptTime]) -> Claim:
        """An open batch of this user and collection. Raises InvalidBatch, Unavailable."""
        if _ID.fullmatch(batch) is None:
            raise InvalidBatch("a batch id that was never given out")
        try:
            item = self._cache.retrieve(_key(uid, batch))
            layout = _decode(item.value)
        except (NotFound, msgspec.MsgspecError):
            raise InvalidBatch("the batch is not open") from None
        except BackendError as error:
            raise Unavailable(f"the cache that holds the batch does not answer: {error}") from error
        wiped = kept.get(WIPE)
        if (
            layout.collection != collection
            or layout.ends <= self._clock.now_ms()
            or (wiped is not None and wiped.time > layout.opened_at)
        ):
            raise InvalidBatch("the batch is not open for this collection")
        changes = {row[0]: Change(*row) for row in layout.changes}
        return Claim(batch, item.token, collection, layout.opened_at, layout.ends, changes)

    def store(self, uid: int, claim: Claim) -> None:
        """Store what was staged, if the batch is still as it was read. Raises InvalidBatch when it has ended since."""
        rows = [(one.id, one.payload, one.sortindex, one.ttl) for one in claim.changes.values()]
        value = _encode(_Layout(claim.collection, claim.opened_at, claim.ends, rows))
        try:
            self._cache.store(_key(uid, claim.batch), value, claim.ends / 1000, expect=claim.over)
        except ValueError:  # of a provider, for what has expired: the clock decides once, there
            raise InvalidBatch("the batch has ended") from None
        except TooLarge as error:
            raise RequestTooLarge(error.size, error.limit) from error
        except Conflict as error:
            raise RequestConflict("the batch was changed meanwhile") from error
        except BackendError as error:
            raise Unavailable(f"the cache that holds the batch does not answer: {error}") from error

    def remove(self, uid: int, claim: Claim) -> None:
        """Take the batch out of the cache, as it was read; nobody else can then have it."""
        try:
            self._cache.remove(
                _key(uid, claim.batch), expect=claim.over if isinstance(claim.over, Token) else None
            )
        except (NotFound, Conflict) as error:
            raise RequestConflict("the batch was changed meanwhile") from error
        except BackendError as error:
            raise Unavailable(f"the cache that holds the batch does not answer: {error}") from error


def _key(uid: int, batch: str) -> bytes:
    return b"b:%d:%s" % (uid, batch.encode())
