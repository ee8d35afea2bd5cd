"""Stand-ins: where the cached values of a failed server's users are kept until it returns, if that is allowed.

Everybody who reads or marks must look at the same place. So a stand-in is used only by who has known for a lease
that the server has failed, when all others have ceased to use it; and a server returns in two steps, between which
everybody has ceased to use its stand-ins. A stand-in may fail in turn: then the next one is used, on the same
conditions. The names of values have the epochs of the server and of all its stand-ins in them, so nothing that is
left over from one outage is found in the next one.

What lives in the cache alone never moves: nobody else has it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from syncstore.cache.memcached.records import Standing, standing
from syncstore.cache.memcached.ring import Placement, again
from syncstore.cache.memcached.servers import Servers
from syncstore.errors import NotYet, Unavailable

_MOST_KEPT = 64
_AGAIN = 0.02  # seconds until the request is begun again, on what is known better by then


class Chain(NamedTuple):
    """A server and those that stand in for it, each for the one before: the last one is used. `final` says that there
    is no other that could stand in for that."""

    names: tuple[str, ...]
    final: bool


class StandIns:
    """Who stands in for whom. `attempts` is how often another server is looked for; with 0 nobody stands in."""

    def __init__(self, servers: Servers, placement: Callable[[], Placement], attempts: int) -> None:
        self._servers = servers
        self._placement = placement
        self._attempts = attempts

    def chain(self, tag: bytes) -> Chain:
        """The chain in use for the keys with a tag, as far as this process knows."""
        home = self._placement().find(tag)
        if not self._attempts:
            return Chain((home,), final=True)
        if self._servers[home].settled() is None:
            return Chain((home,), final=False)
        names = [home]
        others = list(self._others(tag, home))
        for name in others:
            names.append(name)
            if self._servers[name].settled() is None:
                break
        return Chain(tuple(names), final=len(names) == len(others) + 1)

    def _others(self, tag: bytes, home: str) -> Iterator[str]:
        seen = {home}
        find = self._placement().find
        for attempt in range(self._attempts):
            name = find(again(tag, attempt))
            if name not in seen:
                seen.add(name)
                yield name


class ChainState:
    """The state of the last server of a chain, for values whose home is the first (see ServerState).

    Its epochs stand for those of all the chain.
    """

    def __init__(self, servers: Servers, chain: Chain) -> None:
        *before, last = (servers[name] for name in chain.names)
        self._before = tuple(before)
        self._last = last
        self._final = chain.final
        self._of_last: dict[int, int] = {}  # the last server's own epoch, by those that were given

    def trusted(self) -> int | None:
        """The epoch, while all before have failed for long enough (see ServerState)."""
        epochs: list[int] = []
        for state in self._before:
            failed = state.settled()
            if failed is None:
                return None
            epochs.append(failed)
        last = self._last.trusted()
        return None if last is None else self._named(epochs, last)

    def still(self, epoch: int) -> bool:
        """Whether all views are the same, and their leases run (see ServerState).

        Then no server before the last one has returned, and nobody uses another stand-in.
        """
        last = self._of_last.get(epoch)
        if last is None or not self._last.still(last):
            return False
        epochs = [state.settled_still() for state in self._before]
        known = [failed for failed in epochs if failed is not None]
        return len(known) == len(epochs) and self._named(known, last) == epoch

    def judge(self, read_epoch: Callable[[str], int]) -> int | None:
        """The epoch to mark under, or None (see ServerState).

        Raises NotYet also when another chain is in use by now: whoever begins again finds it.
        """
        epochs: list[int] = []
        for state in self._before:
            epoch = state.judged(read_epoch)
            if standing(epoch) is Standing.RETURNING:
                return None  # known for a lease: its stand-ins are not used any more, and it is not used yet
            if not epoch & 1:
                state.forget_view()
                raise NotYet(f"the cache {state.name} has returned", _AGAIN)
            epochs.append(epoch)
        last = self._last.judged(read_epoch)
        if not last & 1:
            return self._named(epochs, last)
        if self._final or standing(last) is Standing.RETURNING:
            return None
        self._last.forget_view()
        raise NotYet(f"the cache {self._last.name} has a stand-in", _AGAIN)

    def trouble(self, reason: str) -> None:
        """The last server did not answer (see ServerState)."""
        self._last.trouble(reason)

    def answered(self) -> None:
        """The last server did (see ServerState)."""
        self._last.answered()

    def troubled(self) -> bool:
        """Whether the last server is being left alone (see ServerState)."""
        return self._last.troubled()

    def declare_failed(self, epoch: int, reason: str) -> Unavailable:
        """It is the last server that has failed (see ServerState)."""
        last = self._of_last.get(epoch)
        if last is None:
            return NotYet(f"the cache {self._last.name} did not answer", _AGAIN)
        return self._last.declare_failed(last, reason)

    def _named(self, before: Sequence[int], last: int) -> int:
        """A number for the epochs of all the chain: their own where there is but one, else a digest of 60 bits."""
        if before:
            text = b" ".join(b"%d" % epoch for epoch in (*before, last))
            name = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 4
        else:
            name = last
        if name not in self._of_last:
            if len(self._of_last) >= _MOST_KEPT:
                self._of_last = {}
            self._of_last[name] = last
        return name
