"""Every rule of consistency, and every fact of token-api section 4."""

from __future__ import annotations

import pytest

from syncstore.tokenserver import errors
from syncstore.tokenserver.rules import MAX_GENERATION, Claim, Known, decide, first

Values = tuple[int | None, int | None, str]


def after(known: tuple[int, int | None, str], *claim: int | str | None, old: tuple[str, ...] = ()) -> Values:
    """The stored values after a request (generation, keys_changed_at[, client state])."""
    state = str(claim[2]) if len(claim) > 2 else known[2]
    generation, keys = claim[0], claim[1]
    assert not isinstance(generation, str)
    assert not isinstance(keys, str)
    decided = decide(Known(*known), old, Claim(generation, keys, state))
    return decided.generation, decided.keys_changed_at, decided.client_state


PLAIN = (1232, 1234, "aaaa")


@pytest.mark.parametrize(
    ("known", "claim", "error"),
    [
        # 1: keys_changed_at grew, and above the generation
        (PLAIN, (1235, 1236), errors.InvalidKeysChangedAt),
        ((1234, 1234, "aaaa"), (1234, 2345, "bbbb"), errors.InvalidKeysChangedAt),  # before rule 4
        # 2
        (PLAIN, (1233, 1234, ""), errors.EmptyClientState),
        # 4, 5
        (PLAIN, (1232, 1234, "bbbb"), errors.ClientStateWithoutGeneration),
        ((1235, 1235, "bbbb"), (1235, 1235, "cccc"), errors.ClientStateWithoutGeneration),
        (PLAIN, (1233, 1234, "bbbb"), errors.ClientStateWithoutKeysChange),
        (PLAIN, (None, 1234, "bbbb"), errors.ClientStateWithoutKeysChange),
        # 6, 7, 8
        (PLAIN, (1231, 1234), errors.InvalidGeneration),
        ((1234, 1234, "aaaa"), (1234, 1233), errors.InvalidKeysChangedAt),
        ((1234, 1234, "aaaa"), (None, 1233), errors.InvalidKeysChangedAt),
        ((1234, 1234, "aaaa"), (1234, None), errors.InvalidKeysChangedAt),
        ((1234, 1234, "aaaa"), (1235, None, "bbbb"), errors.InvalidKeysChangedAt),
        # a deleted account
        ((MAX_GENERATION, 1234, "aaaa"), (1235, 1234), errors.InvalidGeneration),
        ((MAX_GENERATION, 1234, "aaaa"), (1235, 1235, "bbbb"), errors.InvalidGeneration),
        ((MAX_GENERATION, 1234, "aaaa"), (None, 1234), errors.InvalidGeneration),
    ],
)
def test_it_refuses(
    known: tuple[int, int | None, str], claim: tuple[int | str | None, ...], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        after(known, *claim)
    assert type(caught.value) is error


def test_a_client_state_never_returns() -> None:
    with pytest.raises(errors.StaleClientState):
        after((1233, 1235, "bbbb"), 1236, 1236, "aaaa", old=("aaaa",))


def test_an_older_record_with_the_present_client_state_does_not_stand_against_it() -> None:
    assert after(PLAIN, 1233, 1234, old=("aaaa",)) == (1233, 1234, "aaaa")


@pytest.mark.parametrize(
    ("known", "claim", "stored"),
    [
        (PLAIN, (1232, 1234), PLAIN),
        (PLAIN, (1233, 1234), (1233, 1234, "aaaa")),
        # without a generation keys_changed_at proves one
        ((1233, 1234, "aaaa"), (None, 1235), (1235, 1235, "aaaa")),
        ((1235, 1235, "aaaa"), (1236, 1235), (1236, 1235, "aaaa")),
        ((1234, None, "aaaa"), (1234, 1234), (1234, 1234, "aaaa")),
        ((1234, 1234, "aaaa"), (2345, 2345, "bbbb"), (2345, 2345, "bbbb")),
        ((0, 1234, "aaaa"), (None, 1234), (0, 1234, "aaaa")),
        ((0, 1234, "aaaa"), (None, 1235), (1235, 1235, "aaaa")),
        ((0, None, "aaaa"), (None, 1234), (1234, 1234, "aaaa")),
        ((1234, None, "aaaa"), (1234, None), (1234, None, "aaaa")),
        ((1234, 0, "aaaa"), (1234, None), (1234, 0, "aaaa")),
        ((1234, 1234, "aaaa"), (None, 1234), (1234, 1234, "aaaa")),
        ((1234, 1234, "aaaa"), (None, 1235, "bbbb"), (1235, 1235, "bbbb")),
        # a record that a server without keys_changed_at wrote
        ((2345, 1200, "bbbb"), (2345, 2345), (2345, 2345, "bbbb")),
        # a key where none was known
        ((1234, None, ""), (1235, 1235, "bbbb"), (1235, 1235, "bbbb")),
        # the deleted account itself
        ((MAX_GENERATION, 1234, "aaaa"), (MAX_GENERATION, 1234), (MAX_GENERATION, 1234, "aaaa")),
    ],
)
def test_it_stores(
    known: tuple[int, int | None, str], claim: tuple[int | str | None, ...], stored: Values
) -> None:
    assert after(known, *claim) == stored


def test_a_first_request_is_stored_as_it_is() -> None:
    assert first(Claim(None, 1234, "aaaa")) == Known(0, 1234, "aaaa")
    assert first(Claim(1234, None, "")) == Known(1234, None, "")
