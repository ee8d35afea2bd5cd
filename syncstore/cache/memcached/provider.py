"""The provider `memcached`: the calls of the contract, each an exchange on one connection of the pool.

A read that finds the connection broken is asked once more on a new one. A change is not, since nobody knows what
became of it; so one looks whether the server is still there before sending it.

A value is never handed out late, but until the server drops it, at most two seconds later, it is in the way of a store
that expects ABSENT, and a removal finds it. A store refused with StorageFull took away what was there (see changes).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from syncstore.cache.api import (
    BackendError,
    BackendUnavailable,
    Busy,
    Change,
    Features,
    Item,
    Limits,
    NotSupported,
    Outcome,
    Token,
    check_expiry,
)
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.changes import (
    EXPIRES,
    OVERHEAD,
    PLAIN,
    RELATIVE_SECONDS,
    WITH_EXPIRES,
    command,
    outcome,
)
from syncstore.cache.memcached.connection import Connection
from syncstore.cache.memcached.connections import Connections
from syncstore.cache.memcached.keys import Keys
from syncstore.cache.memcached.replies import Stored
from syncstore.cache.memcached.stream import Disconnected
from syncstore.cache.of_several import OfSeveral
from syncstore.clock import Clock

_FEATURES = Features(cas=True, shared=True, shared_hosts=True, persistent=False, evicts=True, iterable=False)

# Requests in one go: their bytes, or those of the replies, must fit into the buffers of two sockets, or we and the
# server would both wait for the other to read.
_MOST_KEYS = 100
_MOST_CHANGES = 1_000

_T = TypeVar("_T")
_new: Final = tuple.__new__


class MemcachedProvider(OfSeveral):
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
        self._pool = Connections(
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
                max_value=self._read(lambda connection, _: connection.item_size_max) - OVERHEAD,
                ttl_step=2.0,
            )
        return self._limits

    @property
    def max_key(self) -> int:
        """`limits.max_key`, for which the server is not asked."""
        return self._keys.longest

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys (see Provider), in one round trip for each hundred of them.

        Raises BadKey, BackendUnavailable. On a server without room (-M) None also stands for what could not be
        reserved.
        """
        if reserve:
            if not 0 < reserve <= RELATIVE_SECONDS:
                raise ValueError(f"a reservation for {reserve} s")
            # one more, or it could end at the server's next tick
            end = b" v c f N%d\r\n" % (math.ceil(reserve) + 1)
        else:
            end = b" v c f\r\n"
        ask = self._fetch_reserving if reserve else self._fetch
        name = self._keys.name
        requests = [b"mg " + name(key) + end for key in keys]
        if len(requests) <= _MOST_KEYS:
            return self._read(ask, b"".join(requests)) if requests else []
        found: list[Item | None] = []
        for at in range(0, len(requests), _MOST_KEYS):
            found += self._read(ask, b"".join(requests[at : at + _MOST_KEYS]))
        return found

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider), in one round trip for each thousand. Raises BackendUnavailable."""
        self.check_expiry(changes)
        outcomes: list[Outcome] = []
        for at in range(0, len(changes), _MOST_CHANGES):
            try:
                outcomes += self._change(changes[at : at + _MOST_CHANGES])
            except Busy as error:
                if at:
                    raise BackendUnavailable(f"{len(changes) - at} changes were not sent: {error}") from error
                raise
        return outcomes

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same without waiting for the outcomes (see Provider).

        Opening a connection may have to be waited for, an answer never; whoever next uses the connection reads it.
        """
        self.check_expiry(changes)
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

    def flush(self) -> None:
        """Have the server forget everything, whoever's it is. Raises BackendUnavailable."""
        self._read(lambda connection, _: connection.flush())

    def status(self) -> Mapping[str, int | float | str]:
        """Counters of the server and of the pool. Raises BackendUnavailable."""
        stats = self._read(lambda connection, _: connection.stats())
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

    def _read(self, ask: Callable[[Connection, bytes], _T], request: bytes = b"") -> _T:
        """Ask on some connection, and once more on a new one if the server had closed that."""
        pool = self._pool
        connection = pool.take()
        try:
            answer = ask(connection, request)
        except Disconnected:
            if not connection.reused:
                pool.discard(connection)
                raise
            connection = pool.take_new_instead(connection)
            try:
                answer = ask(connection, request)
            except BaseException:
                pool.discard(connection)
                raise
        except BaseException:
            pool.discard(connection)
            raise
        pool.give_back(connection)
        return answer

    def _fetch(self, connection: Connection, request: bytes, *, reserving: bool = False) -> list[Item | None]:
        replies = connection.ask(request)
        incarnation = connection.incarnation
        found: list[Item | None] = []
        for _ in range(request.count(b"\n")):  # a line for each key
            stored = replies.value()
            if stored is None:
                found.append(None)
                continue
            data, start, stop, number, flags = stored
            # Item(...) and Token(...) would take a tenth of the whole call
            token = _new(Token, (incarnation, number))
            if flags == PLAIN:
                found.append(_new(Item, (data[start:stop], token, 0.0)))
            else:
                found.append(self._special(stored, token, reserving))
        replies.end()
        return found

    def _fetch_reserving(self, connection: Connection, request: bytes) -> list[Item | None]:
        return self._fetch(connection, request, reserving=True)

    def _special(self, stored: Stored, token: Token, reserving: bool) -> Item | None:
        """A value that begins with its `expires`, or is none of ours."""
        data, start, stop, _, flags = stored
        if flags == WITH_EXPIRES and stop - start >= EXPIRES.size:
            (expires,) = EXPIRES.unpack_from(data, start)
            if expires > self._clock.seconds():
                return Item(data[start + EXPIRES.size : stop], token, expires)
        # It is in the way of the server's placeholder, and serves as one.
        return Item(b"", token) if reserving else None

    # -- changing

    def check_expiry(self, changes: Sequence[Change]) -> None:
        """Raise ValueError for a value that has expired before it is stored, as every change does."""
        check_expiry(changes, self._clock.seconds())

    def _change(self, changes: Sequence[Change]) -> list[Outcome]:
        connection = self._pool.take_live()
        try:
            requests, outcomes = self._requests(connection, changes)
            if requests:
                replies = connection.ask(b"".join(requests))
                for place, change in enumerate(changes):
                    if outcomes[place] is None:
                        outcomes[place] = outcome(change, connection, *replies.outcome())
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
        name, now = self._keys.name, self._clock.seconds()
        requests: list[bytes] = []
        outcomes: list[Outcome] = []
        for change in changes:
            try:
                requests += command(change, name(change.key), connection, now)
            except BackendError as refusal:
                outcomes.append(refusal)
            else:
                outcomes.append(None)
        return requests, outcomes
