"""The plan of a history: who asks for what, how it is scheduled, and what goes wrong. Drawn from a seed.

A plan is data, so that it can be printed, and made smaller while it still fails.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from syncstore.bso import Change
from syncstore.testing.simulation.faults import CLASS_OF, SURROUNDINGS, Fault
from syncstore.testing.simulation.scheduler import Mode

UNCACHED: Final = "history"
WRITE_THROUGH: Final = "crypto"
CACHED_ONLY: Final = "tabs"
ALSO_CACHED_ONLY: Final = "clients"
COLLECTIONS: Final = (UNCACHED, WRITE_THROUGH, CACHED_ONLY)

USER: Final = 1
NEIGHBOUR: Final = 2

READS: Final = frozenset({"read", "news", "ids", "item", "times", "counts", "usage", "modified"})


class Request(NamedTuple):
    """One request. A guarded one has X-If-Unmodified-Since with what its client knows. `pause` is in seconds,
    before it; a retried one is sent again when it was not answered well."""

    kind: str
    collection: str = ""
    changes: tuple[Change, ...] = ()
    ids: tuple[str, ...] = ()
    guarded: bool = False
    pause: float = 0.0
    retry: bool = False


class ClientPlan(NamedTuple):
    """One client: whose it is, the process it begins with, and its requests in order."""

    name: str
    uid: int
    process: int
    requests: tuple[Request, ...]


class Plan(NamedTuple):
    """One history. `prelude` is done before anything else, without faults; `pause`, in seconds, comes after it."""

    seed: int
    schedule: int
    mode: Mode
    tick: int
    processes: int
    prelude: tuple[Request, ...]
    pause: float
    clients: tuple[ClientPlan, ...]
    faults: tuple[Fault, ...]
    most_value: int = 20_000
    lock_timeout: float = 2.0
    quota: int | None = None
    fresh_epoch: bool = False
    lease: float = 1.0
    probe_interval: float = 1.5

    @property
    def names(self) -> list[str]:
        """The collections that anybody asks for."""
        requests = [*self.prelude, *(request for client in self.clients for request in client.requests)]
        return sorted({request.collection for request in requests if request.collection})


KINDS: Final = (
    *("put",) * 9,
    *("put item",) * 3,
    *("delete item",) * 2,
    "delete items",
    *("delete collection",) * 2,
    *("wipe",) * 1,
    *("batch",) * 2,
    *("read",) * 5,
    *("news",) * 4,
    "ids",
    *("item",) * 2,
    *("times",) * 4,
    "counts",
    "usage",
    *("modified",) * 2,
)


class Mix(NamedTuple):
    """What histories of a configuration are made of. There are at most three processes.

    Eager clients wait but fractions of a second, and mostly try again what was not answered. While the clock stands
    times are drawn each one after the last, so that one which was rolled back is drawn again. `neighbours` is the share
    of clients that are another user's.
    """

    collections: tuple[str, ...] = COLLECTIONS
    faults: tuple[str, ...] = (*SURROUNDINGS, *CLASS_OF)
    most_faults: int = 4
    most_clients: int = 4
    most_requests: int = 4
    kinds: tuple[str, ...] = KINDS
    least_processes: int = 1
    eager: bool = False
    clock_stands: bool = False
    neighbours: float = 0.07


_IDS: Final = ("a", "b", "c")


def draw(seed: int, mix: Mix) -> Plan:
    """The plan of a seed."""
    random = Random(seed)
    number = random.random
    expiry = number() < 0.1
    favourites = [name for name in mix.collections if number() < 0.6] or list(mix.collections)
    if CACHED_ONLY in favourites and number() < 0.15:
        favourites.append(ALSO_CACHED_ONLY)
    make = _Requests(random, favourites, mix, expiry=expiry, large=number() < 0.05)
    processes = mix.least_processes + int(number() * (4 - mix.least_processes))
    clients = []
    for i in range(2 + int(number() * (mix.most_clients - 1))):
        uid = NEIGHBOUR if i and number() < mix.neighbours else USER
        requests = make.several(f"{i}", 1 + int(number() * mix.most_requests))
        clients.append(ClientPlan(f"client {i}", uid, int(number() * processes), requests))
    prelude: tuple[Request, ...] = ()
    if number() < 0.75:
        prelude = make.several("p", 1 + int(number() * 3), readers=0.3)
    count = sum(len(client.requests) for client in clients)
    plan = Plan(
        seed,
        seed,
        random.choice(("random", "random", "sticky", "priorities")),
        random.choice((0, 20, 200, 2000)),
        processes,
        prelude,
        random.choice((0.0, 0.0, 0.5, 3.0)),
        tuple(clients),
        tuple(_draw_faults(random, mix, count)) if number() < 0.92 else (),
        most_value=400 if number() < 0.08 else 20_000,
        fresh_epoch=number() < 0.1,
        lease=random.choice((1.0, 1.0, 4.0)),
        probe_interval=random.choice((0.2, 1.5)),
        quota=20 if number() < 0.04 else None,
    )
    return plan._replace(tick=0, pause=0.0) if mix.clock_stands else plan


def _draw_faults(random: Random, mix: Mix, requests: int) -> list[Fault]:
    faults = []
    for _ in range(1 + int(random.random() * mix.most_faults)):
        kind = random.choice(mix.faults)
        range_ = 1.5 if kind in CLASS_OF else 9
        faults.append(Fault(kind, 1 + int(random.random() * requests * range_)))
    return faults


class _Requests:
    """Draws requests. Every payload is unique."""

    def __init__(
        self, random: Random, collections: list[str], mix: Mix, *, expiry: bool, large: bool
    ) -> None:
        self._random = random
        self._collections = collections
        self._kinds = mix.kinds
        self._expiry = expiry
        self._large = large
        self._pauses: tuple[float, ...] = (
            (0.0, 0.05, 0.2, 0.6) if mix.eager else (0.0, 0.0, 0.0, 0.01, 0.3, 1.5)
        )
        if mix.clock_stands:
            self._pauses = (0.0,)
        self._retries = 0.8 if mix.eager else 0.3

    def several(self, who: str, count: int, readers: float = 0.0) -> tuple[Request, ...]:
        """So many, a batch counted once though it is several."""
        requests: list[Request] = []
        for i in range(count):
            kind = self._random.choice(self._kinds)
            if readers and self._random.random() > readers:
                kind = "put"
            requests += self._requests(kind, f"{who}.{i}")
        return tuple(requests)

    def _requests(self, kind: str, tag: str) -> list[Request]:
        random = self._random
        name = random.choice(self._collections)
        guarded = random.random() < 0.3
        pause = random.choice(self._pauses)
        retry = random.random() < self._retries
        if kind == "put":
            return [Request(kind, name, self._changes(tag), (), guarded, pause, retry)]
        if kind == "put item":
            return [Request(kind, name, self._changes(tag, most=1), (), guarded, pause, retry)]
        if kind == "batch":
            return self._batch(name, tag, guarded, pause)
        ids: tuple[str, ...] = ()
        if kind in ("delete item", "item"):
            ids = (random.choice(_IDS),)
        elif kind == "delete items":
            ids = tuple(random.sample(_IDS, 2))
        if kind in ("wipe", "times", "counts", "usage"):
            name = ""
        return [Request(kind, name, (), ids, guarded and kind not in READS, pause, retry)]

    def _batch(self, name: str, tag: str, guarded: bool, pause: float) -> list[Request]:
        requests = [Request("open", name, self._changes(f"{tag}o"), (), guarded, pause)]
        if self._random.random() < 0.4:
            requests.append(Request("append", name, self._changes(f"{tag}a"), (), guarded))
        last = self._changes(f"{tag}c") if self._random.random() < 0.5 else ()
        requests.append(Request("commit", name, last, (), guarded, 0.0, self._random.random() < 0.5))
        if self._random.random() < 0.2:
            requests.append(Request("commit", name, (), (), guarded))  # once more: it must be refused
        return requests

    def _changes(self, tag: str, most: int = 2) -> tuple[Change, ...]:
        random = self._random
        ids = random.sample(_IDS, 1 + int(random.random() * most))
        return tuple(self._change(id_, f"{tag}{id_}") for id_ in ids)

    def _change(self, id_: str, tag: str) -> Change:
        random = self._random
        kind = random.random()
        if kind < 0.06:
            return Change(id_, sortindex=int(random.random() * 100))
        ttl = int(random.random() * 4) if self._expiry and random.random() < 0.4 else None
        if kind < 0.1:
            return Change(id_, ttl=ttl or 1000)
        payload = tag + "." * 300 if self._large and random.random() < 0.5 else tag
        return Change(id_, payload, ttl=ttl)
