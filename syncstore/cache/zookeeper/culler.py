"""Removing what has expired: one process of all does it, the one that holds an ephemeral node.

The node only spares the others the work. Should two believe they hold it, since one has not noticed yet that its
session is over, both delete nothing but what is still as they saw it.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

from syncstore.cache.api import BackendError
from syncstore.cache.zookeeper.places import BUCKETS, Places, State, decode
from syncstore.cache.zookeeper.planning import Drop, Seen
from syncstore.cache.zookeeper.transactions import MOST, Transactions
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.errors import NodeExists, NoNode, Refused, ZKUnavailable
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.nodes import Get, List, Look, Node, Stat

_PAGE_BYTES: Final = 8_000_000  # what one page of reads should bring at most, as far as the last one tells
_FIRST_PAGE: Final = 50
_RESIGN_SECONDS: Final = 0.5


class Culler:
    """Walks through the buckets of a cache, from where it stopped the last time."""

    def __init__(self, cluster: Cluster, places: Places, transactions: Transactions) -> None:
        self._cluster = cluster
        self._places = places
        self._transactions = transactions
        self._next = 0
        self._page = _FIRST_PAGE
        self._led_by = 0  # the process in which this was the leader last
        self.culled = 0
        self.walks = 0

    def cull(self, now: float, limit: int) -> int:
        """Drop up to `limit` values that had expired at `now`, if this process is the one who does.

        Returns less than `limit` only when all were looked at. Raises BackendError.
        """
        if limit <= 0 or not self._lead():
            return 0
        buckets = [self._places.bucket(number) for number in range(len(BUCKETS))]
        with self._transactions.asking() as (zk, left):
            facts = self._transactions.look(zk, [Look(bucket) for bucket in buckets], left)
        dropped = 0
        for _ in buckets:
            fact = facts[self._next]
            if isinstance(fact, Stat) and fact.children:
                dropped += self._cull(buckets[self._next], now, limit - dropped)
            if dropped >= limit:
                return dropped
            self._next = (self._next + 1) % len(buckets)
        self.walks += 1
        return dropped

    def leader(self) -> str:
        """Who does it: "this process", "another" or "nobody". Raises BackendError."""
        with self._transactions.asking() as (zk, left):
            stat = zk.exists(self._places.culler, left())
            if stat is None:
                return "nobody"
            return "this process" if stat.owner == zk.session_id else "another"

    def resign(self) -> None:
        """Let another do it, if that can be said at once; else when the session is over."""
        if self._led_by != os.getpid():
            return
        self._led_by = 0
        with suppress(ZKUnavailable, Refused), self._cluster.try_acquire() as zk:
            stat = zk.exists(self._places.culler, _RESIGN_SECONDS)
            if stat is not None and stat.owner == zk.session_id:
                zk.delete(self._places.culler, timeout=_RESIGN_SECONDS)

    # -- inside

    def _lead(self) -> bool:
        path = self._places.culler
        with self._transactions.asking() as (zk, left):
            stat = zk.exists(path, left())
            if stat is None:
                stat = self._stand(zk, left())
            leads = stat is not None and stat.owner == zk.session_id
        self._led_by = os.getpid() if leads else 0
        return leads

    def _stand(self, zk: Handle, timeout: float) -> Stat | None:
        who = f"{socket.gethostname()} {os.getpid()}".encode()
        try:
            return zk.create(self._places.culler, who, ephemeral=True, timeout=timeout).stat
        except (NodeExists, NoNode):  # another was faster; or nothing was ever stored here
            return None

    def _cull(self, bucket: str, now: float, limit: int) -> int:
        with self._transactions.asking() as (zk, left):
            (names,) = self._transactions.look(zk, [List(bucket)], left)
        assert names is None or isinstance(names, list)  # noqa: S101 - for mypy: a list was asked for
        dropped = at = 0
        while names and at < len(names) and dropped < limit:
            page = names[at : at + self._page]
            at += len(page)
            dropped += self._cull_page(bucket, page, now, limit - dropped)
        self.culled += dropped
        return dropped

    def _cull_page(self, bucket: str, names: list[str], now: float, limit: int) -> int:
        paths = [f"{bucket}/{name}" for name in names]
        with self._transactions.asking() as (zk, left):
            answers = self._transactions.look(zk, [Look(bucket), *map(Get, paths)], left)
        stat = answers[0]
        nodes = [node for node in answers[1:] if isinstance(node, Node)]
        size = sum(len(node.value) for node in nodes) // (len(nodes) or 1)
        self._page = min(MOST, max(1, _PAGE_BYTES // (size + 100)))
        expired: dict[bytes, State | None] = {}
        for name, path, node in zip(names, paths, answers[1:], strict=True):
            state = self._expired(path, node, now)
            key = self._places.key_of(bucket, name)
            if state is not None and key is not None and len(expired) < limit:
                expired[key] = state
        if not expired:
            return 0
        drops = [Drop(key, state.token) for key, state in expired.items() if state is not None]
        seen = Seen({bucket: stat.version if isinstance(stat, Stat) else None}, expired)
        return self._transactions.change(drops, seen, now).count(None)

    @staticmethod
    def _expired(path: str, node: object, now: float) -> State | None:
        """A state that had expired; what is none of ours is left alone."""
        if not isinstance(node, Node):
            return None
        with suppress(BackendError):
            state = decode(path, node)
            return None if state.live(now) else state
        return None
