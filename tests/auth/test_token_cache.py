"""The cache of verified tokens: bounded, and kind to what is used."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from syncstore.auth.token_cache import TokenCache


def test_it_remembers_what_was_put() -> None:
    cache: TokenCache[int] = TokenCache(4)
    cache.put("a", 1)

    assert (cache.get("a"), cache.get("b")) == (1, None)


def test_it_never_holds_more_than_its_size() -> None:
    cache: TokenCache[int] = TokenCache(10)
    for number in range(1000):
        cache.put(str(number), number)
        assert len(cache) <= 10

    assert [cache.get(str(number)) for number in range(996, 1000)] == [996, 997, 998, 999]


def test_what_is_used_again_and_again_stays() -> None:
    cache: TokenCache[int] = TokenCache(10)
    cache.put("hot", 1)
    for number in range(1000):
        cache.put(str(number), number)
        assert cache.get("hot") == 1


def test_what_is_not_used_goes() -> None:
    cache: TokenCache[int] = TokenCache(10)
    cache.put("cold", 1)
    for number in range(10):
        cache.put(str(number), number)

    assert cache.get("cold") is None


def test_it_forgets_on_demand() -> None:
    cache: TokenCache[int] = TokenCache(4)
    for name in "abc":
        cache.put(name, 1)
    cache.clear()

    assert len(cache) == 0


def test_it_needs_room_for_two() -> None:
    with pytest.raises(ValueError, match="two"):
        TokenCache(1)


def test_threads_may_share_it() -> None:
    cache: TokenCache[int] = TokenCache(16)

    def use(start: int) -> bool:
        right = True
        for number in range(start, start + 3000):
            cache.put(str(number % 50), number % 50)
            right = right and cache.get(str((number + 7) % 50)) in (None, (number + 7) % 50)
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(4)))
    assert len(cache) <= 16 + 4  # a thread can be between its look at the size and its put
