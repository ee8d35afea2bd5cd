"""The locks that live in a cache as leases: the backend `lock.backend = memcached`, over any provider with cas.

One record per (uid, collection) says who holds the lock until when (`syncstore.locks.leases`), and is changed by
compare-and-set alone. Nobody ever blindly writes or deletes one, so a holder that was late cannot take away what
is another's by now. An undisturbed lock costs two round trips: store where nothing is, remove what was stored.

What such a lock cannot promise: it ends when its lease does, and when the cache evicts, flushes, or restarts, and
its holder learns of it at release or never. The store is right all the same (`syncstore.locks.api`).

Whose time: a record leaves the cache with its last lease, by the cache's clock, and a lease that stands in it alone
counts as long as the record is there. So machines' clocks have no part in a writer's lease. In those of several
readers they have: where they differ by more than MARGIN, a reader who died keeps writers out so much too long, or
one who hangs so much too short. The holder counts on its monotonic clock, from before it asked, and stops MARGIN
early.

Without shared reads a reader takes the lock as a writer does. Both forms understand each other's records, so the
setting can be changed while others run.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from random import Random, SystemRandom
from typing import Final

from syncstore.cache.api import (
    ABSENT,
    Absent,
    BackendError,
    BackendUnavailable,
    Conflict,
    NotFound,
    Provider,
    Remove,
    Store,
    Token,
)
from syncstore.clock import Clock
from syncstore.errors import ConfigError, LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import Key, Mode
from syncstore.locks.leases import Lease, Record, decode, encode

MARGIN: Final = 2.0
"""Seconds before the end of a lease from which its holder counts it as lost: for clocks that differ, and for a
cache that counts in whole seconds."""

LONGEST_TTL: Final = 3600.0
"""Seconds of the longest lease. One that ends later than that from now was given by a clock that is wrong."""

WAITING_SECONDS: Final = 2.0
"""How long new readers hold back for a writer who waits, unless it renews that. One that died costs so much."""

_SHORTEST_SLEEP, _LONGEST_SLEEP = 0.005, 0.05  # while others hold the lock
_PAUSE = 0.001  # a step by which pauses get longer while others change the record
_MOST_REFUSALS = 32
_MOST_GIVEN_UP = 256

log = logging.getLogger(__name__)


class MemcachedLocks:
    """Locks in one cache, for all processes that share it. `ttl` is the length of a lease in seconds.

    `random` gives the owners' names, and how long one waits before one looks again. Raises ConfigError when the
    provider lacks compare-and-set, or when `ttl` cannot be.
    """

    name = "memcached"

    def __init__(
        self,
        provider: Provider,
        clock: Clock,
        *,
        ttl: float,
        shared_reads: bool,
        random: Random = SystemRandom(),  # noqa: B008 - the system's has no state that could be shared
    ) -> None:
        if not provider.features.cas:
            raise ConfigError(
                f"lock.backend: the cache {provider.name} has no compare-and-set, which locks need"
            )
        if not MARGIN < ttl <= LONGEST_TTL:
            raise ConfigError(f"lock.ttl must be more than {MARGIN:g} and at most {LONGEST_TTL:g} seconds")
        self.provider = provider
        self.clock = clock
        self.ttl = ttl
        self.random = random
        self._shared_reads = shared_reads
        # Owners of this process that may still stand in a record, though nobody holds by them any more. Whoever of
        # this process meets one leaves it out; the others wait for the end of its lease.
        self._given_up: deque[int] = deque(maxlen=_MOST_GIVEN_UP)

    def acquire(self, key: Key, mode: Mode, timeout: float) -> MemcachedGrant:
        """Take the lock (see LockBackend). LockTimeout also when others changed its record all the time.

        Ends within `timeout` and, when the cache does not answer, two of the provider's own deadlines.
        """
        wanted: Mode = mode if self._shared_reads else "write"
        return _Request(self, key, wanted, timeout).grant()

    def forget(self, keys: Sequence[Key]) -> int:
        """Remove the records of these locks, whoever holds them; how many there were. Raises LockUnavailable.

        Who holds one learns of it at release. The store decides all the same.
        """
        try:
            return self.provider.change([Remove(_name(key)) for key in keys]).count(None)
        except BackendError as error:
            raise _unavailable(error) from error

    def sweep(self) -> Iterator[int]:
        """Nothing: records end with their leases."""
        return iter(())

    def close(self) -> None:
        """Close the connections to the cache."""
        self.provider.close()

    def live(self, record: Record) -> Record:
        """The record, as it stands in the cache, without leases that have ended."""
        alone = len(record.leases) < 2
        if alone and not self._given_up:
            return record
        now = self.clock.now_ms()
        latest = now + int(LONGEST_TTL * 1000)
        return record.only(
            lambda lease: (alone or now < lease.until <= latest) and lease.owner not in self._given_up
        )

    def expires(self, until: int) -> float:
        """When the cache may drop a record, in seconds: with its last lease, and always in the future."""
        now = self.clock.seconds()
        return min(max(until / 1000, now + 1), now + LONGEST_TTL)

    def give_up(self, owner: int) -> None:
        """Nobody holds by this owner any more, and it may not be possible to take it out of the record."""
        self._given_up.append(owner)


class MemcachedGrant:
    """One held lease.

    `token` is the generation of the record, which begins with the time in milliseconds and grows with every grant.
    For logs only: after the cache has lost the record it depends on clocks whether the next one is greater.
    """

    __slots__ = ("_cell", "_ends", "_locks", "_owner", "token")

    def __init__(self, locks: MemcachedLocks, cell: _Cell, owner: int, ends: float) -> None:
        self._locks = locks
        self._cell = cell
        self._owner = owner
        self._ends = ends
        self.token = cell.record.generation

    def valid(self) -> bool:
        """Whether the lease still runs on this machine's monotonic clock, with MARGIN to spare."""
        return self._locks.clock.monotonic() < self._ends

    def release(self) -> None:
        """Take the own lease out of the record.

        Raises LockLost when it is not there any more, LockUnavailable when the cache cannot be asked.
        """
        cell, owner = self._cell, self._owner
        doubtful = False
        while True:
            try:
                if not cell.known:
                    cell.look()
                    if not cell.record.holds(owner):
                        if doubtful:
                            return  # most likely by the request that was not answered
                        raise LockLost(f"the lease on {cell.subject} has ended, or the cache has lost it")
                cell.put(self._locks.live(cell.record).without(owner))
            except (Conflict, NotFound):
                if cell.is_busy():
                    self._locks.give_up(owner)
                    raise LockUnavailable(
                        f"the lock on {cell.subject} changes too fast to be given back"
                    ) from None
            except BackendUnavailable as error:
                doubtful = True
                if cell.is_unreachable():
                    self._locks.give_up(owner)
                    raise _unavailable(error) from error
            except BackendError as error:
                self._locks.give_up(owner)
                raise _unavailable(error) from error
            else:
                return


