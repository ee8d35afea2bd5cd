"""The metadata record in the cache: looking at it, marking it before a commit, publishing after, and filling it.

The protocol is coherence.md's, and the order of its steps is what makes it right: a mark is placed while the
user's row is locked and is confirmed before the commit; a fill has its token before it reads SQL, and reads in a
statement later than its lock on that row. The store brings the row locks; what is here is the cache's side.
A clean entry therefore always equals what SQL has committed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import NamedTuple

from syncstore.cache.api import (
    BackendError,
    BackendUnavailable,
    Busy,
    Conflict,
    Item,
    NotFound,
    Provider,
    Store,
    Token,
)
from syncstore.cache.api import Change as CacheChange
from syncstore.cache.states import ServerState
from syncstore.clock import Clock
from syncstore.errors import Unavailable
from syncstore.storage.durable import WIPE, Being, DurableStorage, DurableWork, KeptTime, Times
from syncstore.storage.layered.kinds import Kinds
from syncstore.storage.layered.record import Codec, Entry, Record, record_of

# How long a placeholder waits for its fill, in seconds: longer than any fill takes, and short enough that it does
# not matter when nobody comes.
_RESERVE = 30.0
_ATTEMPTS = 3


class Sight(NamedTuple):
    """One look at a user's record: the epoch it was taken under, the token to store over it, what it said."""

    epoch: int
    token: Token
    record: Record


class Look(NamedTuple):
    """What one round trip brought: the record, None without the cache, and what else was asked for.

    `items` is None when the cache did not answer.
    """

    sight: Sight | None
    items: Sequence[Item | None] | None


class Marked(NamedTuple):
    """A confirmed mark: what stands in the record now, and its token."""

    epoch: int
    token: Token
    record: Record


class Unconfirmed(Unavailable):
    """A mark could not be placed under `epoch`: nothing may be committed, and the server has to be declared failed
    when everything is rolled back."""

    def __init__(self, epoch: int, cause: str) -> None:
        super().__init__("the cache does not answer, so nothing can be written beside it")
        self.epoch = epoch
        self.cause = f"a writer's mark was not confirmed: {cause}"


