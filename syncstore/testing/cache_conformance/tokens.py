"""Tokens: one stands for one state of one key, and never again for another."""

from __future__ import annotations

import pytest

from syncstore.cache.api import ABSENT, Conflict, Item, NotFound, Provider, Token
from syncstore.testing.cache_conformance.rooms import OpenCache, Rooms, needs_cas, value_of
from syncstore.testing.clocks import SteppableClock


@needs_cas
class TokenRules(Rooms):
    """Storing and removing under a condition."""

    def test_a_value_can_be_stored_over_the_state_of_a_token(self, cache: Provider, key: bytes) -> None:
        first = cache.store(key, b"1")
        second = cache.store(key, b"2", expect=first)
        assert second != first
        assert cache.retrieve(key) == Item(b"2", second)

    def test_reading_does_not_change_the_state(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        assert cache.retrieve(key).token == token
        assert cache.fetch([key, key], reserve=10) == [Item(b"1", token)] * 2
        cache.store(key, b"2", expect=token)

    @pytest.mark.parametrize("new", [b"2", b"1"], ids=["by another value", "by the same value"])
    def test_the_token_of_what_was_replaced_is_refused(self, cache: Provider, key: bytes, new: bytes) -> None:
        old = cache.store(key, b"1")
        now = cache.store(key, new)
        with pytest.raises(Conflict):
            cache.store(key, b"3", expect=old)
        with pytest.raises(Conflict):
            cache.remove(key, expect=old)
        assert cache.retrieve(key) == Item(new, now)

    def test_a_token_can_be_used_once(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        cache.store(key, b"2", expect=token)
        with pytest.raises(Conflict):
            cache.store(key, b"3", expect=token)
        assert value_of(cache, key) == b"2"

    def test_the_token_of_what_was_removed_is_refused(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        cache.remove(key)
        with pytest.raises(Conflict):
            cache.store(key, b"2", expect=token)
        assert value_of(cache, key) is None

    def test_the_token_of_what_was_created_anew_is_refused(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        cache.remove(key)
        cache.store(key, b"1", expect=ABSENT)
        with pytest.raises(Conflict):
            cache.store(key, b"2", expect=token)
        with pytest.raises(Conflict):
            cache.remove(key, expect=token)
        assert value_of(cache, key) == b"1"

    def test_the_token_of_another_key_is_refused(self, cache: Provider, keys: list[bytes]) -> None:
        tokens = [cache.store(key, b"1") for key in keys]
        for token in tokens[1:]:
            with pytest.raises(Conflict):
                cache.store(keys[0], b"2", expect=token)
        assert value_of(cache, keys[0]) == b"1"

    def test_where_nothing_is_expected_nothing_may_be(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1", expect=ABSENT)
        with pytest.raises(Conflict):
            cache.store(key, b"2", expect=ABSENT)
        assert cache.retrieve(key) == Item(b"1", token)
        cache.remove(key)
        cache.store(key, b"3", expect=ABSENT)
        assert value_of(cache, key) == b"3"

    def test_a_key_is_removed_in_the_state_of_a_token(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        cache.remove(key, expect=token)
        assert value_of(cache, key) is None

    def test_what_was_removed_cannot_be_removed_by_its_token(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        cache.remove(key)
        with pytest.raises(NotFound):
            cache.remove(key, expect=token)

    def test_the_token_of_another_incarnation_is_refused(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        foreign = Token(("another", "incarnation"), token.number)
        with pytest.raises(Conflict):
            cache.store(key, b"2", expect=foreign)
        with pytest.raises(Conflict):
            cache.remove(key, expect=foreign)
        assert cache.retrieve(key) == Item(b"1", token)

    def test_the_token_of_an_unlike_number_is_refused(self, cache: Provider, key: bytes) -> None:
        token = cache.store(key, b"1")
        for number in (0, 1, token.number - 1, token.number + 1, 2**63):
            if number != token.number:
                with pytest.raises(Conflict):
                    cache.store(key, b"2", expect=token._replace(number=number))
        assert value_of(cache, key) == b"1"

    def test_a_store_without_expectation_needs_none(self, cache: Provider, key: bytes) -> None:
        cache.store(key, b"1", expect=ABSENT)
        cache.store(key, b"2")
        cache.remove(key)
        cache.store(key, b"3")
        assert value_of(cache, key) == b"3"

    def test_all_states_have_tokens_of_their_own(self, cache: Provider, keys: list[bytes]) -> None:
        tokens = {cache.store(key, b"x") for _ in range(100) for key in keys}
        assert len(tokens) == 400

    def test_a_token_is_good_wherever_the_values_are_seen(
        self, cache: Provider, open_cache: OpenCache, clock: SteppableClock, key: bytes
    ) -> None:
        token = cache.store(key, b"1")
        other = open_cache(clock)
        if cache.features.shared:
            assert other.retrieve(key) == Item(b"1", token)
            other.store(key, b"2", expect=token)
            assert value_of(cache, key) == b"2"
        else:
            with pytest.raises(Conflict):
                other.store(key, b"2", expect=token)
            assert value_of(other, key) is None
