"""The simulated memcached: one server that all processes share, and each process's connection to it as a provider.

It forgets what it likes, and its numbers begin anew when it restarts. Commands may be lost, answered by nobody, or
executed long after their caller has given up. Whatever it forgets is noted, so that a checker knows what may be
missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from syncstore.cache.api import (
    BackendUnavailable,
    BadKey,
    Change,
    Conflict,
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
from syncstore.cache.api import Expect as Expected
from syncstore.testing.simulation.clock import ProcessClock
from syncstore.testing.simulation.exchanges import Exchange
from syncstore.testing.simulation.faults import Faults
from syncstore.testing.simulation.scheduler import SECOND, Process, World


class Entry(NamedTuple):
    """A stored value; `ends` in microseconds of virtual time, 0 for never. `number` is its cas id."""

    value: bytes
    number: int
    ends: int
    expires: float


class Loss(NamedTuple):
    """A value that the server forgot, at a step. Placeholders, which are empty, are noted, too."""

    step: int
    key: bytes
    size: int


class Server:
    """The server. `incarnation` grows with every restart; what was sent to an earlier one never arrives."""

    def __init__(self, world: World, name: str = "cache") -> None:
        self.world = world
        self.name = name
        self.data: dict[bytes, Entry] = {}
        self.incarnation = 1
        self.losses: list[Loss] = []
        self._numbers = 0

    def get(self, key: bytes) -> Entry | None:
        """The live entry of a key."""
        entry = self.data.get(key)
        if entry is not None and entry.ends and entry.ends <= self.world.now:
            self.drop(key)
            return None
        return entry

    def put(self, key: bytes, value: bytes, ends: int, expires: float) -> Entry:
        """Store under a new number."""
        self._numbers += 1
        entry = self.data[key] = Entry(value, self._numbers, ends, expires)
        return entry

    def drop(self, key: bytes) -> None:
        """Forget a key by itself."""
        entry = self.data.pop(key, None)
        if entry is not None:
            self.world.note("    forgets", key)
            self.losses.append(Loss(self.world.steps, key, len(entry.value)))

    def forget_everything(self) -> None:
        """Flush."""
        for key in list(self.data):
            self.drop(key)

    def restart(self) -> None:
        """Everything is gone, connections are dead, and numbers begin with 1 again."""
        self.forget_everything()
        self.incarnation += 1
        self._numbers = 0


class SimulatedCache:
    """One process's way to the server: a cache.api.Provider.

    With `bound` false its tokens do not know the incarnation that they came from, and its late commands survive a
    restart, as through a proxy: for exhibits of what went wrong before.
    """

    name = "simulated"
    max_key = 230
    """Bytes of a key at most, known without asking."""
    features = Features(
        cas=True, shared=True, shared_hosts=True, persistent=False, evicts=True, iterable=False
    )

    def __init__(
        self,
        server: Server,
        process: Process,
        clock: ProcessClock,
        faults: Faults,
        *,
        most: int,
        bound: bool = True,
    ) -> None:
        self._server = server
        self._world = server.world
        self._process = process
        self._clock = clock
        self._faults = faults
        self._most = most
        self._bound = bound
        self._incarnation = server.incarnation
        self.away_until = 0
        """Until when the process does not reach the server, in microseconds of virtual time."""

    @property
    def limits(self) -> Limits:
        """What fits (see Provider)."""
        return Limits(max_key=self.max_key, max_value=self._most, ttl_step=1.0)

    def reconnect(self) -> None:
        """As if an old connection had been found dead, and replaced."""
        self._incarnation = self._server.incarnation

    # -- one key

    def retrieve(self, key: bytes) -> Item:
        """The value of a key (see Provider)."""
        found = self.fetch([key])[0]
        if found is None:
            raise NotFound(key)
        return found

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expected = None) -> Token:
        """Store a value (see Provider)."""
        outcome = self.change([Store(key, value, expires, expect)])[0]
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome is not None
        return outcome

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove a key (see Provider)."""
        outcome = self.change([Remove(key, expect)])[0]
        if isinstance(outcome, Exception):
            raise outcome

    # -- several at once

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys, each read at a step of its own (see Provider)."""
        fault = self._faults.hit("fetch")
        connection = self._connect()
        found: list[Item | None] = []
        world = self._world
        for key in keys:
            world.step("cache get", key)
            if fault == "fetch lost" and len(found) == len(keys) - 1:
                self._unavailable("FAILS")
            self._still(connection)
            found.append(self._get(connection, key, reserve))
        if fault == "fetch slow":
            world.note("cache answer", "SLOW")
            world.sleep(world.random.random() * 2)
        return found

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Changes, each made at a step of its own (see Provider)."""
        fault = self._faults.hit("change")
        exchange = self._world.current.serving if self._world.current is not None else None
        if isinstance(exchange, Exchange):
            exchange.stored = True
        lives = [self._life(change) for change in changes]
        connection = self._connect()
        outcomes: list[Outcome] = []
        world = self._world
        if fault == "change late":
            world.step("cache change", "LATE")
            self._send_later(connection, changes, 60)
            self._unavailable("NO ANSWER, YET")
        for number, change in enumerate(changes):
            world.step("cache remove" if isinstance(change, Remove) else "cache store", change)
            if fault == "change lost" or (fault == "change half done" and number == len(changes) - 1):
                self._unavailable("FAILS")
            self._still(connection)
            if fault in ("storage full", "storage full and dropped") and isinstance(change, Store):
                if fault == "storage full and dropped":
                    self._server.drop(change.key)
                outcome: Outcome = StorageFull("the simulated server is full")
            else:
                outcome = self._make(connection, change, lives[number])
            if isinstance(outcome, Exception):
                world.note("  refused", outcome)
            outcomes.append(outcome)
        if fault == "change slow":
            world.note("cache answer", "SLOW")
            world.sleep(world.random.random() * 2)
        if fault == "change reply lost":
            self._unavailable("DONE, BUT NOT ANSWERED")
        return outcomes

    def change_later(self, changes: Sequence[Change]) -> None:
        """Changes that nobody waits for (see Provider)."""
        fault = self._faults.hit("change")
        connection = self._incarnation
        if not changes or self._process.dead or self.away_until > self._world.now:
            return
        if fault in ("change later never", "change lost"):
            self._world.note("cache change later", "LOST")
            return
        self._send_later(connection, changes, 60 if fault else 0)

    # -- the rest

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """Not possible (see Provider)."""
        raise NotSupported("memcached cannot list its keys")

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """The server does so by itself (see Provider)."""
        return 0

    def status(self) -> Mapping[str, int | float | str]:
        """Facts for an operator (see Provider)."""
        return {"items": len(self._server.data)}

    def close(self) -> None:
        """Nothing is open."""

    # -- inside

    def _connect(self) -> int:
        """The incarnation that this round trip talks to; sometimes an old connection has to fail first."""
        world = self._world
        if self.away_until > world.now:
            world.step("cache connect")
            world.sleep(0.1)
            self._unavailable("UNREACHABLE")
        if self._bound and self._incarnation != self._server.incarnation:
            self._incarnation = self._server.incarnation
            if world.random.random() < 0.5:
                world.step("cache connect")
                self._unavailable("THE CONNECTION WAS DEAD")
        return self._incarnation

    def _still(self, connection: int) -> None:
        if self._bound and connection != self._server.incarnation:
            self._unavailable("THE CONNECTION DIED")
        if self.away_until > self._world.now:
            self._unavailable("UNREACHABLE")

    def _unavailable(self, why: str) -> NoReturn:
        self._world.note("  cache", why)
        raise BackendUnavailable(why)

    def _token(self, connection: int, number: int) -> Token:
        return Token(connection if self._bound else None, number)

    def _get(self, connection: int, key: bytes, reserve: float) -> Item | None:
        entry = self._server.get(key)
        if entry is None:
            if not reserve:
                return None
            entry = self._server.put(key, b"", self._world.now + int(reserve * SECOND), 0.0)
        return Item(entry.value, self._token(connection, entry.number), entry.expires)

    def _life(self, change: Change) -> int:
        """How long a value is to live, in microseconds: the real server is told so, by the process's clock."""
        if isinstance(change, Remove) or not change.expires:
            return 0
        left = change.expires - self._clock.seconds()
        if left <= 0:
            raise ValueError("expires is not in the future")
        return int(left * SECOND) + 1

    def _make(self, connection: int, change: Change, life: int) -> Outcome:
        key, expect = change.key, change.expect
        if not 1 <= len(key) <= self.max_key:
            return BadKey(len(key), self.max_key)
        if isinstance(expect, Token) and self._bound and expect.incarnation != connection:
            return Conflict("the token is of another incarnation")
        entry = self._server.get(key)
        if isinstance(change, Remove):
            if entry is None:
                return NotFound(key)
            if isinstance(expect, Token) and expect.number != entry.number:
                return Conflict("changed meanwhile")
            del self._server.data[key]
            return None
        return self._put(connection, change, life, entry)

    def _put(self, connection: int, change: Store, life: int, entry: Entry | None) -> Outcome:
        if len(change.value) > self._most:
            return TooLarge(len(change.value), self._most)
        if change.expect is not None:
            number = change.expect.number if isinstance(change.expect, Token) else None
            if (entry.number if entry is not None else None) != number:
                return Conflict("changed meanwhile" if entry is not None else "gone meanwhile")
        ends = self._world.now + life if life else 0
        stored = self._server.put(change.key, change.value, ends, change.expires)
        return self._token(connection, stored.number)

    def _send_later(self, connection: int, changes: Sequence[Change], most_steps: int) -> None:
        """In order, each at some later step; what is on its way when the server restarts is gone."""
        rest = [(change, self._life(change)) for change in changes]

        def next_one() -> None:
            change, life = rest.pop(0)
            if self._bound and connection != self._server.incarnation:
                return
            outcome = self._make(connection, change, life)
            self._world.note("  late", (change, outcome))
            if rest:
                self._world.later("a cache change arrives", next_one, most_steps=most_steps // 2)

        self._world.later("a cache change arrives", next_one, most_steps=most_steps)
