"""Others who are at work between what is read and what is changed: nothing wrong comes of it.

Each race is played, not waited for: `meanwhile` does what the others do at just that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from syncstore.cache.api import ABSENT, BackendUnavailable, Conflict, NotFound, Remove, Store, Token
from syncstore.cache.zookeeper.provider import ZooKeeperProvider
from syncstore.testing.cache_conformance.rooms import present, value_of
from syncstore.testing.clocks import SteppableClock

KEY = b"the key"


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def cache(opened: Callable[..., Any], clock: SteppableClock) -> ZooKeeperProvider:
    opened_cache: ZooKeeperProvider = opened(clock=clock).cache
    return opened_cache


@pytest.fixture
def other(opened: Callable[..., Any], clock: SteppableClock) -> ZooKeeperProvider:
    opened_cache: ZooKeeperProvider = opened(clock=clock).cache
    return opened_cache


@contextmanager
def meanwhile(cache: ZooKeeperProvider, *acts: Callable[[], object]) -> Iterator[list[int]]:
    """Do the first after the cache's first reading, the second after its second; counts the readings."""
    transactions = cache._transactions
    original = transactions.look
    readings: list[int] = []

    def look(*arguments: object) -> object:
        answers = original(*arguments)  # type: ignore[arg-type]
        readings.append(len(readings))
        if len(readings) <= len(acts):
            acts[readings[-1]]()
        return answers

    transactions.look = look  # type: ignore[assignment,method-assign]
    try:
        yield readings
    finally:
        transactions.look = original  # type: ignore[method-assign]
    assert len(readings) >= len(acts)


def number_of(cache: ZooKeeperProvider, key: bytes = KEY) -> int:
    return cache.retrieve(key).token.number


def make_anew(other: ZooKeeperProvider, token: Token) -> Callable[[], None]:
    """Remove the key and store it again, until it has the same version as before."""

    def act() -> None:
        other.remove(KEY)
        other.store(KEY, b"theirs", expect=ABSENT)
        while number_of(other) < token.number:
            other.store(KEY, b"theirs")
        assert number_of(other) == token.number

    return act


@pytest.mark.parametrize("stores", [1, 2, 5])
def test_a_key_made_anew_up_to_the_same_version_is_not_taken_for_the_old_one(
    cache: ZooKeeperProvider, other: ZooKeeperProvider, stores: int
) -> None:
    token = [cache.store(KEY, b"ours") for _ in range(stores)][-1]
    with meanwhile(cache, make_anew(other, token)), pytest.raises(Conflict):
        cache.store(KEY, b"late", expect=token)
    assert value_of(cache, KEY) == b"theirs"

    token = cache.retrieve(KEY).token
    with meanwhile(cache, make_anew(other, token)), pytest.raises(Conflict):
        cache.remove(KEY, expect=token)
    assert value_of(cache, KEY) == b"theirs"


