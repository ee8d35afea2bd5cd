"""A pool of memcacheds as one cache: for values that may be missed, but must never be old (see `cache.api.Provider`).

Each key has a home (`ring`), and its name there has the epoch of the home's state in it. So a value that was not
told of a change, on a server that was away, has a name that nobody asks for any more. A change that a server does
not confirm has it declared failed for everybody; until the lease of all views has ended nothing may be changed
beside it. Then its keys are away, or with `failover` on another server.

The layered storage does not go through here: it knows the state of a user's home for all of a request, and its
writers may have to commit without a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

from syncstore.cache.api import (
    BackendUnavailable,
    BadKey,
    Busy,
    Change,
    Features,
    Item,
    Limits,
    NotSupported,
    Outcome,
    Remove,
)
from syncstore.cache.memcached.group import Group, Member
from syncstore.cache.memcached.ring import tag_of
from syncstore.cache.memcached.stand_ins import Chain, ChainState, StandIns
from syncstore.cache.of_several import OfSeveral
from syncstore.clock import Clock

_FEATURES: Final = Features(
    cas=True, shared=True, shared_hosts=True, persistent=False, evicts=True, iterable=False
)
_MOST_OF_NAME: Final = 21  # bytes that the epoch, and a colon, add to a key


class Place(NamedTuple):
    """Where a key is now: the server, and the state and epoch that it is used under."""

    member: Member
    state: ChainState
    epoch: int

    def name(self, key: bytes) -> bytes:
        """The key's name there."""
        return b"%d:%b" % (self.epoch, key)


