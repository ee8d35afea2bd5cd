"""The provider `redis`: the contract of a small-object cache over a Redis (see `envelope` for what is in it).

A store that expects nothing is a SET; whatever else looks before it leaps is a script. The keys of a namespace begin
with `socache:NAMESPACE:`.

What `maxmemory-policy` has Redis evict may vanish at any moment. It is not persistent, whatever Redis writes to its
disk: after a restart that may be older than what was acknowledged, and is not handed out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from redis.exceptions import OutOfMemoryError

from syncstore.cache.api import (
    BackendUnavailable,
    Change,
    Conflict,
    Features,
    Item,
    Limits,
    NotFound,
    Outcome,
    Remove,
    StorageFull,
    Token,
    check_expiry,
)
from syncstore.cache.of_several import (
    MAX_KEY,
    OfSeveral,
    check_fetch,
    new_number,
    refusal,
    storable,
)
from syncstore.cache.redis.envelope import (
    Life,
    milliseconds,
    packed_number,
    packed_time,
    seal,
    unseal,
)
from syncstore.cache.redis.scripts import DONE, NOT_FOUND, REMOVE, RESERVE, STORE, SWEEP
from syncstore.cache.redis.server import Command, Link, Reply, Server, good
from syncstore.clock import Clock

_FEATURES: Final = Features(
    cas=True, shared=True, shared_hosts=True, persistent=False, evicts=True, iterable=True
)
_NO_STATE: Final = packed_number(0)  # a number that no state has
_MOST_NUMBERS: Final = 2**63
_TOGETHER: Final = 1000
_BYTES_TOGETHER: Final = 8 * 1024 * 1024
_SCANNED_AT_ONCE: Final = 500
_SWEPT_AT_ONCE: Final = 10
_FACTS: Final = {
    b"redis_version": "version",
    b"used_memory": "bytes_used",
    b"maxmemory": "max_bytes",
    b"maxmemory_policy": "policy",
    b"evicted_keys": "evicted",
    b"expired_keys": "expired",
}


class RedisProvider(OfSeveral):
    """A cache in a Redis. `namespace` tells its keys from others'; `max_value` is in bytes."""

    name = "redis"
    features = _FEATURES

    def __init__(self, server: Server, clock: Clock, *, namespace: str, max_value: int) -> None:
        self._server = server
        self._clock = clock
        self._prefix = f"socache:{namespace}:".encode()
        self._limits = Limits(max_key=MAX_KEY, max_value=max_value)
        self._swept = ""  # the incarnation of which all keys have been looked at
        self._sweeping: tuple[str, bytes] = ("", b"0")

    @property
    def limits(self) -> Limits:
        """What fits into it, as the constructor was told."""
        return self._limits

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys (see Provider). Raises BadKey, BackendUnavailable, and StorageFull where it is to
        reserve."""
        check_fetch(keys, reserve)
        if not keys:
            return []
        if reserve:
            return self._fetch_and_reserve(keys, reserve)
        return self._server.run(lambda link: self._find(link, keys), again=True)

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider)."""
        check_expiry(changes, self._clock.seconds())
        outcomes: list[Outcome] = [refusal(change, self._limits.max_value) for change in changes]
        places = [place for place, outcome in enumerate(outcomes) if outcome is None]
        for some in _portions(places, changes):
            asked = [changes[place] for place in some]
            made = self._server.run(lambda link: self._change(link, asked), again=False)  # noqa: B023 - called at once
            for place, outcome in zip(some, made, strict=True):
                outcomes[place] = outcome
        return outcomes

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items, some at a time as they are then. Raises BackendUnavailable, also when the
        server starts again meanwhile."""
        listed: set[bytes] = set()  # Redis may name a key twice
        cursor, incarnation = b"0", ""
        while True:
            cursor, found, life = self._server.run(lambda link: self._scan(link, cursor, listed), again=True)  # noqa: B023 - called at once
            if incarnation not in ("", life.incarnation):
                raise BackendUnavailable(f"{self._server.shown} has started again")
            incarnation = life.incarnation
            for key, item in found:
                if item is not None:
                    yield key, item
            if cursor == b"0":
                return

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """Drop some of what was stored before the server started again; how many. What expires Redis drops by itself.

        Once all keys have been looked at there is no more to do until the next start.
        """
        if limit <= 0:
            return 0
        return self._server.run(self._sweep, again=False)

    def status(self) -> Mapping[str, int | float | str]:
        """Where it is, and what the server tells of itself, of all namespaces and databases."""
        replies, incarnation = self._server.run(
            lambda link: (link.ask([("INFO",), ("DBSIZE",)]), link.life.incarnation), again=True
        )
        about, size = good(replies[0]), good(replies[1])
        facts: dict[str, int | float | str] = {
            "server": self._server.shown,
            "incarnation": incarnation,
            "keys_in_database": size,
        }
        for line in about.splitlines():
            name, _, value = line.partition(b":")
            if name in _FACTS:
                text = value.decode("ascii", "replace")
                facts[_FACTS[name]] = int(text) if text.isdigit() else text
        return facts

    def close(self) -> None:
        """Give back the connections. The next call opens them again."""
        self._server.close()

    # All below is called by Server.run.

    def _find(self, link: Link, keys: Sequence[bytes]) -> list[Item | None]:
        (envelopes,) = link.ask([("MGET", *(self._prefix + key for key in keys))])
        now = self._clock.seconds()
        return [_item(link.life, envelope, now) for envelope in good(envelopes)]

    def _fetch_and_reserve(self, keys: Sequence[bytes], reserve: float) -> list[Item | None]:
        found: list[Item | None] = []
        for start in range(0, len(keys), _TOGETHER):
            some = keys[start : start + _TOGETHER]
            found += self._server.run(lambda link: self._reserve(link, some, reserve), again=False)  # noqa: B023 - called at once
        return found

    def _reserve(self, link: Link, keys: Sequence[bytes], reserve: float) -> list[Item | None]:
        now = self._clock.seconds()
        expires = storable(now + reserve)
        until = milliseconds(expires)
        numbers = [new_number() for _ in keys]
        about = (link.life.mark, packed_time(now))
        commands: list[Command] = [
            (
                "EVALSHA",
                RESERVE,
                1,
                self._prefix + key,
                *about,
                seal(link.life, b"", number, expires),
                until or "",
            )
            for key, number in zip(keys, numbers, strict=True)
        ]
        found: list[Item | None] = []
        for number, reply in zip(numbers, link.ask(commands), strict=True):
            if isinstance(reply, OutOfMemoryError):
                raise StorageFull(f"{self._server.shown} has no room: {reply}")
            envelope = good(reply)
            if envelope is None:
                found.append(Item(b"", Token(link.life.incarnation, number), expires))
            else:
                # By the time at which the script found it alive.
                found.append(_item(link.life, envelope, now))
        return found

    def _change(self, link: Link, changes: Sequence[Change]) -> list[Outcome]:
        now = packed_time(self._clock.seconds())
        numbers = [new_number() for _ in changes]
        commands = [
            self._command(link.life, change, number, now)
            for change, number in zip(changes, numbers, strict=True)
        ]
        return [
            self._outcome(link.life, change, number, reply)
            for change, number, reply in zip(changes, numbers, link.ask(commands), strict=True)
        ]

    def _command(self, life: Life, change: Change, number: int, now: bytes) -> Command:
        name = self._prefix + change.key
        expected = b""
        if isinstance(change.expect, Token):
            incarnation, seen = change.expect
            fits = incarnation == life.incarnation and 0 < seen < _MOST_NUMBERS
            expected = packed_number(seen) if fits else _NO_STATE
        if isinstance(change, Remove):
            return ("EVALSHA", REMOVE, 1, name, life.mark, now, expected or "any")
        expires = storable(change.expires)
        until = milliseconds(expires)
        envelope = seal(life, change.value, number, expires)
        if change.expect is None:
            return ("SET", name, envelope) if until is None else ("SET", name, envelope, "PXAT", until)
        return ("EVALSHA", STORE, 1, name, life.mark, now, envelope, until or "", expected or "none")

    def _outcome(self, life: Life, change: Change, number: int, reply: Reply) -> Outcome:
        if isinstance(reply, OutOfMemoryError):
            return StorageFull(f"{self._server.shown} has no room: {reply}")
        answer = good(reply)
        if answer in (DONE, b"OK"):
            return None if isinstance(change, Remove) else Token(life.incarnation, number)
        if answer == NOT_FOUND:
            return NotFound(change.key)
        return Conflict(f"the key {change.key!r} is in another state")

    def _scan(
        self, link: Link, cursor: bytes, listed: set[bytes]
    ) -> tuple[bytes, list[tuple[bytes, Item | None]], Life]:
        """The next cursor, and what is under keys that are not `listed`, which then are."""
        cursor, names = self._names(link, cursor)
        keys = [key for key in dict.fromkeys(names) if key not in listed]
        found = self._find(link, keys) if keys else []
        listed.update(keys)
        return cursor, list(zip(keys, found, strict=True)), link.life

    def _names(self, link: Link, cursor: bytes) -> tuple[bytes, list[bytes]]:
        command = ("SCAN", cursor, "MATCH", self._prefix + b"*", "COUNT", _SCANNED_AT_ONCE)
        cursor, names = good(link.ask([command])[0])
        return cursor, [name[len(self._prefix) :] for name in names]

    def _sweep(self, link: Link) -> int:
        incarnation = link.life.incarnation
        if self._swept == incarnation:
            return 0
        of, cursor = self._sweeping
        if of != incarnation:
            cursor = b"0"
        swept = 0
        for _ in range(_SWEPT_AT_ONCE):
            cursor, keys = self._names(link, cursor)
            if keys:
                names = [self._prefix + key for key in keys]
                swept += good(link.ask([("EVALSHA", SWEEP, len(names), *names, link.life.mark)])[0])
            if cursor == b"0":
                self._swept = incarnation
                break
        self._sweeping = (incarnation, cursor)
        return swept


def _portions(places: Sequence[int], changes: Sequence[Change]) -> Iterator[Sequence[int]]:
    """What may go together: so many, and of so many bytes unless it is one alone."""
    start = size = 0
    for number, place in enumerate(places):
        change = changes[place]
        more = 0 if isinstance(change, Remove) else len(change.value)
        if number > start and (number - start == _TOGETHER or size + more > _BYTES_TOGETHER):
            yield places[start:number]
            start, size = number, 0
        size += more
    if places:
        yield places[start:]


def _item(life: Life, envelope: bytes | None, now: float) -> Item | None:
    content = None if envelope is None else unseal(life, envelope, now)
    if content is None:
        return None
    return Item(content.value, Token(life.incarnation, content.number), content.expires)
