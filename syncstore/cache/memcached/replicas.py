"""Several copies of each value on several memcacheds, so that one may die and nothing is missed (see Provider).

The first server of a key that is in use leads: what it answers is the answer, and that it has nothing is a miss, also
when it is back, and empty. The others keep copies for when it fails. A change goes in four steps, so that of several
writers at once none leaves an old copy behind: see what the leader has; put a reservation of one's own in the place of
every copy; change the leader, if it still has what was seen; store the copies, each over one's own reservation. Only
one writer's third step follows what it saw, and whoever came between its second and its fourth step has taken its
reservations away.

So compare-and-set cannot be offered: a token would be worth nothing when another server leads. What needs it, such
as the layered storage or locks, refuses such a cache at start.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from syncstore.cache.api import (
    BackendError,
    BackendUnavailable,
    BadKey,
    Change,
    Conflict,
    Expect,
    Features,
    Item,
    Limits,
    NotFound,
    NotSupported,
    Outcome,
    Store,
    Token,
    TooLarge,
    check_expiry,
)
from syncstore.cache.memcached.group import Group, Member
from syncstore.cache.memcached.ring import tag_of
from syncstore.clock import Clock
from syncstore.errors import Unavailable

_FEATURES: Final = Features(
    cas=False, shared=True, shared_hosts=True, persistent=False, evicts=True, iterable=False
)
_MOST_OF_NAME: Final = 21  # bytes that the epoch, and a colon, add to a key
_ATTEMPTS: Final = 5
_LIFE: Final = 30.0  # seconds of a reservation: longer than any change takes
# A value begins with one of these. A reservation is nobody's value, and never handed out.
_VALUE: Final = b"v"
_RESERVED: Final = b"r"


class ReplicatedPool:
    """The servers of a group, each value on `copies` more of them than one. Raises ValueError."""

    name = "memcached"
    features = _FEATURES

    def __init__(self, group: Group, clock: Clock, *, copies: int) -> None:
        if copies < 1:
            raise ValueError(f"a replicated pool has at least one copy of each value, and not {copies}")
        if not group.servers.rules.stand_ins:
            # One that returned in one step would lead for some, while another still leads for others.
            raise ValueError("the servers of a replicated pool return in two steps: Rules(stand_ins=True)")
        self._group = group
        self._clock = clock
        self._copies = copies

    @property
    def limits(self) -> Limits:
        """What fits into each of the servers. Raises BackendUnavailable when one of them is away."""
        all_limits = [member.cache.limits for member in self._group.members.values()]
        return Limits(
            max_key=self._max_key,
            max_value=min(limits.max_value for limits in all_limits) - 1,
            ttl_step=max(limits.ttl_step for limits in all_limits),
        )

    @property
    def _max_key(self) -> int:
        return min(member.cache.max_key for member in self._group.members.values()) - _MOST_OF_NAME

    def servers(self, key: bytes) -> list[str]:
        """The names of a key's servers, its home first, whether they are in use or not."""
        tag = tag_of(key)
        others = self._group.placement.others(tag)
        return [self._group.placement.find(tag), *islice(others, self._copies)]

    # -- reading

    def retrieve(self, key: bytes) -> Item:
        """The value of a key, from the first server that answers (see Provider)."""
        self._check_key(key)
        for member, epoch in self._readable(key):
            try:
                item = member.cache.retrieve(_name(epoch, key))
            except NotFound:
                member.state.answered()
                raise NotFound(key) from None
            except BackendUnavailable as error:
                member.state.trouble(str(error))
                continue
            member.state.answered()
            if not item.value.startswith(_VALUE):
                raise NotFound(key)
            return item._replace(value=item.value[1:])
        raise BackendUnavailable(f"none of {', '.join(self.servers(key))} answers")

    def _readable(self, key: bytes) -> Iterator[tuple[Member, int]]:
        """A key's servers that are in use, with their epochs: each has its value, or a reservation, or nothing."""
        for name in self.servers(key):
            member = self._group.members[name]
            epoch = member.state.trusted()
            if epoch is not None:
                yield member, epoch

    def _writable(self, key: bytes) -> list[tuple[Member, int]]:
        """The same, for a change: all that anybody may read from. Raises BackendUnavailable while that is not sure."""
        found: list[tuple[Member, int]] = []
        for name in self.servers(key):
            member = self._group.members[name]
            epoch = member.state.trusted()
            if epoch is not None:
                found.append((member, epoch))
            elif member.state.settled() is None:
                raise BackendUnavailable(f"others may still read from the memcached {name}")
        if not found:
            raise BackendUnavailable(f"none of {', '.join(self.servers(key))} is in use")
        return found

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys, one after the other (see Provider). Raises NotSupported for a reservation."""
        for key in keys:
            self._check_key(key)
        if reserve:
            raise NotSupported("a replicated pool cannot reserve: no token of it would be worth anything")
        found: list[Item | None] = []
        for key in keys:
            try:
                found.append(self.retrieve(key))
            except NotFound:
                found.append(None)
        return found

    # -- changing

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        """Store a value on all its servers (see Provider). Raises NotSupported when something is expected."""
        check_expiry((Store(key, value, expires),), self._clock.seconds())
        self._check(key, expect)
        token = self._changed(key, _VALUE + value, expires)
        assert token is not None  # noqa: S101 - for mypy: None is the outcome of removals alone
        return token

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove a key from all its servers (see Provider). Raises NotSupported when something is expected."""
        self._check(key, expect)
        self._changed(key, None, 0.0)

    def _check(self, key: bytes, expect: Expect) -> None:
        self._check_key(key)
        if expect is not None:
            raise NotSupported("a replicated pool has no compare-and-set")

    def _check_key(self, key: bytes) -> None:
        if not 0 < len(key) <= self._max_key:
            raise BadKey(len(key), self._max_key)

    def _changed(self, key: bytes, value: bytes | None, expires: float) -> Token | None:
        for _ in range(_ATTEMPTS):
            (leader, epoch), *others = self._writable(key)
            name = _name(epoch, key)
            seen = self._seen(leader, epoch, name, 0 if value is None else len(value))
            reserved = [(other, at, self._reserved(other, at, _name(at, key))) for other, at in others]
            if value is None and not seen.value.startswith(_VALUE):
                raise NotFound(key)
            try:
                token = self._lead(leader, epoch, name, value, expires, seen.token)
            except (Conflict, NotFound):
                continue
            if value is not None:
                for other, at, own in reserved:
                    self._copy(other, _name(at, key), value, expires, own)
            return token
        raise Conflict("others change the key all the time")

    def _seen(self, leader: Member, epoch: int, name: bytes, size: int) -> Item:
        """What the leader has, or a reservation: so that there is a token in any case. Raises TooLarge."""
        try:
            limit = leader.cache.limits.max_value
            if size > limit:
                raise TooLarge(size - len(_VALUE), limit - len(_VALUE))
            (found,) = leader.cache.fetch((name,), reserve=_LIFE)
        except BackendUnavailable as error:
            raise self._failed(leader, epoch, error) from error
        assert found is not None  # noqa: S101 - for mypy: what is missing was reserved
        return found

    def _reserved(self, other: Member, epoch: int, name: bytes) -> Token:
        """Put a reservation in the place of a copy. One that cannot be reached has failed: its copy would grow old."""
        try:
            return other.cache.store(name, _RESERVED + secrets.token_bytes(8), self._clock.seconds() + _LIFE)
        except BackendUnavailable as error:
            raise self._failed(other, epoch, error) from error

    def _lead(
        self,
        leader: Member,
        epoch: int,
        name: bytes,
        value: bytes | None,
        expires: float,
        seen: Token,
    ) -> Token | None:
        try:
            if value is None:
                leader.cache.remove(name, expect=seen)
                return None
            return leader.cache.store(name, value, expires, expect=seen)
        except BackendUnavailable as error:
            raise self._failed(leader, epoch, error) from error

    def _copy(self, other: Member, name: bytes, value: bytes, expires: float, own: Token) -> None:
        try:
            other.cache.store(name, value, expires, expect=own)
        except BackendError:
            return  # there is a reservation, or another writer's copy, or nothing: in no case an old value

    def _failed(self, member: Member, epoch: int, error: BackendUnavailable) -> BackendUnavailable:
        declared: Unavailable = member.state.declare_failed(epoch, f"a change was not confirmed: {error}")
        return BackendUnavailable(str(declared))

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Several changes, one after the other (see Provider)."""
        check_expiry(changes, self._clock.seconds())
        outcomes: list[Outcome] = []
        for change in changes:
            try:
                outcomes.append(self._made(change))
            except BackendUnavailable:
                raise
            except (BackendError, NotFound) as refusal:
                outcomes.append(refusal)
        return outcomes

    def _made(self, change: Change) -> Token | None:
        if isinstance(change, Store):
            return self.store(change.key, change.value, change.expires, expect=change.expect)
        self.remove(change.key, expect=change.expect)
        return None

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same, waiting after all: what is not confirmed would leave old copies (see Provider)."""
        try:
            self.change(changes)
        except BackendUnavailable:
            return

    # -- the rest

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """Not possible (see Provider)."""
        raise NotSupported("memcached cannot list its keys")

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """The servers do so by themselves (see Provider)."""
        return 0

    def status(self) -> Mapping[str, int | float | str]:
        """How many servers there are, and copies of each value (see Provider)."""
        return {"servers": len(self._group.members), "copies": self._copies}

    def close(self) -> None:
        """Close the connections."""
        self._group.close()


def _name(epoch: int, key: bytes) -> bytes:
    return b"%d:%b" % (epoch, key)
