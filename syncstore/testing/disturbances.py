"""Faults of a memcached, of the network before it and of the servers' workers, each noted with its times."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from syncstore.testing.cache_stand import CacheStand
from syncstore.testing.processes import ChildProcess
from syncstore.testing.tcp_proxy import SILENT, WELL, Fault


class Episode(NamedTuple):
    """One fault, from and to when in seconds of the monotonic clock. `loses` says that memcached may have forgotten."""

    kind: str
    began: float
    ended: float
    loses: bool


NETWORK_FAULTS = {
    "slow": Fault(delay=0.02),
    "too slow": Fault(delay=0.4),
    "silent": SILENT,
    "replies swallowed": Fault(swallow_replies=True),
    "requests swallowed": Fault(swallow_requests=True),
    "cut in mid-reply": Fault(cut_after=7),
    "cut after some replies": Fault(cut_after=5_000),
    "cut in mid-request": Fault(requests_cut_after=30),
    "dribbled": Fault(dribble=0.005),
}
"""What can be wrong with a network, by name."""

_BETWEEN_KILLS = 10.0  # seconds


class Disturbances:
    """The faults of a stand, and what there has been of them. `seed` decides what `something` does."""

    def __init__(self, stand: CacheStand, seed: int) -> None:
        self._stand = stand
        self._random = random.Random(seed)
        self._not_before = [0.0] * len(stand.servers)
        self.episodes: list[Episode] = []
        self.hits: Counter[str] = Counter()
        """What memcached counted, as far as it was asked before it was killed."""

    @property
    def losses(self) -> list[tuple[float, float]]:
        """When memcached may have lost what it held."""
        return [(one.began, one.ended) for one in self.episodes if one.loses]

    @contextmanager
    def _noted(self, kind: str, *, loses: bool = False) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.episodes.append(Episode(kind, began, time.monotonic(), loses))

    # -- faults that last

    @contextmanager
    def killed_memcached(self, number: int = 0) -> Iterator[None]:
        """Without one of the memcacheds, which is killed, and at the end started again on the same port, empty."""
        self.count_hits(number)
        with self._noted("memcached killed", loses=True):
            self._stand.memcacheds[number].kill9()
            try:
                yield
            finally:
                self._stand.memcacheds[number].start()

    @contextmanager
    def frozen_memcached(self, number: int = 0) -> Iterator[None]:
        """With a memcached that accepts and does not answer, and afterwards carries out what it was told."""
        with self._noted("memcached frozen"):
            self._stand.memcacheds[number].freeze()
            try:
                yield
            finally:
                self._stand.memcacheds[number].thaw()

    @contextmanager
    def network(self, name: str, server: int = 0) -> Iterator[None]:
        """With something wrong between a server and memcached, by its name in NETWORK_FAULTS."""
        proxy = self._stand.proxies[server]
        with self._noted(f"network {name}"):
            proxy.fault = NETWORK_FAULTS[name]
            try:
                yield
            finally:
                proxy.fault = WELL

    @contextmanager
    def cut_off(self, server: int = 0, memcached: int = 0) -> Iterator[None]:
        """With a server that is refused whenever it calls one of the memcacheds."""
        proxy = self._stand.ways[server][memcached]
        with self._noted("server cut off"):
            proxy.refuse()
            proxy.cut()
            try:
                yield
            finally:
                proxy.accept()

    @contextmanager
    def frozen_worker(self) -> Iterator[None]:
        """With a worker that stands still wherever it is, longer perhaps than what it last knew may be relied on."""
        workers = self._random.choice(self._stand.servers).workers
        with self._noted("worker frozen"):
            for worker in workers[-1:]:
                _signal(worker, signal.SIGSTOP)
            try:
                yield
            finally:
                for worker in workers[-1:]:
                    _signal(worker, signal.SIGCONT)

    @contextmanager
    def crowded(self) -> Iterator[None]:
        """With others who fill memcached with what nobody wants."""
        ended = threading.Event()
        others = threading.Thread(target=self._crowd, args=(ended,))
        with self._noted("memcached crowded", loses=True):
            others.start()
            try:
                yield
            finally:
                ended.set()
                others.join()

    def _crowd(self, ended: threading.Event) -> None:
        while not ended.wait(0.05):
            with suppress(OSError):  # memcached is away, or frozen
                self._crowd_until(ended)

    def _crowd_until(self, ended: threading.Event) -> None:
        draw = random.Random()
        with self._stand.memcached.connect(timeout=1) as connection:
            while not ended.wait(0.01):
                # of every size that the items of ours have, or memcached would evict them from other rooms
                sizes = [int(2 ** draw.uniform(4, 16)) for _ in range(20)]
                words = [
                    b"ms junk%d %d q\r\n%s\r\n" % (draw.getrandbits(40), size, b"j" * size) for size in sizes
                ]
                connection.sendall(b"".join(words))

    # -- faults of a moment

    def flush(self) -> None:
        """Empty memcached."""
        with self._noted("memcached flushed", loses=True), suppress(OSError):
            self._stand.memcached.flush()

    def evict(self, share: float = 0.3) -> None:
        """Take some of what memcached holds away, chosen at random."""
        with self._noted("items evicted", loses=True), suppress(OSError):
            keys = [key for key in self._keys() if self._random.random() < share]
            with self._stand.memcached.connect(timeout=1) as connection:
                connection.sendall(b"".join(b"md %s q\r\n" % key for key in keys) + b"mn\r\n")
                while not connection.recv(65_536).endswith(b"MN\r\n"):
                    pass

    def restart_memcached(self) -> None:
        """Kill memcached and start it again at once."""
        with self.killed_memcached():
            pass

    def cut_connections(self) -> None:
        """Close every connection to memcached."""
        with self._noted("connections cut"):
            for proxy in self._stand.proxies:
                proxy.cut()

    def kill_worker(self) -> None:
        """Kill a worker of some server, unless one was killed there a moment ago: granian gives up when a worker dies
        again within 5.5 seconds of its start."""
        number = self._random.randrange(len(self._stand.servers))
        if time.monotonic() < self._not_before[number]:
            return
        with self._noted("worker killed"):
            self._stand.servers[number].kill_worker()
        self._not_before[number] = time.monotonic() + _BETWEEN_KILLS

    def kill(self, server: ChildProcess, seconds: float) -> None:
        """Kill another server, and start it again after so many seconds."""
        with self._noted(f"{server.name} killed"):
            server.kill9()
            time.sleep(seconds)
            server.start()

    # -- by chance

    def something(self) -> None:
        """A fault that lasts, or none, and others while it lasts."""
        draw = self._random
        seconds = draw.choice((0.1, 0.5, 1.0, 2.0, 3.0))
        server = draw.randrange(len(self._stand.servers))
        lasting: list[Callable[[], object]] = [
            self.killed_memcached,
            self.frozen_memcached,
            self.frozen_worker,
            lambda: self.cut_off(server),
            lambda: self.network(draw.choice(list(NETWORK_FAULTS)), server),
            lambda: self.network(draw.choice(list(NETWORK_FAULTS)), server),
        ]
        if draw.random() < 0.5:
            self._moment(seconds)
            return
        with draw.choice(lasting)():  # type: ignore[attr-defined]  # each is one of the context managers above
            for _ in range(draw.choice((1, 1, 1, 2, 3))):
                self._moment(seconds / 2)

    def _moment(self, seconds: float) -> None:
        draw = self._random
        time.sleep(seconds * draw.random())
        moments = [self.flush, self.evict, self.evict, self.cut_connections, self.kill_worker]
        draw.choice(moments)()
        time.sleep(seconds * draw.random())

    # -- memcached's own words

    def count_hits(self, number: int = 0) -> None:
        """Add what a memcached has counted since its start to `hits`; to be called before it ends."""
        with suppress(OSError):
            self.hits.update(self.counters(number))

    def counters(self, number: int) -> Counter[str]:
        """What a memcached has counted since its start. Raises OSError."""
        found: Counter[str] = Counter()
        for line in self._ask(b"stats\r\n", b"END\r\n", number).split(b"\r\n"):
            words = line.split()
            if len(words) == 3 and words[1] in (b"get_hits", b"get_misses", b"evictions"):
                found[words[1].decode()] = int(words[2])
        return found

    def _keys(self) -> list[bytes]:
        dump = self._ask(b"lru_crawler metadump all\r\n", b"END\r\n")
        return [line.split()[0].removeprefix(b"key=") for line in dump.split(b"\n") if line[:4] == b"key="]

    def _ask(self, command: bytes, end: bytes, number: int = 0) -> bytes:
        found = b""
        with self._stand.memcacheds[number].connect(timeout=1) as connection:
            connection.sendall(command)
            while not found.endswith(end):
                piece = connection.recv(65_536)
                if not piece:
                    raise ConnectionError("memcached has hung up")
                found += piece
        return found


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it was killed meanwhile
        os.kill(pid, number)