class Metadata:
    """The records of all users in one cache. `life` bounds that of a record, in seconds."""

    def __init__(
        self,
        below: DurableStorage,
        cache: Provider,
        state: ServerState,
        kinds: Kinds,
        clock: Clock,
        *,
        life: float,
    ) -> None:
        self._below = below
        self._cache = cache
        self._state = state
        self._kinds = kinds
        self._clock = clock
        self._life = life
        self._codec = Codec(kinds.fingerprint)

    # -- readers

    def look(self, uid: int, more: Callable[[int], Sequence[bytes]] | None = None) -> Look:
        """The user's record, and the values of `more` keys for the epoch, in one round trip, the record first.

        A record that is missing is reserved, so that what is looked up next may be stored over it.
        """
        epoch = self._state.trusted()
        if epoch is None:
            return Look(None, None)
        keys = [record_key(epoch, uid), *(more(epoch) if more is not None else ())]
        try:
            found = self._cache.fetch(keys, reserve=_RESERVE)
        except Busy:
            return Look(None, None)
        except BackendUnavailable as error:
            self._state.trouble(str(error))
            return Look(None, None)
        except BackendError:
            return Look(None, None)
        self._state.answered()
        first = found[0]
        if first is None:
            return Look(None, found[1:])
        return Look(Sight(epoch, first.token, self._codec.decode(first.value)), found[1:])

    def fill(self, uid: int, sight: Sight | None) -> Times:
        """All times from SQL, stored over what was seen if no writer of the user is at work.

        `sight` is from before: a writer who came in between has changed the record, and the store is refused.
        """
        times = None if sight is None else self._below.settled_times(uid)
        if sight is None or times is None:
            return self._below.times(uid)
        record = record_of(times, self._kinds.cached_only)
        self._cache.change_later([self._put(sight.epoch, uid, record, sight.token)])
        return times

    # -- writers

    def mark(
        self, uid: int, collection: str, sight: Sight | None, read_epoch: Callable[[str], int]
    ) -> Marked | None:
        """Say in the record that `collection` is about to change, while the user's row is locked.

        None when the whole record was removed instead, or when there is no cache to be told. Raises Unconfirmed,
        and Unavailable while a failure of the cache is not known to everybody, or no connection to it is free.
        """
        epoch = self.settle_epoch(sight, read_epoch)
        if epoch is None:
            return None
        if sight is not None and sight.epoch != epoch:
            sight = None
        unanswered = 0
        for _ in range(_ATTEMPTS):
            try:
                if sight is None:
                    sight = self._see(epoch, uid)
                # A new mark at each attempt: an earlier one may still be on its way (V34).
                record = sight.record.marked(collection, secrets.token_bytes(8))
                change = self._put(epoch, uid, record, sight.token)
                token = self._cache.store(change.key, change.value, change.expires, expect=change.expect)
                return Marked(epoch, token, record)
            except Conflict:
                sight = None
            except Busy as error:
                raise _crowded(error) from error
            except BackendUnavailable as error:
                unanswered += 1
                if unanswered > 1:
                    raise Unconfirmed(epoch, str(error)) from None
                sight = None
            except BackendError:
                break  # no room for it, or too large: then there must be no record at all
        self.forget(epoch, uid)
        return None

    def settle_epoch(self, sight: Sight | None, read_epoch: Callable[[str], int]) -> int | None:
        """The epoch to mark under, decided after the user's row was locked; None when no mark is needed."""
        if sight is not None and self._state.still(sight.epoch):
            return sight.epoch
        return self._state.judge(read_epoch)

    def _see(self, epoch: int, uid: int) -> Sight:
        found = self._cache.fetch([record_key(epoch, uid)], reserve=_RESERVE)[0]
        if found is None:
            raise BackendUnavailable("the cache does not keep a placeholder")
        return Sight(epoch, found.token, self._codec.decode(found.value))

    def forget(self, epoch: int, uid: int) -> None:
        """Remove the record, which is as good as marking everything in it. Raises Unconfirmed, Unavailable."""
        cause = ""
        for _ in range(2):
            try:
                self._cache.remove(record_key(epoch, uid))
            except NotFound:
                return
            except Busy as error:
                raise _crowded(error) from error
            except BackendError as error:
                cause = str(error)
                continue
            return
        raise Unconfirmed(epoch, cause)

    def unmake(self, uid: int, sight: Sight | None, durable: DurableWork, time: int) -> None:
        """Before the commit of a wipe at `time`: remove the record, all of which changes, listed there or not."""
        if self._kinds.cached_only:
            # So that batches in the cache which were opened before are not open any more.
            durable.keep_time(WIPE, KeptTime(time, Being.DELETED))
        epoch = self.settle_epoch(sight, durable.epoch)
        if epoch is not None:
            self.forget(epoch, uid)

    def publication(self, uid: int, marked: Marked, collection: str, entry: Entry | None, time: int) -> Store:
        """What to store after the commit at `time`: the new entry over the mark, if that still stands.

        The token is the mark's own, so nothing has happened to the record since. When something has, the store is
        refused and the mark stays until somebody fills the record; nothing depends on it.
        """
        return self._put(marked.epoch, uid, marked.record.published(collection, entry, time), marked.token)

    def marking(self, uid: int, sight: Sight, collection: str) -> tuple[Store, Record]:
        """A mark as a change of the cache, for a writer that changes more in the same round trip."""
        record = sight.record.marked(collection, secrets.token_bytes(8))
        return self._put(sight.epoch, uid, record, sight.token), record

    def later(self, changes: Sequence[CacheChange]) -> None:
        """Tell the cache what it need not confirm."""
        if changes:
            self._cache.change_later(changes)

    def _put(self, epoch: int, uid: int, record: Record, over: Token) -> Store:
        value = self._codec.encode(record)
        return Store(record_key(epoch, uid), value, self._clock.seconds() + self._life, over)


def _crowded(error: Busy) -> Unavailable:
    """For a writer who got no connection: nothing is known against the server, so nobody has to be told. That an
    earlier try of it may still arrive does not matter: without its commit a mark only costs somebody a fill."""
    return Unavailable(f"no mark can be placed now: {error}", 1)


def record_key(epoch: int, uid: int) -> bytes:
    """Where a user's record is."""
    return b"m:%d:%d" % (epoch, uid)
