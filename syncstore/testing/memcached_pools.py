"""A pool of real memcacheds, as the test and the processes that it starts open it, and what can be done to it.

What describes a pool can be pickled, so another process opens one over the same servers and states. The states are in
a file unless another store is named; one that is new begins with all servers out of use, and the keeper brings them
into use a lease later: `PoolStand.open` waits for that.
"""

from __future__ import annotations

import functools
import itertools
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.announcing import Announcer, OnFailure
from syncstore.cache.memcached.claims import Claims
from syncstore.cache.memcached.control import Control, NewServer
from syncstore.cache.memcached.group import Group, Member
from syncstore.cache.memcached.keeper import Keeper
from syncstore.cache.memcached.pool import Pool
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memcached.ring import tag_of
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import Rules, Transition
from syncstore.clock import Clock, SystemClock
from syncstore.testing.processes import HOST
from syncstore.testing.record_reader import OpenStore
from syncstore.testing.record_stores import open_file_records
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.waiting import await_that

LEASE: Final = 0.2
TIMEOUT: Final = 0.3
"""Seconds of a lease, and of both timeouts, where nothing else is said."""

PATIENCE: Final = 30.0
"""Seconds that a busy machine may need for what takes one or two."""

_numbers = itertools.count(1)


class PoolServer(NamedTuple):
    """A server of a pool: its name, and the port where the pool looks for it."""

    name: str
    port: int
    weight: int = 1


class PoolDescription(NamedTuple):
    """All that makes a pool, as its settings would. Times are in seconds. With `keep` False nobody brings a failed
    server back by himself, and no markers are kept."""

    servers: tuple[PoolServer, ...]
    open_store: OpenStore
    prefix: str
    strategy: str = "consistent"
    attempts: int = 0
    resubmit: bool = False
    lease: float = LEASE
    timeout: float = TIMEOUT
    failure_limit: int = 3
    pause: float = 1.0
    retry_interval: float = 2 * LEASE
    on_failure: OnFailure | None = None
    keep: bool = True


class OpenPool(NamedTuple):
    """An open pool with its parts. `transitions` are those that it has made itself, from first to last."""

    pool: Pool
    control: Control
    group: Group
    keeper: Keeper | None
    transitions: list[Transition]

    def state_of(self, name: str) -> int:
        """The epoch of a server, asked now."""
        return self.group.members[name].state.current()

    def await_use(self, *names: str) -> None:
        """Wait until these servers, or all, are in use here."""
        members = self.group.members
        for name in names or members:
            await_that(lambda name=name: members[name].state.trusted() is not None, what=f"{name} is in use")  # type: ignore[misc]  # its own name

    def await_failure(self, name: str) -> None:
        """Wait until this server has been known here to be out of use for a lease."""
        await_that(lambda: self.group.members[name].state.settled() is not None, what=f"{name} is out of use")


@contextmanager
def open_pool(description: PoolDescription, clock: Clock | None = None) -> Iterator[OpenPool]:
    """Open a pool. The values expire by `clock`; everything else goes by the system's."""
    clock, own = clock or SystemClock(), SystemClock()
    transitions: list[Transition] = []
    announcer = Announcer(
        description.on_failure, {server.name: (HOST, server.port) for server in description.servers}
    )

    def tell(transition: Transition) -> None:
        transitions.append(transition)
        announcer(transition)

    def join(new: NewServer) -> Member:
        def over(prefix: str) -> MemcachedProvider:
            return MemcachedProvider(
                new.address,
                clock,
                prefix=f"{prefix}:".encode(),
                timeout=new.timeout,
                connect_timeout=new.timeout,
            )

        values, marks = over(description.prefix), over(f"marks-{description.prefix}")
        return Member(new.name, values, marks, servers.add(new.name), new.retry_interval)

    with ExitStack() as ends:
        records = ends.enter_context(description.open_store())
        servers = Servers(
            records,
            [server.name for server in description.servers],
            own,
            Rules(
                description.lease, description.failure_limit, bool(description.attempts), description.pause
            ),
            scope=description.prefix,
            in_sql=records.name == "sql",
            tell=tell,
        )
        group = Group(servers, description.strategy)
        ends.callback(group.close)
        for name, port, weight in description.servers:
            new = NewServer(name, Address(HOST, port), description.timeout, description.retry_interval)
            group.add(join(new), weight)
        keeper = _keeper(description, group, own) if description.keep else None
        if keeper is not None:
            ends.callback(keeper.stop, last=False)
        pool = Pool(group, own, attempts=description.attempts, resubmit=description.resubmit)
        yield OpenPool(pool, Control(group, join, own), group, keeper, transitions)


def _keeper(description: PoolDescription, group: Group, clock: Clock) -> Keeper:
    claims = Claims(f"{group.servers.records.identity()} {description.prefix}", HOST, clock)
    keeper = Keeper(group, claims, clock, flush=False)
    keeper.claim_all()
    keeper.start()
    return keeper


class PoolStand:
    """Memcacheds by name, with which pools are opened; `options` are words of each one's command line."""

    def __init__(self, names: Sequence[str] = ("a", "b", "c"), options: Sequence[str] = ()) -> None:
        self.servers = {name: MemcachedServer(options=options) for name in names}

    def start(self) -> PoolStand:
        """Start those that do not run, let those go on that are frozen, and empty all."""
        for server in self.servers.values():
            if not server.alive:
                server.start()
            server.thaw()
            server.flush()
        return self

    def close(self) -> None:
        """End all."""
        for server in self.servers.values():
            server.close()

    def describe(self, folder: Path, **more: Any) -> PoolDescription:
        """A pool of all servers, with keys and states that no other has: those are in `folder`. `more` are fields of
        PoolDescription."""
        number = next(_numbers)
        described = PoolDescription(
            tuple(PoolServer(name, server.port) for name, server in self.servers.items()),
            functools.partial(open_file_records, folder / f"states-{number}"),
            f"pool{number}",
        )
        return described._replace(**more)

    @contextmanager
    def open(
        self, description: PoolDescription, *, without: Sequence[str] = (), clock: Clock | None = None
    ) -> Iterator[OpenPool]:
        """Open a pool, and wait until its servers, but those `without`, are in use."""
        with open_pool(description, clock) as opened:
            names = [name for name in opened.group.members if name not in without]
            if not description.keep or description.retry_interval < 0:
                for name in names:
                    assert opened.control.rejoin(HOST, self.servers[name].port)
            opened.await_use(*names)
            yield opened


def keys_of(control: Control, name: str, count: int) -> list[bytes]:
    """So many keys whose home is the server `name`, each with a tag of its own."""
    keys = (b"%d:key" % number for number in itertools.count(1))
    return list(itertools.islice((key for key in keys if control.find_server(tag_of(key)) == name), count))


class DeadPort(threading.Thread):
    """Stands where a server is dead, on its port: `times` are when somebody called, who is hung up on."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.times: list[float] = []
        self._listener = socket.create_server((HOST, port), backlog=128)

    @property
    def calls(self) -> int:
        """How many there have been."""
        return len(self.times)

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.times.append(time.monotonic())
            connection.close()

    def __enter__(self) -> DeadPort:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # a close alone does not wake the thread in accept()
        self._listener.close()
        self.join(PATIENCE)


@contextmanager
def flapping(server: MemcachedServer, *, up: float, down: float) -> Iterator[None]:
    """With a server that is killed and started again, all the time. Times are in seconds; it is up at the end."""
    ended = threading.Event()

    def flap() -> None:
        while not ended.wait(up):
            server.kill9()
            ended.wait(down)
            server.start()

    thread = threading.Thread(target=flap, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PATIENCE)
