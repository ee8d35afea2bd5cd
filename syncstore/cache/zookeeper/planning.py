"""From several changes and what was seen, the steps of a transaction that makes them, and their outcomes.

The changes are made one after the other on what was seen, as if nobody else were there; what remains of them is one
step for each key, bound to what was seen:

* A key that was not there is created, which fails when it is. It is created empty and then set, since only of a set
  a transaction tells the node's new facts.
* A key that was there is set or deleted in the version that was seen. A version alone does not tell the node that was
  seen from another that was made in its place, and counts from 0 like the first: see `guards`.
* What expects nothing, of a key that the other changes do not name, is not bound: a store sets whatever is there, and
  a removal of what was alive deletes whatever is there by now, since that can only be newer.

Guards. Each bucket's own version counts the deletions in it: every transaction that deletes a value also sets its
bucket, so neither happens without the other, and buckets are never deleted. A transaction that is bound to a version
of a node also checks the bucket's version, which was read BEFORE the node. Proof: let the bucket have had version b
when it was read, the node have been seen in life c and version v after that, and the transaction be made. Then the
bucket still had version b at its start, so between the reading of the bucket and the transaction nothing in the
bucket was deleted, so not the node, which is still in life c; in one life the version only grows, so version v is the
state that was seen. All steps are made, or none, and at one moment; that is why the outcomes, which follow from what
was seen of all keys that are changed, are those of that moment. What is refused changes nothing, and was so when it
was read.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from syncstore.cache.api import (
    BackendError,
    BadKey,
    Change,
    Conflict,
    NotFound,
    Outcome,
    Remove,
    Store,
    Token,
    TooLarge,
)
from syncstore.cache.of_several import MAX_KEY
from syncstore.cache.zookeeper.places import Place, State, encode
from syncstore.zookeeper.nodes import ANY_VERSION, Check, Create, Delete, Set, Step


class Drop(NamedTuple):
    """To remove what has expired, if it is still in this state."""

    key: bytes
    state: Token


Wish = Change | Drop


class Seen(NamedTuple):
    """What was read: the buckets' versions, None of one that is not there; then the states of keys."""

    buckets: Mapping[str, int | None]
    states: Mapping[bytes, State | None]

    @classmethod
    def nothing(cls, places: Mapping[bytes, Place]) -> Seen:
        """A guess: the buckets are there, and the keys are not. The transaction fails where that is wrong."""
        return cls({place.bucket: 0 for place in places.values()}, dict.fromkeys(places))


class Plan(NamedTuple):
    """The steps, the outcomes of the changes, and in which step's result a change finds its token."""

    steps: list[Step]
    outcomes: list[Outcome]
    tokens: dict[int, int]


class _Pending(NamedTuple):
    """What a change of this place stores, and is not stored yet."""

    place: int
    store: Store


def refusal(wish: Wish, max_value: int) -> BackendError | None:
    """What speaks against a change whatever stands there."""
    if not 1 <= len(wish.key) <= MAX_KEY:
        return BadKey(len(wish.key), MAX_KEY)
    if isinstance(wish, Store) and len(wish.value) > max_value:
        return TooLarge(len(wish.value), max_value)
    return None


def plan(
    wishes: Sequence[Wish], seen: Seen, places: Mapping[bytes, Place], now: float, max_value: int
) -> Plan:
    """How to make changes to what was seen, which has all keys that may have a place."""
    present: dict[bytes, State | _Pending | None] = {
        key: state if state is not None and state.live(now) else None for key, state in seen.states.items()
    }
    outcomes: list[Outcome] = []
    changed: dict[bytes, list[Wish]] = {}
    for place, wish in enumerate(wishes):
        outcome: Outcome = refusal(wish, max_value)
        if outcome is None:
            outcome = _refusal(wish, present[wish.key], seen.states[wish.key])
        if outcome is None:
            changed.setdefault(wish.key, []).append(wish)
            if isinstance(wish, Store):
                outcome = Token(("passed", secrets.token_hex(8)), 0)  # unless it is what remains
            if (
                isinstance(wish, Store) and not 0 < wish.expires <= now
            ):  # it may have waited to be stored later
                present[wish.key] = _Pending(place, wish)
            else:
                present[wish.key] = None
        outcomes.append(outcome)
    return _Steps(seen, places).plan(changed, present, outcomes)


def _refusal(
    wish: Wish, present: State | _Pending | None, there: State | None
) -> NotFound | BackendError | None:
    """What speaks against a change of a key that is in this state."""
    if isinstance(wish, Drop):
        fits = there is not None and there.token == wish.state and present is None
        return None if fits else Conflict(f"the key {wish.key!r} is in another state")
    if isinstance(wish, Remove) and present is None:
        return NotFound(wish.key)
    if isinstance(wish.expect, Token):
        fits = isinstance(present, State) and present.token == wish.expect
    else:
        fits = wish.expect is None or present is None
    return None if fits else Conflict(f"the key {wish.key!r} is in another state")


class _Steps:
    """Gathers the steps, and which guards they need."""

    def __init__(self, seen: Seen, places: Mapping[bytes, Place]) -> None:
        self._seen = seen
        self._places = places
        self._steps: list[Step] = []
        self._bound: set[str] = set()  # the buckets in which nothing may have been deleted
        self._robbed: set[str] = set()  # those in which something is
        self._made: set[str] = set()

    def plan(
        self,
        changed: Mapping[bytes, Sequence[Wish]],
        present: Mapping[bytes, State | _Pending | None],
        outcomes: list[Outcome],
    ) -> Plan:
        ends: dict[int, int] = {}
        for key, wishes in changed.items():
            end = present[key]
            if isinstance(end, _Pending):
                ends[end.place] = self._put(key, end.store, loose=_is_loose(wishes))
            elif end is None and (there := self._seen.states[key]) is not None:
                self._delete(key, there, loose=_is_loose(wishes))
        guards = self._guards()
        tokens = {place: len(guards) + step for place, step in ends.items()}
        return Plan(guards + self._steps, outcomes, tokens)

    def _put(self, key: bytes, store: Store, *, loose: bool) -> int:
        bucket, node = self._places[key]
        there = self._seen.states[key]
        data = encode(store.value, store.expires)
        if there is None:
            self._made.add(bucket)
            self._steps.append(Create(node))
            self._steps.append(Set(node, data, 0))
        else:
            self._steps.append(Set(node, data, self._version(bucket, there, loose)))
        return len(self._steps) - 1

    def _delete(self, key: bytes, there: State, *, loose: bool) -> None:
        bucket, node = self._places[key]
        self._robbed.add(bucket)
        self._steps.append(Delete(node, self._version(bucket, there, loose)))

    def _version(self, bucket: str, there: State, loose: bool) -> int:
        if loose:
            return ANY_VERSION
        self._bound.add(bucket)
        return there.token.number

    def _guards(self) -> list[Step]:
        guards: list[Step] = []
        versions = self._seen.buckets
        for bucket in sorted(self._made | self._bound | self._robbed):
            version = versions[bucket]
            if version is None:
                # Where it was made since it was looked for, this fails, and all is read anew.
                guards.append(Create(bucket))
            elif bucket in self._robbed:
                guards.append(Set(bucket, b"", version if bucket in self._bound else ANY_VERSION))
            elif bucket in self._bound:
                guards.append(Check(bucket, version))
        return guards


def _is_loose(wishes: Sequence[Wish]) -> bool:
    """Whether what they do to their key does not depend on what is there."""
    if any(isinstance(wish, Drop) or wish.expect is not None for wish in wishes):
        return False
    return len(wishes) == 1 or all(isinstance(wish, Store) for wish in wishes)