class _Request:
    """One thread's asking for a lock."""

    def __init__(self, locks: MemcachedLocks, key: Key, mode: Mode, timeout: float) -> None:
        self._locks = locks
        self._cell = _Cell(locks, key)
        self._mode = mode
        self._deadline = locks.clock.monotonic() + timeout
        self._owner = locks.random.getrandbits(64)
        # When the request was sent of which it is not known whether it was granted.
        self._sent: float | None = None

    def grant(self) -> MemcachedGrant:
        """Ask until it is granted, or the time is up."""
        cell = self._cell
        while True:
            try:
                if not cell.known:
                    cell.look()
                    if self._sent is not None:
                        if cell.record.holds(self._owner):
                            return self._granted(self._sent)
                        self._take_new_name()
                record = self._locks.live(cell.record)
                if record.admits(self._mode):
                    return self._enter(record)
                self._wait(record)
            except (Conflict, NotFound):
                self._sent = None
                if cell.is_busy() and self._left() <= 0:
                    raise LockTimeout(f"others were at the lock on {cell.subject}") from None
            except BackendUnavailable as error:
                if cell.is_unreachable():
                    self._locks.give_up(self._owner)
                    raise _unavailable(error) from error
            except BackendError as error:
                raise _unavailable(error) from error

    def _left(self) -> float:
        return self._deadline - self._locks.clock.monotonic()

    def _enter(self, record: Record) -> MemcachedGrant:
        locks = self._locks
        sent = self._sent = locks.clock.monotonic()
        now = locks.clock.now_ms()
        lease = Lease(self._owner, now + int(locks.ttl * 1000))
        self._cell.put(record.granted(self._mode, lease, now))
        return self._granted(sent)

    def _granted(self, sent: float) -> MemcachedGrant:
        return MemcachedGrant(self._locks, self._cell, self._owner, sent + self._locks.ttl - MARGIN)

    def _take_new_name(self) -> None:
        # The request that was not answered may still be carried out, and would look like a later one of ours.
        self._locks.give_up(self._owner)
        self._owner = self._locks.random.getrandbits(64)
        self._sent = None

    def _wait(self, record: Record) -> None:
        left = self._left()
        waiting = record.waiting
        if left <= 0:
            if waiting and waiting.owner == self._owner:
                self._cell.put_later(record.without(self._owner))
            raise LockTimeout(f"others hold the lock on {self._cell.subject}")
        if self._mode == "write" and record.readers:
            now = self._locks.clock.now_ms()
            if waiting is None or (
                waiting.owner == self._owner and waiting.until < now + WAITING_SECONDS * 500
            ):
                self._cell.put(record.awaited(Lease(self._owner, now + int(WAITING_SECONDS * 1000))))
        self._locks.clock.sleep(min(left, self._locks.random.uniform(_SHORTEST_SLEEP, _LONGEST_SLEEP)))
        self._cell.known = False


