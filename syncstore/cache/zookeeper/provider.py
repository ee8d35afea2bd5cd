"""The provider `zookeeper`: the calls of the contract, over the transactions of one ZooKeeper cluster.

Values stay until they are removed or expire, over restarts of everything. What has expired is never handed out, and
is in nobody's way; it is removed when somebody meets it, and by `cull`.

How new is what is read. With `synced` reads a server catches up with the leader before it answers. A follower that
lags is not noticed. What remains is a leader that was cut off from the others and has not noticed yet: it, and a
follower cut off with it, answers with what it remembers, for ZooKeeper's syncLimit at most, while the others may have
elected another and changed that. With `agreed` reads the servers agree on a step that changes nothing first, which
such a leader cannot: then a read sees all that anybody was told was done. It costs each read what a change costs, on
all servers and their disks. With one server the two are the same.

What is changed is never wrong for it: see `planning`. Whoever removes nodes by hand does so while nobody uses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from syncstore.cache.api import (
    ABSENT,
    Change,
    Conflict,
    Features,
    Item,
    Limits,
    Outcome,
    Store,
    Token,
    check_expiry,
)
from syncstore.cache.of_several import MAX_KEY, OfSeveral, check_fetch
from syncstore.cache.zookeeper.culler import Culler
from syncstore.cache.zookeeper.later import Later
from syncstore.cache.zookeeper.places import BUCKETS, MAX_VALUE, Places, State
from syncstore.cache.zookeeper.planning import Drop
from syncstore.cache.zookeeper.transactions import MOST, Transactions
from syncstore.clock import Clock
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.nodes import List, Look, Stat

TIMEOUT: Final = 2.0
"""Seconds for a call."""

_FEATURES = Features(cas=True, shared=True, shared_hosts=True, persistent=True, evicts=False, iterable=True)
_MOST_LATER = 1_000
_RESERVATIONS = 5  # attempts: each time somebody else has filled the place, and emptied it


class ZooKeeperProvider(OfSeveral):
    """A cache in ZooKeeper. The cluster belongs to whoever gave it, and is not closed here.

    Each call takes `timeout` seconds at most, for every 500 keys or megabyte of values; `max_value` is in bytes.
    """

    name = "zookeeper"
    features = _FEATURES

    def __init__(
        self,
        cluster: Cluster,
        places: Places,
        clock: Clock,
        *,
        timeout: float = TIMEOUT,
        max_value: int = MAX_VALUE,
        agreed: bool = False,
    ) -> None:
        self._cluster = cluster
        self._places = places
        self._clock = clock
        self._limits = Limits(max_key=MAX_KEY, max_value=max_value)
        self._transactions = Transactions(
            cluster, places, clock, timeout=timeout, max_value=max_value, agreed=agreed
        )
        self._culler = Culler(cluster, places, self._transactions)
        self._later = Later(self._transactions.change, most=_MOST_LATER, patience=timeout)

    @property
    def limits(self) -> Limits:
        """What fits into it."""
        return self._limits

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys (see Provider), in one round trip for each 500, and two for reservations.

        Raises BadKey, BackendUnavailable.
        """
        check_fetch(keys, reserve)
        found = self._fetch(list(dict.fromkeys(keys)), drop=not reserve)
        if reserve:
            self._reserve(found, reserve)
        return [found[key] for key in keys]

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider): a read and a transaction for each 500 keys or megabyte of values.

        Those of one transaction are all made at one moment.
        """
        self._check_expiry(changes)
        return self._transactions.change(changes) if changes else []

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same without waiting (see Provider). Where a thousand changes wait it takes up to the timeout."""
        self._check_expiry(changes)
        self._later.add(changes)

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items (see Provider). Raises BackendUnavailable."""
        buckets = [self._places.bucket(number) for number in range(len(BUCKETS))]
        for bucket in buckets:
            with self._transactions.asking() as (zk, left):
                (names,) = self._transactions.look(zk, [List(bucket)], left)
            keys = [self._places.key_of(bucket, name) for name in names] if isinstance(names, list) else []
            yield from self._iterate([key for key in keys if key is not None])

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """Drop expired values (see Provider); 0 in all processes but one. Raises BackendUnavailable."""
        return self._culler.cull(self._clock.seconds() if now is None else now, limit)

    def status(self) -> Mapping[str, int | float | str]:
        """What is there, who culls, and what this process did. Raises BackendUnavailable."""
        buckets = [self._places.bucket(number) for number in range(len(BUCKETS))]
        with self._transactions.asking() as (zk, left):
            answers = self._transactions.look(zk, [Look(bucket) for bucket in buckets], left)
        return {
            "cluster": str(self._cluster.ensemble),
            "path": self._places.root,
            "nodes": sum(stat.children for stat in answers if isinstance(stat, Stat)),
            "max_value": self._limits.max_value,
            "culler": self._culler.leader(),
            "culled": self._culler.culled,
            "walks": self._culler.walks,
            "waiting": len(self._later),
            "lost": self._later.lost,
        }

    def close(self) -> None:
        """Make what was to be changed later, in the time of one call, and leave the culling to others."""
        self._later.close()
        self._culler.resign()

    # -- inside

    def _check_expiry(self, changes: Sequence[Change]) -> None:
        check_expiry(changes, self._clock.seconds())

    def _fetch(self, keys: Sequence[bytes], *, drop: bool) -> dict[bytes, Item | None]:
        found = self._transactions.read(keys)
        now = self._clock.seconds()
        expired = [
            Drop(key, state.token)
            for key, state in found.items()
            if state is not None and not state.live(now)
        ]
        if drop and expired:
            self._later.drop(expired)
        return {key: _live(state, now) for key, state in found.items()}

    def _reserve(self, found: dict[bytes, Item | None], seconds: float) -> None:
        """Put placeholders where nothing is."""
        for _ in range(_RESERVATIONS):
            missing = [key for key, item in found.items() if item is None]
            if not missing:
                return
            expires = self._clock.seconds() + seconds
            outcomes = self._transactions.change([Store(key, b"", expires, ABSENT) for key in missing])
            taken = []
            for key, outcome in zip(missing, outcomes, strict=True):
                if isinstance(outcome, Token):
                    found[key] = Item(b"", outcome, expires)
                elif isinstance(outcome, Conflict):
                    taken.append(key)
                elif isinstance(outcome, Exception):
                    raise outcome
            if not taken:
                return
            found.update(self._fetch(taken, drop=False))

    def _iterate(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Item]]:
        for at in range(0, len(keys), MOST):
            for key, item in self._fetch(keys[at : at + MOST], drop=True).items():
                if item is not None:
                    yield key, item


def _live(state: State | None, now: float) -> Item | None:
    return state.item if state is not None and state.live(now) else None
