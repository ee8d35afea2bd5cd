"""The provider `memcached`: keys, values and changes as meta commands, and what the server's answers mean.

A read that finds the connection broken is asked once more on a new one. A change is not, since nobody knows what
became of it; so one looks whether the server is still there before sending it.

memcached counts whole seconds, and drops a value up to two seconds after its `expires`. A value that expires therefore
carries its `expires` in front, and is never handed out late; but until it is dropped it is in the way of a store that
expects ABSENT, and a removal finds it.

A store that the server refuses for want of room (StorageFull, only ever with memcached's option -M), takes away what
was there, even if it expected something else: that is how memcached 1.6 does it, and counts as an eviction.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from syncstore.cache.api import (
    Absent,
    BackendError,
    Change,
    Conflict,
    Expect,
    Features,
    Item,
    Limits,
    NotFound,
    NotSupported,
    Outcome,
    Remove,
    StorageFull,
    Store,
    Token,
    TooLarge,
)
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.connection import Connection
from syncstore.cache.memcached.keys import Keys
from syncstore.cache.memcached.pool import Pool
from syncstore.cache.memcached.replies import FULL, TOO_LARGE, Stored
from syncstore.cache.memcached.stream import Disconnected
from syncstore.clock import Clock

_FEATURES = Features(cas=True, shared=True, shared_hosts=True, persistent=False, evicts=True, iterable=False)

# Client flags say what a value begins with. Values of others, with other flags, read as missing.
_PLAIN: Final = 0
_WITH_EXPIRES: Final = 1
_EXPIRES = struct.Struct(">d")

_OVERHEAD = 512  # bytes of the server's header, the key, `expires` and two line ends, with some to spare
_RELATIVE_SECONDS = 30 * 86_400  # memcached takes a greater TTL for a date
_LAST_DATE = 2**31 - 1  # and a date after this one for one before 1970

# Requests in one go: their bytes, or those of the replies, must fit into the buffers of two sockets, or we and the
# server would both wait for the other to read.
_MOST_KEYS = 100
_MOST_CHANGES = 1_000

_T = TypeVar("_T")


class MemcachedProvider:
    """A cache in one memcached, of version 1.6 or later.

    Every name in memcached begins with `prefix`. Times are in seconds: `connect_timeout` to connect, `timeout` for
    one answer, and the same to wait for one of `pool_size` connections when all are in use. With a server that is
    silent a call takes at most two of them: a new connection's first answer, who the server is, is the last.
    """

    name = "memcached"
    features = _FEATURES

    def __init__(
        self,
        address: Address,
        clock: Clock,
        *,
        prefix: bytes = b"",
        timeout: float = 0.25,
        connect_timeout: float = 0.1,
        pool_size: int = 8,
    ) -> None:
        if min(timeout, connect_timeout) < 0.001 or pool_size < 1:
            raise ValueError("timeouts are at least a millisecond, and a pool has at least one connection")
        self.address = address
        self._clock = clock
        self._keys = Keys(prefix)
        self._limits: Limits | None = None
        self._pool = Pool(
            lambda: Connection(address, connect_timeout=connect_timeout, timeout=timeout),
            size=pool_size,
            wait=timeout,
        )

    @property
    def limits(self) -> Limits:
        """What fits into the server as it was started. Asks it once, and then raises BackendUnavailable."""
        if self._limits is None:
            self._limits = Limits(
                max_key=self._keys.longest,
                max_value=self._read(lambda connection: connection.item_size_max) - _OVERHEAD,
                ttl_step=2.0,
            )
        return self._limits

    def retrieve(self, key: bytes) -> Item:
        """The value of a key. Raises NotFound, BadKey, BackendUnavailable."""
        item = self.fetch((key,))[0]
        if item is None:
            raise NotFound(key)
        return item

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        """Store a value; the token of the new state (see Provider)."""
        outcome = self.change((Store(key, value, expires, expect),))[0]
        if not isinstance(outcome, Token):
            assert isinstance(outcome, Exception)  # noqa: S101 - for mypy: None is the outcome of removals alone
            raise outcome
        return outcome

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove a key (see Provider)."""
        outcome = self.change((Remove(key, expect),))[0]
        if isinstance(outcome, Exception):
            raise outcome

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys (see Provider), in one round trip for each hundred of them.

        Raises BadKey, BackendUnavailable. On a server without room (-M) None also stands for what could not be
        reserved.
        """
        if reserve:
            if not 0 < reserve <= _RELATIVE_SECONDS:
                raise ValueError(f"a reservation for {reserve} s")
            # one more, or it could end at the server's next tick
            end = b" v c f N%d\r\n" % (math.ceil(reserve) + 1)
        else:
            end = b" v c f\r\n"
        name = self._keys.name
        requests = [b"mg " + name(key) + end for key in keys]
        if len(requests) <= _MOST_KEYS:
            return self._fetch(b"".join(requests), len(requests), bool(reserve)) if requests else []
        found: list[Item | None] = []
        for at in range(0, len(requests), _MOST_KEYS):
            some = requests[at : at + _MOST_KEYS]
            found += self._fetch(b"".join(some), len(some), bool(reserve))
        return found

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider), in one round trip for each thousand. Raises BackendUnavailable."""
        self._check_expiry(changes)
        outcomes: list[Outcome] = []
        for at in range(0, len(changes), _MOST_CHANGES):
            outcomes += self._change(changes[at : at + _MOST_CHANGES])
        return outcomes

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same without waiting for the outcomes (see Provider).

        Opening a connection may have to be waited for, an answer never; whoever next uses the connection reads it.
        """
        self._check_expiry(changes)
        if not changes:
            return
        try:
            connection = self._pool.take_to_tell()
        except BackendError:
            return
        try:
            requests, outcomes = self._requests(connection, changes)
            if requests:
                connection.tell(b"".join(requests), outcomes.count(None))
        except BackendError:
            self._pool.discard(connection)
            return
        except BaseException:
            self._pool.discard(connection)
            raise
        self._pool.give_back(connection)

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """memcached does not tell its keys: raises NotSupported."""
        raise NotSupported("memcached cannot list its keys")

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """memcached drops what has expired by itself: 0."""
        return 0

    def status(self) -> Mapping[str, int | float | str]:
        """Counters of the server and of the pool. Raises BackendUnavailable."""
        stats = self._read(Connection.stats)
        facts: dict[str, int | float | str] = {
            "address": str(self.address),
            "connections": self._pool.connections,
            "version": stats["version"],
        }
        names = {
            "pid": "pid",
            "uptime": "uptime",
            "items": "curr_items",
            "bytes": "bytes",
            "max_bytes": "limit_maxbytes",
            "hits": "get_hits",
            "misses": "get_misses",
            "evicted": "evictions",
            "server_connections": "curr_connections",
        }
        for name, theirs in names.items():
            if theirs in stats:
                facts[name] = int(stats[theirs])
        return facts

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    # -- reading

    def _read(self, ask: Callable[[Connection], _T]) -> _T:
        """Ask on some connection, and once more on a new one if the server had closed that."""
        pool = self._pool
        connection = pool.take()
        try:
            answer = ask(connection)
        except Disconnected:
            if not connection.reused:
                pool.discard(connection)
                raise
            connection = pool.take_new_instead(connection)
            try:
                answer = ask(connection)
            except BaseException:
                pool.discard(connection)
                raise
        except BaseException:
            pool.discard(connection)
            raise
        pool.give_back(connection)
        return answer

    def _fetch(self, request: bytes, count: int, reserving: bool) -> list[Item | None]:
        def ask(connection: Connection) -> list[Item | None]:
            replies = connection.ask(request)
            found = [self._item(connection, replies.value(), reserving) for _ in range(count)]
            replies.end()
            return found

        return self._read(ask)

    def _item(self, connection: Connection, stored: Stored | None, reserving: bool) -> Item | None:
        if stored is None:
            return None
        data, start, stop, number, flags = stored
        token = Token(connection.incarnation, number)
        if flags == _PLAIN:
            return Item(data[start:stop], token)
        if flags == _WITH_EXPIRES and stop - start >= _EXPIRES.size:
            (expires,) = _EXPIRES.unpack_from(data, start)
            if expires > self._clock.seconds():
                return Item(data[start + _EXPIRES.size : stop], token, expires)
        # What has expired, or is not ours, is in the way of the server's placeholder, and serves as one.
        return Item(b"", token) if reserving else None

    # -- changing

    def _check_expiry(self, changes: Sequence[Change]) -> None:
        now = 0.0
        for change in changes:
            if isinstance(change, Store) and change.expires:
                now = now or self._clock.seconds()
                if not change.expires > now:
                    raise ValueError(f"a value that expired {now - change.expires} s ago")

    def _change(self, changes: Sequence[Change]) -> list[Outcome]:
        connection = self._pool.take_live()
        try:
            requests, outcomes = self._requests(connection, changes)
            if requests:
                replies = connection.ask(b"".join(requests))
                for place, change in enumerate(changes):
                    if outcomes[place] is None:
                        outcomes[place] = self._outcome(connection, change, *replies.outcome())
                replies.end()
        except BaseException:
            self._pool.discard(connection)
            raise
        self._pool.give_back(connection)
        return outcomes

    def _requests(
        self, connection: Connection, changes: Sequence[Change]
    ) -> tuple[list[bytes], list[Outcome]]:
        """What to send, in pieces; and what is refused without asking, None in the places of those to send."""
        requests: list[bytes] = []
        outcomes: list[Outcome] = []
        for change in changes:
            try:
                requests += self._request(connection, change)
            except BackendError as refusal:
                outcomes.append(refusal)
            else:
                outcomes.append(None)
        return requests, outcomes

    def _request(self, connection: Connection, change: Change) -> tuple[bytes, ...]:
        """One change as a meta command. Raises BadKey, TooLarge, Conflict."""
        name = self._keys.name(change.key)
        expect = change.expect
        if isinstance(expect, Token):
            # After a restart the server's numbers begin anew, and an old one could fit by chance.
            if expect.incarnation != connection.incarnation:
                raise Conflict(f"the token for {change.key!r} is of another life of the server")
            only_if = b" C%d\r\n" % expect.number
        elif isinstance(expect, Absent):
            only_if = b" ME\r\n"
        else:
            only_if = b"\r\n"
        if isinstance(change, Remove):
            return (b"md " + name + only_if,)
        value, expires = change.value, change.expires
        size, limit = len(value), connection.item_size_max - _OVERHEAD
        if size > limit:  # the server would refuse it, too, but take away what was there
            raise TooLarge(size, limit)
        if not expires:
            return (b"ms %b %d c%b" % (name, size, only_if), value, b"\r\n")
        ttl = _ttl(expires, self._clock.seconds())
        head = b"ms %b %d c F%d T%d%b" % (name, size + _EXPIRES.size, _WITH_EXPIRES, ttl, only_if)
        return (head, _EXPIRES.pack(expires), value, b"\r\n")

    def _outcome(self, connection: Connection, change: Change, code: bytes, number: int) -> Outcome:
        if code == b"HD":
            return Token(connection.incarnation, number) if isinstance(change, Store) else None
        if code == b"NF" and isinstance(change, Remove):
            return NotFound(change.key)
        if code == FULL:
            return StorageFull("memcached has no room, and was told not to evict")
        if code == TOO_LARGE:
            return TooLarge(len(change.value) if isinstance(change, Store) else 0, connection.item_size_max)
        return Conflict(f"the key {change.key!r} is in another state")


def _ttl(expires: float, now: float) -> int:
    """What memcached is told: at least the time that is left, whatever the phase of its clock; 0 for never."""
    left = expires - now
    if left < _RELATIVE_SECONDS - 2:
        return math.ceil(left) + 1
    return math.ceil(expires) + 1 if expires < _LAST_DATE - 2 else 0