class _Cell:
    """One lock's record as it was last seen, and how often the cache has refused or failed since.

    It begins with the guess that there is none: where nobody holds the lock that is right, and saves to look.
    """

    __slots__ = ("_failures", "_locks", "_name", "_refusals", "known", "record", "state", "subject")

    def __init__(self, locks: MemcachedLocks, key: Key) -> None:
        self._locks = locks
        self._name = _name(key)
        self.subject = f"collection {key[1]!r} of user {key[0]}"
        self.known = True
        self.record = Record()
        self.state: Token | Absent = ABSENT
        self._failures = self._refusals = 0

    def look(self) -> None:
        """Read the record."""
        self.known = False
        (item,) = self._locks.provider.fetch([self._name])
        self.state = ABSENT if item is None else item.token
        found = Record() if item is None else decode(item.value)
        if found is None:
            log.warning("the lock on %s was no record of ours, and is replaced", self.subject)
        self.record = found or Record()
        self.known = True

    def put(self, record: Record) -> None:
        """Replace what was seen. Raises Conflict or NotFound when it is not there any more, and BackendError."""
        self.known = False
        change = self._change(record)
        if isinstance(change, Remove):
            self._locks.provider.remove(change.key, expect=change.expect)
            return
        self.state = self._locks.provider.store(
            change.key, change.value, change.expires, expect=change.expect
        )
        self.record = record
        self.known = True

    def put_later(self, record: Record) -> None:
        """The same without waiting, and whatever becomes of it."""
        self._locks.provider.change_later([self._change(record)])

    def _change(self, record: Record) -> Store | Remove:
        until = record.until
        if not until and isinstance(self.state, Token):
            return Remove(self._name, self.state)
        return Store(self._name, encode(record), self._locks.expires(until), self.state)

    def is_busy(self) -> bool:
        """After a refusal: whether there were too many. Waits now and then, ever longer, so that they end."""
        self.known = False
        self._refusals += 1
        if self._refusals % 4 == 0:
            pause = self._locks.random.uniform(0, _PAUSE * self._refusals)
            self._locks.clock.sleep(min(pause, _LONGEST_SLEEP))
        return self._refusals >= _MOST_REFUSALS

    def is_unreachable(self) -> bool:
        """After a failure: whether it was the second. The first one may be but a connection that was closed."""
        self.known = False
        self._failures += 1
        return self._failures > 1


def _name(key: Key) -> bytes:
    return b"l:%d:%s" % (key[0], key[1].encode())


def _unavailable(error: BackendError) -> LockUnavailable:
    return LockUnavailable(f"the cache that keeps the locks: {error}")