def test_a_key_made_anew_before_is_not_taken_for_the_old_one(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    token = cache.store(KEY, b"ours")
    make_anew(other, token)()
    with pytest.raises(Conflict):
        cache.store(KEY, b"late", expect=token)


def test_what_expires_and_is_made_anew_is_not_dropped(
    cache: ZooKeeperProvider, other: ZooKeeperProvider, clock: SteppableClock
) -> None:
    token = cache.store(KEY, b"old", clock.seconds() + 10)
    clock.step(20)

    def again() -> None:
        other.store(KEY, b"theirs")
        make_anew(other, token)()

    ways: list[Callable[[], object]] = [lambda: cache.store(KEY, b"late", expect=ABSENT), cache.cull]
    for way in ways:
        with meanwhile(cache, again), suppress(Conflict):
            way()
        assert value_of(cache, KEY) == b"theirs"
        other.remove(KEY)
        token = other.store(KEY, b"old", clock.seconds() + 10)
        clock.step(20)


def test_a_newer_value_is_in_the_way_of_a_store_and_a_removal_by_token(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    token = cache.store(KEY, b"old")
    with meanwhile(cache, lambda: other.store(KEY, b"newer")), pytest.raises(Conflict):
        cache.store(KEY, b"late", expect=token)
    token = cache.retrieve(KEY).token
    with meanwhile(cache, lambda: other.store(KEY, b"newest")), pytest.raises(Conflict):
        cache.remove(KEY, expect=token)
    assert value_of(cache, KEY) == b"newest"


def test_a_removal_is_in_the_way_of_a_store_by_token(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    token = cache.store(KEY, b"old")
    with meanwhile(cache, lambda: other.remove(KEY)), pytest.raises(Conflict):
        cache.store(KEY, b"late", expect=token)
    assert value_of(cache, KEY) is None


def test_of_two_removals_one_finds_nothing(cache: ZooKeeperProvider, other: ZooKeeperProvider) -> None:
    cache.store(KEY, b"old")
    with meanwhile(cache, lambda: other.remove(KEY)), pytest.raises(NotFound):
        cache.remove(KEY)


def test_a_removal_takes_what_was_stored_meanwhile(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    cache.store(KEY, b"old")
    with meanwhile(cache, lambda: other.store(KEY, b"newer")):
        cache.remove(KEY)
    assert value_of(cache, KEY) is None


def test_another_key_that_goes_is_in_nobodys_way(cache: ZooKeeperProvider, other: ZooKeeperProvider) -> None:
    bucket = cache._places.of(KEY).bucket
    neighbours = [
        key for key in (b"n%d" % n for n in range(10_000)) if cache._places.of(key).bucket == bucket
    ]
    for key in neighbours[:3]:
        cache.store(key, b"x")
    token = cache.store(KEY, b"old")
    with meanwhile(cache, *(lambda key=key: other.remove(key) for key in neighbours[:3])) as readings:
        cache.store(KEY, b"new", expect=token)
    assert len(readings) == 4
    assert value_of(cache, KEY) == b"new"


def test_where_too_many_are_faster_it_is_unavailable_and_nothing_is_changed(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    bucket = cache._places.of(KEY).bucket
    neighbours = [
        key for key in (b"n%d" % n for n in range(10_000)) if cache._places.of(key).bucket == bucket
    ]
    for key in neighbours[:10]:
        cache.store(key, b"x")
    token = cache.store(KEY, b"old")
    with (
        meanwhile(cache, *(lambda key=key: other.remove(key) for key in neighbours[:10])),
        pytest.raises(BackendUnavailable, match="too many"),
    ):
        cache.store(KEY, b"new", expect=token)
    assert cache.retrieve(KEY) == (b"old", token, 0)


def test_a_key_that_comes_and_goes_is_stored_in_the_end(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    transactions = cache._transactions
    original = transactions._try
    tries: list[int] = []

    def flip(*arguments: object) -> object:
        tries.append(1)
        if len(tries) % 2:
            other.store(KEY, b"theirs")
        else:
            other.remove(KEY)
        if len(tries) > 4:
            transactions._try = original  # type: ignore[method-assign]
        return original(*arguments)  # type: ignore[arg-type]

    transactions._try = flip  # type: ignore[assignment,method-assign]
    token = cache.store(KEY, b"ours")
    assert cache.retrieve(KEY) == (b"ours", token, 0)


def test_several_changes_are_made_at_one_moment_or_begun_anew(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    """What is marked first is never stored without its mark."""
    mark = cache.store(b"mark", b"0")
    item = cache.store(b"item", b"0")
    with meanwhile(cache, lambda: other.store(b"mark", b"theirs")):
        outcomes = cache.change([Store(b"mark", b"1", 0.0, mark), Store(b"item", b"1", 0.0, item)])
    assert [type(outcome) for outcome in outcomes] == [Conflict, Token]
    assert value_of(cache, b"mark") == b"theirs"
    assert value_of(cache, b"item") == b"1"


def test_many_changes_of_which_one_is_raced_are_all_made(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    keys = [b"%d" % number for number in range(40)]
    tokens = [
        outcome for outcome in cache.change([Store(key, b"1") for key in keys]) if isinstance(outcome, Token)
    ]
    acts = [lambda n=n: other.store(b"%d" % n, b"theirs") for n in range(6)]
    with meanwhile(cache, *acts):
        outcomes = cache.change(
            [Store(key, b"2", 0.0, token) for key, token in zip(keys, tokens, strict=True)]
        )
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Conflict] * 6 + [Token] * 34
    assert [item.value for item in present(cache.fetch(keys))] == [b"theirs"] * 6 + [b"2"] * 34
    assert set(cache.change([Remove(key) for key in keys])) == {None}


def test_who_misses_what_another_reserves_meanwhile_gets_the_same(
    cache: ZooKeeperProvider, other: ZooKeeperProvider
) -> None:
    theirs: list[Token] = []
    with meanwhile(cache, lambda: theirs.append(present(other.fetch([KEY], reserve=10))[0].token)):
        (item,) = present(cache.fetch([KEY], reserve=10))
    assert [item.token] == theirs


def test_a_token_is_of_when_the_node_was_made(cache: ZooKeeperProvider) -> None:
    """A cluster that has lost its data counts from the beginning."""
    token = cache.store(KEY, b"x")
    assert isinstance(token.incarnation, tuple)
    czxid, made = token.incarnation
    for foreign in ((czxid, made - 1), (czxid + 1, made), czxid):
        with pytest.raises(Conflict):
            cache.store(KEY, b"y", expect=Token(foreign, token.number))
    with pytest.raises(Conflict):
        cache.store(KEY, b"y", expect=Token(token.incarnation, -1))
    cache.store(KEY, b"y", expect=Token((czxid, made), token.number))
