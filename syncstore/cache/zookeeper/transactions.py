"""Reading states and changing them: the round trips between this process and the cluster.

A read is all questions at once, behind a step that brings the server up to date. A change is such a read and one
transaction of what was planned on it; where others were faster it begins anew, on what is there then. A transaction is
sent once. When its answer does not come, what became of it is not known, and BackendUnavailable says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from syncstore.cache.api import ABSENT, BackendUnavailable, Outcome, Store
from syncstore.cache.zookeeper.places import Place, Places, State, decode, encode, token_of
from syncstore.cache.zookeeper.planning import Seen, Wish, plan, refusal
from syncstore.clock import Clock
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.errors import BadVersion, NodeExists, NoNode, Refused, ZKUnavailable
from syncstore.zookeeper.handle import Handle
from syncstore.zookeeper.nodes import ANY_VERSION, Check, Get, Look, Node, Question, Stat

MOST: Final = 500
"""Keys in one round trip."""

_MOST_BYTES = 1_000_000  # of values in one transaction; more than one only if they are together not more
_TRIES_TOGETHER = 3  # then each half by itself, since each change of another is in the way of all
_TRIES_ALONE = 10

_T = TypeVar("_T")
Left = Callable[[], float]
"""Seconds until the call has to end."""


class Transactions:
    """The states of one cache. Every call takes `timeout` seconds at most for each 500 keys, or each megabyte."""

    def __init__(
        self,
        cluster: Cluster,
        places: Places,
        clock: Clock,
        *,
        timeout: float,
        max_value: int,
        agreed: bool,
    ) -> None:
        self._cluster = cluster
        self._places = places
        self._clock = clock
        self._timeout = timeout
        self._max_value = max_value
        self._after = Check("/", ANY_VERSION) if agreed else None

    @contextmanager
    def asking(self) -> Iterator[tuple[Handle, Left]]:
        """A handle for one call, and the seconds left for it. Raises BackendUnavailable in place of what goes wrong."""
        end = time.monotonic() + self._timeout

        def left() -> float:
            return max(0.0, end - time.monotonic())

        try:
            with self._cluster.acquire(left()) as zk:
                yield zk, left
        except ZKUnavailable as error:
            raise BackendUnavailable(str(error)) from error
        except Refused as error:
            raise BackendUnavailable(
                f"the ZooKeeper cluster {self._cluster.ensemble.name}: {error}"
            ) from error

    def look(
        self, zk: Handle, questions: Sequence[Question], left: Left
    ) -> list[Node | Stat | list[str] | None]:
        """The answers to questions, from a server that is up to date."""
        return zk.read_all(questions, after=self._after, timeout=left())

    # -- states

    def read(self, keys: Sequence[bytes]) -> dict[bytes, State | None]:
        """The states of keys, in one round trip for each 500. Raises BackendUnavailable."""
        found: dict[bytes, State | None] = {}
        for at in range(0, len(keys), MOST):
            part = keys[at : at + MOST]
            nodes = [self._places.of(key).node for key in part]
            with self.asking() as (zk, left):
                answers = self.look(zk, [Get(node) for node in nodes], left)
            found.update(zip(part, map(_state, nodes, answers), strict=True))
        return found

    def change(
        self, wishes: Sequence[Wish], seen: Seen | None = None, now: float | None = None
    ) -> list[Outcome]:
        """Make changes (see Provider.change), those of each 500 keys or megabyte at one moment.

        What was `seen` a moment ago spares the first read; it must have all keys. What had expired at `now`, in
        seconds since the epoch, counts as missing. Raises BackendUnavailable.
        """
        if len(wishes) == 1 and seen is None and isinstance(wishes[0], Store) and wishes[0].expect is None:
            return [self._overwrite(wishes[0])]
        guess = seen is None and all(isinstance(wish, Store) and wish.expect is ABSENT for wish in wishes)
        outcomes: list[Outcome] = []
        for part in self._parts(wishes):
            outcomes += self._change(part, seen, now, guess=guess)
        return outcomes

    # -- inside

    def _parts(self, wishes: Sequence[Wish]) -> Iterator[Sequence[Wish]]:
        start = size = 0
        for place, wish in enumerate(wishes):
            more = len(wish.value) + len(wish.key) * 3 if isinstance(wish, Store) else 0
            if place > start and (place - start == MOST or size + more > _MOST_BYTES):
                yield wishes[start:place]
                start, size = place, 0
            size += min(more, _MOST_BYTES)
        yield wishes[start:]

    def _overwrite(self, store: Store) -> Outcome:
        """Store over whatever is there, which seldom is nothing: in one round trip then."""
        refused = refusal(store, self._max_value)
        if refused is not None:
            return refused
        node = self._places.of(store.key).node
        with self.asking() as (zk, left):
            try:
                return token_of(zk.set(node, encode(store.value, store.expires), timeout=left()))
            except NoNode:
                pass
        return self._change([store], None, None, guess=True)[0]

    def _change(
        self, wishes: Sequence[Wish], seen: Seen | None, now: float | None, *, guess: bool = False
    ) -> list[Outcome]:
        """Make changes at one moment. With a `guess` nothing is read before, since most likely nothing is there."""
        places = {
            wish.key: self._places.of(wish.key) for wish in wishes if refusal(wish, self._max_value) is None
        }
        if guess:
            seen = Seen.nothing(places)
        with self.asking() as (zk, left):
            for _ in range(_TRIES_ALONE if len(wishes) == 1 else _TRIES_TOGETHER):
                outcomes = self._try(zk, wishes, places, seen, now, left)
                if outcomes is not None:
                    return outcomes
                seen = None
        if len(wishes) == 1:
            raise BackendUnavailable(f"{wishes[0].key!r} and keys near it are changed by too many at once")
        middle = len(wishes) // 2
        return self._change(wishes[:middle], None, now) + self._change(wishes[middle:], None, now)

    def _try(
        self,
        zk: Handle,
        wishes: Sequence[Wish],
        places: dict[bytes, Place],
        seen: Seen | None,
        now: float | None,
        left: Left,
    ) -> list[Outcome] | None:
        """The outcomes, or None where somebody else was faster, and nothing was changed."""
        if seen is None:
            seen = self._see(zk, places, left)
        if now is None:
            now = self._clock.seconds()
        steps, outcomes, tokens = plan(wishes, seen, places, now, self._max_value)
        if not steps:
            return outcomes
        try:
            results = zk.transaction(steps, left())
        except NoNode as error:
            if error.path in seen.buckets:
                zk.ensure(self._places.root, left())
            return None
        except (BadVersion, NodeExists):
            return None
        for place, step in tokens.items():
            stat = results[step]
            assert isinstance(stat, Stat)  # noqa: S101 - for mypy: it is the result of a set
            outcomes[place] = token_of(stat)
        return outcomes

    def _see(self, zk: Handle, places: dict[bytes, Place], left: Left) -> Seen:
        """What there is. The buckets first: see `planning`."""
        buckets = sorted({place.bucket for place in places.values()})
        nodes = [place.node for place in places.values()]
        answers = self.look(zk, [*map(Look, buckets), *map(Get, nodes)], left)
        versions = {
            bucket: answer.version if isinstance(answer, Stat) else None
            for bucket, answer in zip(buckets, answers, strict=False)
        }
        return Seen(versions, dict(zip(places, map(_state, nodes, answers[len(buckets) :]), strict=True)))


def _state(path: str, answer: object) -> State | None:
    return decode(path, answer) if isinstance(answer, Node) else None
