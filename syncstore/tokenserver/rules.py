"""What may follow what in an account's history: the rules of consistency (token-api section 4), as pure functions.

The generation grows with every event of the account, keys_changed_at only when the encryption key changes (so it
is never above the generation), and the client state is a fingerprint of that key that may never return to an
old value. An absent value, None here, passes every comparison.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from syncstore.tokenserver.errors import (
    ClientStateWithoutGeneration,
    ClientStateWithoutKeysChange,
    EmptyClientState,
    InvalidGeneration,
    InvalidKeysChangedAt,
    StaleClientState,
)

MAX_GENERATION = 2**63 - 1
"""The generation of a retired user: one whose account was deleted."""


@dataclass(frozen=True)
class Claim:
    """What a request says: generation and keys_changed_at are None when absent, `client_state` is lower-case hex."""

    generation: int | None
    keys_changed_at: int | None
    client_state: str


@dataclass(frozen=True)
class Known:
    """What is stored of an account. `keys_changed_at` is None while nobody told it."""

    generation: int
    keys_changed_at: int | None
    client_state: str

    @property
    def retired(self) -> bool:
        """Whether the account was deleted."""
        return self.generation >= MAX_GENERATION


def first(claim: Claim) -> Known:
    """What is stored after the first request of an account: the claim as it is."""
    return Known(claim.generation or 0, claim.keys_changed_at, claim.client_state)


def decide(known: Known, old_states: Collection[str], claim: Claim) -> Known:
    """What is to be stored after this request: `known` itself when nothing changes.

    Another client state means a record of its own, with a new uid. `old_states` are those of older records.
    Raises the TokenError of the first rule that the claim breaks.
    """
    _check(known, old_states, claim)
    generation, keys_changed_at = known.generation, known.keys_changed_at
    if claim.generation is not None:
        generation = claim.generation
    elif _above(claim.keys_changed_at, generation) and (
        keys_changed_at is None or _above(claim.keys_changed_at, keys_changed_at)
    ):
        # A token without a generation still proves one: keys change only in an event of the account.
        generation = claim.keys_changed_at or 0
    if claim.keys_changed_at is not None:
        keys_changed_at = claim.keys_changed_at
    return Known(generation, keys_changed_at, claim.client_state)


def _check(known: Known, old_states: Collection[str], claim: Claim) -> None:
    """The first rule that fails wins, in this order."""
    # Here an absent value is one that no comparison is true of; so is a keys_changed_at that is not known yet.
    generation, keys_changed_at = claim.generation, claim.keys_changed_at
    if _above(keys_changed_at, known.keys_changed_at) and _above(keys_changed_at, generation):
        raise InvalidKeysChangedAt("keys_changed_at grew above the generation")
    if known.client_state and not claim.client_state:
        raise EmptyClientState
    if claim.client_state in old_states and claim.client_state != known.client_state:
        raise StaleClientState
    if claim.client_state != known.client_state:
        if generation is not None and generation <= known.generation:
            if known.retired:
                raise InvalidGeneration("the account is retired")
            raise ClientStateWithoutGeneration
        if (
            keys_changed_at is not None
            and known.keys_changed_at is not None
            and keys_changed_at <= known.keys_changed_at
        ):
            raise ClientStateWithoutKeysChange
    if _above(known.generation, generation):
        raise InvalidGeneration("an older generation than was seen")
    if _above(known.keys_changed_at, keys_changed_at):
        raise InvalidKeysChangedAt("an older keys_changed_at than was seen")
    if keys_changed_at is None and known.keys_changed_at:
        raise InvalidKeysChangedAt("keys_changed_at is known, and the request has none")
    if generation is None and known.retired:
        # Only the generation of a deleted account itself gets past a retired record.
        raise InvalidGeneration("the account is retired")


def _above(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one > other
