"""Pieces about several cache servers: who is believed after a failure, who stands in for whom, and for which group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from syncstore.cache.api import BackendError, Change, Item, Outcome, Provider
from syncstore.cache.memcached.group import Description
from syncstore.cache.memcached.records import HomeRecords, Standing, after_return, standing
from syncstore.cache.memcached.servers import Servers
from syncstore.cache.memcached.shared_state import SharedState
from syncstore.cache.memcached.stand_ins import ChainState
from syncstore.errors import SyncError
from syncstore.storage.api import Storage
from syncstore.testing.simulation.configurations import CONFIGURATIONS, Parts
from syncstore.testing.simulation.memcached import SimulatedCache
from syncstore.testing.simulation.plan import UNCACHED, WRITE_THROUGH, Mix, Plan
from tests.museum.piece import Build, Piece, leased, replaced, shared, spread
from tests.museum.state_pieces import GoesOnAtOnce


class NamesWithoutEpochs(SimulatedCache):
    """What is cached has the same name whatever has befallen its server."""

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        return super().fetch([_without_epoch(key) for key in keys], reserve=reserve)

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        return super().change([one._replace(key=_without_epoch(one.key)) for one in changes])

    def change_later(self, changes: Sequence[Change]) -> None:
        super().change_later([one._replace(key=_without_epoch(one.key)) for one in changes])


def _without_epoch(key: bytes) -> bytes:
    kind, _, rest = key.partition(b":")
    return key if kind not in (b"m", b"w") else kind + b":" + rest.partition(b":")[2]


class StandInAtOnce(SharedState):
    """A server that was declared failed just now has a stand-in already."""

    def settled_still(self) -> int | None:
        epoch, odd = self._view[0], self._odd
        if odd is None or odd[0] != epoch or self._clock.monotonic() >= self.known_until:
            return None
        return None if standing(epoch) is Standing.RETURNING else epoch


class ReturnsInOneStep(SharedState):
    """A server that answers again is used, while others still use its stand-in."""

    def probe(self, cache: Provider, *, held: bool = False) -> bool:
        try:
            epoch = self.current()
            if epoch & 1 and not self.wait:
                cache.store(b"probe", b"")
                self._servers.records.advance(self.row, epoch, after_return(epoch), "")
                self.forget_view()
        except (SyncError, BackendError):
            return False
        return True


class NamedAfterTheHome(ChainState):
    """The names of values have the epoch of the server that they belong to, and not of those that stand in for it."""

    def _named(self, before: Sequence[int], last: int) -> int:
        name = before[0] if before else last
        self._of_last[name] = last
        return name


class NamedAfterTheStandIn(ChainState):
    """The names of values have the epoch of the server that holds them, and not of the one that they belong to."""

    def _named(self, before: Sequence[int], last: int) -> int:
        self._of_last[last] = last
        return last


def _all_states(by: type[SharedState]) -> Build:
    """Builds the real layer, when all states of servers are objects of that subclass."""

    def build(parts: Parts) -> Storage:
        state = parts.state
        one = state._last if isinstance(state, ChainState) else state
        for each in one._servers:  # type: ignore[attr-defined]  # a SharedState
            each.__class__ = by
        return CONFIGURATIONS["stand-ins"].build(parts)

    return build


def _join_without_a_word(_home: HomeRecords, _description: Description, _servers: Servers) -> None:
    """Neither look who uses the servers, nor say so."""


_SQL: Final = (UNCACHED, WRITE_THROUGH)
_SEVERAL: Final = CONFIGURATIONS["several-servers"]
_STAND_INS: Final = CONFIGURATIONS["stand-ins-sql-backed"]
# Servers that both users have in the same order: so the one reads while the other finds out about a failure.
_IN_ONE_ORDER: Final = _STAND_INS._replace(servers=("alpha", "beta", "gamma"))
_TWO_GROUPS: Final = CONFIGURATIONS["two-groups"]
_KINDS: Final = ("put", "put", "times", "times", "read")
_OUTAGES: Final = (
    *("cache away for all", "cache away for all", "cache away", "cache away long"),
    *("time passes", "time passes"),
)
_MIX: Final = Mix(_SQL, _OUTAGES, 8, 4, 8, _KINDS, 2)
_LONG: Final = Mix(
    (UNCACHED,),
    ("home away for all long", "home away for all long", "cache away for all"),
    24,
    4,
    16,
    ("put", "times"),
    2,
)


def _slowly(plan: Plan) -> Plan:
    """Short leases, and more than that between requests: so an outage is known, and over, before the next one."""
    return leased(0.2)(spread(0.5)(shared(plan)))


def _with_long_leases(plan: Plan) -> Plan:
    """So whoever knows of no return has time to answer."""
    return leased(2.0)(spread(0.8)(shared(plan)))


PIECES: Final = (
    Piece(
        "names-without-epochs",
        "pymemcache's HashClient, measured: 199 of 200 reads",
        "A server that was away is used again, and its values have the names that they had.",
        "It answers from before the failure.",
        "stale",
        replaced(NamesWithoutEpochs),
        _MIX,
        base=_SEVERAL,
    ),
    Piece(
        "no-wait-with-several-servers",
        "model checking, w1",
        "One of several servers that was declared failed just now is left out at once.",
        "Processes whose lease still runs answer from it.",
        "stale",
        replaced(GoesOnAtOnce),
        _MIX,
        base=_SEVERAL,
    ),
    Piece(
        "stand-in-at-once",
        "w1, for stand-ins",
        "A stand-in is used as soon as its server is known to have failed.",
        "Others still answer from the server.",
        "stale",
        _all_states(StandInAtOnce),
        _MIX,
        base=_STAND_INS,
    ),
    Piece(
        "return-in-one-step",
        "found when stand-ins were thought out",
        "A server comes back while others still use its stand-in.",
        "They answer from the stand-in, which those who are back with the server do not tell of their writes.",
        "stale",
        _all_states(ReturnsInOneStep),
        _LONG,
        _with_long_leases,
        base=_IN_ONE_ORDER,
    ),
    Piece(
        "named-after-the-home",
        "the design of this layer, before it was tried",
        "What a stand-in holds is named after the epoch of the server that it belongs to, and not after its own.",
        "A stand-in that failed and came back during the outage answers from before its failure.",
        "stale",
        replaced(NamedAfterTheHome),
        _LONG,
        _slowly,
        base=_IN_ONE_ORDER,
    ),
    Piece(
        "named-after-the-stand-in",
        "PECL memcache, as its author saw himself",
        "What a stand-in holds is named after its own epoch, and not after that of the server that it belongs to.",
        "At the next outage the stand-in answers from the one before.",
        "stale",
        replaced(NamedAfterTheStandIn),
        _LONG,
        _slowly,
        base=_IN_ONE_ORDER,
    ),
    Piece(
        "groups-that-do-not-know-of-each-other",
        "two machines with a file of states each",
        "Processes whose states are in different places use the same servers, and nobody finds out.",
        "Each group answers from what it has cached before the other one wrote.",
        "stale",
        _TWO_GROUPS.build,
        _TWO_GROUPS.mix,
        base=_TWO_GROUPS,
        join=_join_without_a_word,
    ),
)