class Pool(OfSeveral):
    """The servers of a group as one cache.

    `attempts` is how often a stand-in is looked for, 0 for none. With `resubmit` an operation that meets a fault is
    tried once more where that changes nothing: a read is a miss, a store or removal that expects nothing goes to the
    stand-in, once a lease has passed. One that expects a state never is: an answer that was lost is no refusal.
    """

    name = "memcached"
    features = _FEATURES

    def __init__(self, group: Group, clock: Clock, *, attempts: int = 0, resubmit: bool = False) -> None:
        self._group = group
        self._clock = clock
        self._resubmit = resubmit
        self._stand_ins = StandIns(group.servers, lambda: group.placement, attempts)
        self._states: dict[Chain, ChainState] = {}

    @property
    def limits(self) -> Limits:
        """What fits into each of the servers. Raises BackendUnavailable when one of them is away."""
        all_limits = [member.cache.limits for member in self._group.members.values()]
        return Limits(
            max_key=self._max_key,
            max_value=min(limits.max_value for limits in all_limits),
            ttl_step=max(limits.ttl_step for limits in all_limits),
        )

    @property
    def _max_key(self) -> int:
        return min(member.cache.max_key for member in self._group.members.values()) - _MOST_OF_NAME

    def place(self, key: bytes) -> Place:
        """Where a key is now. Raises BackendUnavailable when its server has failed and nobody stands in for it."""
        chain = self._stand_ins.chain(tag_of(key))
        state = self._states.get(chain)
        if state is None:
            state = self._states.setdefault(chain, ChainState(self._group.servers, chain))
        epoch = state.trusted()
        if epoch is None:
            raise BackendUnavailable(f"the memcached {chain.names[-1]} is out of use")
        return Place(self._group.members[chain.names[-1]], state, epoch)

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys, in one round trip to each of their servers (see Provider)."""
        limit = self._max_key
        for key in keys:
            if not 0 < len(key) <= limit:
                raise BadKey(len(key), limit)
        found: list[Item | None] = [None] * len(keys)
        for place, numbers in self._by_place(keys, range(len(keys))):
            names = [place.name(keys[number]) for number in numbers]
            try:
                items = place.member.cache.fetch(names, reserve=reserve)
            except Busy:
                raise
            except BackendUnavailable as error:
                place.state.trouble(str(error))
                if not self._resubmit:
                    raise
                continue  # no other server has them: they have its epoch in their names
            place.state.answered()
            for number, item in zip(numbers, items, strict=True):
                found[number] = item
        return found

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Several changes, in one round trip to each of their servers (see Provider)."""
        outcomes, places = self._taken(changes)
        for at, (place, numbers) in enumerate(places):
            asked = [changes[number] for number in numbers]
            try:
                made = self._made(place, asked)
            except Busy as error:
                if at:
                    raise BackendUnavailable(f"not all changes were sent: {error}") from error
                raise
            except BackendUnavailable:
                if not self._resubmit or any(map(_expects, asked)):
                    raise
                made = [self._once_more(change) for change in asked]
            for number, outcome in zip(numbers, made, strict=True):
                outcomes[number] = outcome
        return outcomes

    def _taken(self, changes: Sequence[Change]) -> tuple[list[Outcome], list[tuple[Place, Sequence[int]]]]:
        """The outcomes of changes that are refused here, and the places of the others.

        Raises BackendUnavailable, and ValueError for a value that has expired, before any server is asked.
        """
        limit = self._max_key
        outcomes: list[Outcome] = [None] * len(changes)
        good: list[int] = []
        for number, change in enumerate(changes):
            size = len(change.key)
            if 0 < size <= limit:
                good.append(number)
            else:
                outcomes[number] = BadKey(size, limit)
        places = list(self._by_place([change.key for change in changes], good))
        if len(places) > 1:
            places[0][0].member.cache.check_expiry(changes)
        return outcomes, places

    def _made(self, place: Place, changes: Sequence[Change]) -> list[Outcome]:
        named = [change._replace(key=place.name(change.key)) for change in changes]
        try:
            outcomes = place.member.cache.change(named)
        except Busy:
            raise
        except BackendUnavailable as error:
            self._failed(place, error)
        place.state.answered()
        # Whoever stood still meanwhile may have been told this by a server that has failed and returned since: others
        # know another name by now. As long as the epoch is the same, or its lease runs, they do not.
        if not place.state.still(place.epoch) and place.state.trusted() != place.epoch:
            raise BackendUnavailable(f"the memcached {place.member.name} has failed since it was asked")
        return outcomes

    def _failed(self, place: Place, error: BackendUnavailable) -> NoReturn:
        """A change was not confirmed: others must not read what was there before."""
        place.state.declare_failed(place.epoch, f"a change was not confirmed: {error}")
        raise error

    def _once_more(self, change: Change) -> Outcome:
        """A change without expectations, which a server did not confirm, when everybody knows that this has failed."""
        try:
            place = self._settled(change.key)
        except BackendUnavailable:
            if isinstance(change, Remove) and self._nobody_has(change.key):
                return None  # whatever was there has a name that nobody asks for any more
            raise
        return self._made(place, [change])[0]

    def _nobody_has(self, key: bytes) -> bool:
        """Whether all know that no server is in use for a key."""
        last = self._stand_ins.chain(tag_of(key)).names[-1]
        return self._group.members[last].state.settled() is not None

    def _settled(self, key: bytes) -> Place:
        """The place of a key, once a failure of its server is known to everybody."""
        tag = tag_of(key)
        for name in self._stand_ins.chain(tag).names:
            state = self._group.members[name].state
            state.look()
            if state.wait:
                self._clock.sleep(state.wait)
        return self.place(key)

    def change_later(self, changes: Sequence[Change]) -> None:
        """Changes that nobody waits for (see Provider).

        Whether they were made is never known. So they are only for what nobody will have relied on: an old value
        that stays is not declared.
        """
        try:
            _, places = self._taken(changes)
        except BackendUnavailable:
            return
        for place, numbers in places:
            place.member.cache.change_later(
                [changes[number]._replace(key=place.name(changes[number].key)) for number in numbers]
            )

    def _by_place(
        self, keys: Sequence[bytes], chosen: Sequence[int]
    ) -> Iterator[tuple[Place, Sequence[int]]]:
        """The numbers of the chosen keys by their places."""
        if len(chosen) == 1:
            yield self.place(keys[chosen[0]]), chosen
            return
        numbers: dict[tuple[str, int], list[int]] = {}
        places: dict[tuple[str, int], Place] = {}
        for number in chosen:
            place = self.place(keys[number])
            at = place.member.name, place.epoch
            places[at] = place
            numbers.setdefault(at, []).append(number)
        for at, place in places.items():
            yield place, numbers[at]

    # -- the rest

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """Not possible (see Provider)."""
        raise NotSupported("memcached cannot list its keys")

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """The servers do so by themselves (see Provider)."""
        return 0

    def status(self) -> Mapping[str, int | float | str]:
        """The sums of the servers' counters, of those that answer (see Provider)."""
        total: dict[str, int | float | str] = {"servers": len(self._group.members), "answering": 0}
        for member in self._group.members.values():
            try:
                facts = member.cache.status()
            except BackendUnavailable:
                continue
            total["answering"] = int(total["answering"]) + 1
            for name in ("items", "bytes", "max_bytes", "hits", "misses", "evicted", "connections"):
                total[name] = int(total.get(name, 0)) + int(facts.get(name, 0))
        return total

    def close(self) -> None:
        """Close the connections."""
        self._group.close()


def _expects(change: Change) -> bool:
    return change.expect is not None
