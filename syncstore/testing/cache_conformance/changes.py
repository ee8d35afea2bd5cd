"""Several changes in one call: each has its outcome, and one that is refused does not stop the next."""

from __future__ import annotations

from syncstore.cache.api import ABSENT, BadKey, Conflict, NotFound, Provider, Remove, Store, Token, TooLarge
from syncstore.testing.cache_conformance.rooms import Rooms, needs_cas, value_of
from syncstore.testing.waiting import await_that


class ChangeRules(Rooms):
    """`change` and `change_later`."""

    @needs_cas
    def test_every_change_has_its_outcome(self, cache: Provider, keys: list[bytes]) -> None:
        cache.store(keys[0], b"0")
        old = cache.store(keys[1], b"1")
        outcomes = cache.change(
            [Store(keys[2], b"2"), Remove(keys[0]), Store(keys[1], b"11", 0.0, old), Remove(keys[3])]
        )
        assert isinstance(outcomes[0], Token)
        assert outcomes[1] is None
        assert isinstance(outcomes[2], Token)
        assert isinstance(outcomes[3], NotFound)
        assert cache.retrieve(keys[2]).token == outcomes[0]
        assert cache.retrieve(keys[1]) == (b"11", outcomes[2], 0)
        assert [value_of(cache, key) for key in keys] == [None, b"11", b"2", None]

    @needs_cas
    def test_a_refusal_stops_nothing(self, cache: Provider, keys: list[bytes]) -> None:
        stale = cache.store(keys[0], b"old")
        cache.store(keys[0], b"now")
        outcomes = cache.change(
            [
                Store(keys[0], b"late", 0.0, stale),
                Store(keys[1], b"1"),
                Remove(keys[0], stale),
                Store(keys[0], b"late", 0.0, ABSENT),
                Store(b"", b"x"),
                Store(keys[2], b"x" * (cache.limits.max_value + 1)),
                Store(keys[3], b"3", 0.0, ABSENT),
            ]
        )
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [Conflict, Token, Conflict, Conflict, BadKey, TooLarge, Token]
        assert [value_of(cache, key) for key in keys] == [b"now", b"1", None, b"3"]

    @needs_cas
    def test_changes_of_one_key_come_in_their_order(self, cache: Provider, keys: list[bytes]) -> None:
        key, other = keys[:2]
        cache.store(other, b"x")
        outcomes = cache.change(
            [
                Store(key, b"1"),
                Store(key, b"2", 0.0, ABSENT),
                Remove(key),
                Store(key, b"3", 0.0, ABSENT),
                Remove(other),
                Store(other, b"y", 0.0, ABSENT),
                Store(other, b"z"),
            ]
        )
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [Token, Conflict, type(None), Token, type(None), Token, Token]
        assert (value_of(cache, key), value_of(cache, other)) == (b"3", b"z")

    def test_no_changes_have_no_outcomes(self, cache: Provider) -> None:
        assert cache.change([]) == []
        cache.change_later([])

    def test_many_changes_are_made(self, cache: Provider, key: bytes) -> None:
        names = [key + b"#%d" % number for number in range(2500)]
        outcomes = cache.change([Store(name, name * 3) for name in names])
        assert all(isinstance(outcome, Token) for outcome in outcomes)
        assert [item and item.value for item in cache.fetch(names)] == [name * 3 for name in names]
        assert set(cache.change([Remove(name) for name in names])) == {None}

    def test_what_is_changed_later_is_changed_soon(self, cache: Provider, keys: list[bytes]) -> None:
        cache.store(keys[0], b"old")
        cache.change_later([Store(keys[1], b"1"), Remove(keys[0])])
        await_that(lambda: [value_of(cache, key) for key in keys[:2]] == [None, b"1"])

    def test_a_change_made_later_keeps_its_condition(self, cache: Provider, keys: list[bytes]) -> None:
        stale = cache.store(keys[0], b"old")
        now = cache.store(keys[0], b"now")
        foreign = now._replace(incarnation="another")
        cache.change_later(
            [
                Store(keys[0], b"late", 0.0, stale),
                Remove(keys[0], stale),
                Store(keys[0], b"late", 0.0, foreign),
                Store(keys[0], b"late", 0.0, ABSENT),
                Store(keys[1], b"end"),
            ]
        )
        await_that(lambda: value_of(cache, keys[1]) == b"end")
        assert cache.retrieve(keys[0]) == (b"now", now, 0)

    def test_the_answers_nobody_waited_for_are_nobody_s(self, cache: Provider, keys: list[bytes]) -> None:
        token = cache.store(keys[3], b"3")
        for number in range(500):
            cache.change_later([Store(keys[0], b"%d" % number), Remove(keys[1]), Store(b"", b"bad key")])
            if number % 7 == 0:
                assert cache.retrieve(keys[3]) == (b"3", token, 0)
            if number % 11 == 0:
                outcomes = cache.change([Store(keys[2], b"2"), Remove(keys[2]), Remove(keys[2])])
                assert [type(outcome) for outcome in outcomes] == [Token, type(None), NotFound]
        await_that(lambda: value_of(cache, keys[0]) == b"499")

    def test_a_change_made_later_that_cannot_be_is_dropped(self, cache: Provider, keys: list[bytes]) -> None:
        too_large = b"x" * (cache.limits.max_value + 1)
        cache.change_later([Store(b"", b"x")])
        cache.change_later([Store(keys[0], too_large), Remove(b"x" * 10_000), Store(keys[1], b"1")])
        await_that(lambda: value_of(cache, keys[1]) == b"1")
        assert value_of(cache, keys[0]) is None
