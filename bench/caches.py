"""What a store and a retrieve cost in each small-object cache: `python -m bench.caches`.

One client, then eight at once. Each client is a process with a cache of its own over the same place, but for `memory`,
which no two processes share: there clients are threads. Values have 500 bytes, keys are those of a client, and a
retrieve finds what was stored. The servers that a provider needs are started on loopback, and ended.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from syncstore.cache.api import Provider
from syncstore.cache.making import Description, Options, Surroundings, make
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.clock import SystemClock
from syncstore.testing.processes import ProgramMissing, StartFailed
from syncstore.testing.servers import MariaDBServer, MemcachedServer, PostgresServer
from syncstore.testing.service import SyncServer
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts

VALUE: Final = os.urandom(500)
KEYS: Final = 200
CLIENTS: Final = (1, 8)

Open = Callable[[], Provider]
"""Opens a client's cache, in the process that uses it."""


class Figures(NamedTuple):
    """Of one client: calls, and what each took of its time and of its CPU, in microseconds."""

    calls: int
    wall: float
    cpu: float


@contextmanager
def shmcb(folder: Path) -> Iterator[Open]:
    yield _made(f"shmcb:{folder}/cache(8388608)")


@contextmanager
def dbm(folder: Path) -> Iterator[Open]:
    yield _made(f"dbm:{folder}/cache.db")


@contextmanager
def memory(_: Path) -> Iterator[Open]:
    one = _made("memory")()
    yield lambda: one


@contextmanager
def sqlite(folder: Path) -> Iterator[Open]:
    yield _made(f"sql:sqlite:///{folder}/sql.db")


@contextmanager
def mysql(_: Path) -> Iterator[Open]:
    with MariaDBServer() as server:
        yield _made(f"sql:{server.create_database('bench')}")


@contextmanager
def postgresql(_: Path) -> Iterator[Open]:
    with PostgresServer() as server:
        yield _made(f"sql:{server.create_database('bench')}")


@contextmanager
def memcached(_: Path) -> Iterator[Open]:
    with MemcachedServer() as server:
        yield lambda: MemcachedProvider(
            Address.parse(server.address), SystemClock(), prefix=b"bench:", timeout=5.0, connect_timeout=5.0
        )


@contextmanager
def redis(_: Path) -> Iterator[Open]:
    from syncstore.testing.redis_server import RedisServer

    with RedisServer() as server:
        yield _made(f"redis:{server.address}")


@contextmanager
def zookeeper(_: Path) -> Iterator[Open]:
    with ZooKeeperServer() as server:

        def opened() -> Provider:
            return _made(
                "zookeeper:main/bench timeout=20", Clusters([Ensemble("main", parse_hosts(server.hosts))])
            )()

        yield opened


@contextmanager
def http(folder: Path) -> Iterator[Open]:
    """Another node, a `syncstore serve` of one process, with a memory below a mount."""
    settings = {"socache.bench": "memory", "shmap.mounts": "/map bench", "shmap.permission": "public"}
    with SyncServer(f"sqlite:///{folder}/sync.db", {"migrate": "auto", **settings}, workers=1) as server:
        yield _made(f"{server.url}/map timeout=20")


PROVIDERS: Final = {
    one.__name__: one
    for one in (memory, shmcb, dbm, sqlite, mysql, postgresql, memcached, redis, zookeeper, http)
}


def _made(text: str, clusters: Clusters | None = None) -> Open:
    def cluster(name: str) -> Cluster:
        if clusters is None:
            raise LookupError(name)
        return clusters[name]

    def no_memcached(_: str) -> Provider:
        raise LookupError("the memcached of this bench has a way of its own")

    def opened() -> Provider:
        described = Description.parse(text)
        options = Options(described.options)
        around = Surroundings("bench", SystemClock(), Path(), options, cluster, no_memcached, "")
        return make(described, around)

    return opened


def measure(opened: Open, clients: int, seconds: float, *, threads: bool) -> dict[str, list[Figures]]:
    """The figures of each client, by operation. Raises RuntimeError when a client fails."""
    run = _with_threads if threads else _with_processes
    return {
        operation: run(partial(_client, opened, operation, seconds, threads), clients)
        for operation in ("store", "retrieve")
    }


def _client(opened: Open, operation: str, seconds: float, threads: bool, number: int) -> Figures:
    cache = opened()
    keys = [b"%d:%d" % (number, key) for key in range(KEYS)]
    for key in keys:
        cache.store(key, VALUE)
    call: Callable[[bytes], object] = (
        cache.retrieve if operation == "retrieve" else lambda key: cache.store(key, VALUE)
    )
    # A process has threads besides, which do its work; of a thread only its own time counts.
    spent = time.thread_time if threads else time.process_time
    calls, began, cpu = 0, time.perf_counter(), spent()
    while (took := time.perf_counter() - began) < seconds:
        for key in keys[:20]:
            call(key)
        calls += 20
    return Figures(calls, took / calls * 1e6, (spent() - cpu) / calls * 1e6)


def _with_threads(work: Callable[[int], Figures], clients: int) -> list[Figures]:
    found: list[Figures] = []
    running = [
        threading.Thread(target=lambda number=number: found.append(work(number))) for number in range(clients)
    ]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return found


def _with_processes(work: Callable[[int], Figures], clients: int) -> list[Figures]:
    pipes = []
    for number in range(clients):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.write(writing, json.dumps(work(number)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        pipes.append((pid, reading))
    found = []
    for pid, reading in pipes:
        with open(reading, "rb") as pipe:
            told = pipe.read()
        os.waitpid(pid, 0)
        if not told:
            raise RuntimeError("a client failed")
        found.append(Figures(*json.loads(told)))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print; 1 when a provider could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench.caches", description=__doc__.splitlines()[0])
    parser.add_argument("--providers", type=lambda text: text.split(","), default=list(PROVIDERS))
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round of one operation")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.providers if name not in PROVIDERS]
    if unknown:
        parser.error(f"there is no {unknown[0]}: there are {', '.join(PROVIDERS)}")
    print("us per call: of a client's time, (of its CPU); and calls per second of all clients together")
    print(
        f"{'provider':<12}{'operation':<10}" + "".join(f"{f'{n} at once':>28}" for n in CLIENTS), flush=True
    )
    failed = 0
    for name in options.providers:
        with ExitStack() as ends:
            folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            try:
                opened = ends.enter_context(PROVIDERS[name](folder))
                rounds = [
                    measure(opened, clients, options.seconds, threads=name == "memory") for clients in CLIENTS
                ]
            except (ProgramMissing, StartFailed, RuntimeError) as error:
                print(f"{name:<12}not measured: {error}", flush=True)
                failed = 1
                continue
        for operation in ("store", "retrieve"):
            cells = [_cell(figures[operation]) for figures in rounds]
            print(f"{name:<12}{operation:<10}" + "".join(f"{cell:>28}" for cell in cells), flush=True)
    return failed


def _cell(figures: Sequence[Figures]) -> str:
    wall, cpu = (median(getattr(one, what) for one in figures) for what in ("wall", "cpu"))
    rate = sum(1e6 / one.wall for one in figures)
    return f"{wall:.1f} ({cpu:.1f}) {rate:,.0f}/s"


if __name__ == "__main__":
    sys.exit(main())
