"""Values: what was stored under a key is what is found there, whatever the bytes are."""

from __future__ import annotations

import base64
import random

import pytest

from syncstore.cache.api import BackendError, NotFound, NotSupported, Provider
from syncstore.testing.cache_conformance.rooms import Rooms, present, value_of

VALUES = {
    "empty": b"",
    "every byte": bytes(range(256)),
    "a line end": b"\r\n",
    "the end of an answer": b"\r\nEN\r\nEND\r\nHD c1\r\n",
    "an answer": b"VA 5 c1 f0\r\nhello\r\n",
    "zeros": b"\0" * 1000,
    "a date": b"\x41\xd9" + b"\0" * 6,
    "a page": random.Random(1).randbytes(4096),
    "100 KB": random.Random(2).randbytes(100_000),
}

ODD_KEYS = {
    "a space": b"a b",
    "a line end": b"a\r\nmn\r\n",
    "a zero": b"\0",
    "control characters": bytes(range(32)),
    "high bytes": bytes(range(128, 256, 7)),
    "UTF-8": "schlüssel/ключ".encode(),
    "one byte": b"\xff",
    "a tilde": b"~",
    "punctuation": b"%2F+/=?&#;:,.~*",
}

ODD_PAIRS = {
    "base64 and its source": (b"\xffabc", base64.urlsafe_b64encode(b"\xffabc")),
    "marked base64": (b"\xffabc", b"~" + base64.urlsafe_b64encode(b"\xffabc")),
    "marked base64 without padding": (b"\xffabcd", b"~" + base64.urlsafe_b64encode(b"\xffabcd").rstrip(b"=")),
    "percent": (b"a b", b"a%20b"),
    "plus": (b"a b", b"a+b"),
    "case": (b"a", b"A"),
    "a space at the end": (b"a", b"a "),
    "a zero at the end": (b"a", b"a\0"),
    "Latin-1 and UTF-8": ("ä".encode("latin-1"), "ä".encode()),
}


class ValueRules(Rooms):
    """Storing, retrieving and removing without conditions."""

    @pytest.mark.parametrize("name", VALUES)
    def test_it_gives_back_what_was_stored(self, cache: Provider, key: bytes, name: str) -> None:
        token = cache.store(key, VALUES[name])
        item = cache.retrieve(key)
        assert item.value == VALUES[name]
        assert type(item.value) is bytes
        assert (item.token, item.expires) == (token, 0)

    def test_a_missing_key_is_not_found_which_is_no_fault(self, cache: Provider, key: bytes) -> None:
        with pytest.raises(NotFound) as found:
            cache.retrieve(key)
        assert not isinstance(found.value, BackendError)

    def test_a_later_value_replaces_an_earlier_one(self, cache: Provider, key: bytes) -> None:
        cache.store(key, b"a long first value")
        cache.store(key, b"second")
        assert cache.retrieve(key).value == b"second"

    def test_what_was_removed_is_gone(self, cache: Provider, key: bytes) -> None:
        cache.store(key, b"x")
        cache.remove(key)
        assert value_of(cache, key) is None

    def test_the_second_removal_finds_nothing(self, cache: Provider, key: bytes) -> None:
        cache.store(key, b"x")
        cache.remove(key)
        with pytest.raises(NotFound):
            cache.remove(key)

    def test_what_never_was_cannot_be_removed(self, cache: Provider, key: bytes) -> None:
        with pytest.raises(NotFound):
            cache.remove(key)

    @pytest.mark.parametrize("name", ODD_KEYS)
    def test_a_key_may_have_any_bytes(self, cache: Provider, key: bytes, name: str) -> None:
        for odd in (key + ODD_KEYS[name], ODD_KEYS[name] + key):
            cache.store(odd, b"of " + odd)
            assert present(cache.fetch([odd, odd]))[1].value == b"of " + odd
            cache.remove(odd)
            assert value_of(cache, odd) is None

    @pytest.mark.parametrize("name", ODD_PAIRS)
    def test_no_two_keys_are_one(self, cache: Provider, key: bytes, name: str) -> None:
        one, other = ODD_PAIRS[name]
        for before, behind in ((key, b""), (b"", key)):
            first, second = before + one + behind, before + other + behind
            cache.store(first, b"first")
            assert value_of(cache, second) is None
            cache.store(second, b"second")
            assert value_of(cache, first) == b"first"
            cache.remove(first)
            assert value_of(cache, second) == b"second"
            cache.remove(second)

    def test_several_are_fetched_in_the_order_asked(self, cache: Provider, keys: list[bytes]) -> None:
        cache.store(keys[0], b"0")
        cache.store(keys[2], b"22")
        asked = [keys[2], keys[1], keys[0], keys[3], keys[2]]
        found = cache.fetch(asked)
        assert [item and item.value for item in found] == [b"22", None, b"0", None, b"22"]

    def test_nothing_asked_nothing_fetched(self, cache: Provider) -> None:
        assert cache.fetch([]) == []

    def test_a_thousand_keys_are_fetched_at_once(self, cache: Provider, key: bytes) -> None:
        asked = [key + b"#%d" % number for number in range(1000)]
        for number in range(0, 1000, 7):
            cache.store(asked[number], b"%d" % number * 100)
        found = cache.fetch(asked)
        for number, item in enumerate(found):
            assert (item and item.value) == (None if number % 7 else b"%d" % number * 100)

    def test_values_of_any_size_come_one_after_the_other(self, cache: Provider, keys: list[bytes]) -> None:
        sizes = (0, 70_000, 1, 200_000)
        for key, size in zip(keys, sizes, strict=True):
            cache.store(key, bytes([size % 251]) * size)
        items = present(cache.fetch(keys))
        assert [item.value for item in items] == [bytes([size % 251]) * size for size in sizes]

    def test_it_lists_all_live_keys_or_says_that_it_cannot(self, cache: Provider, keys: list[bytes]) -> None:
        for key in keys[:3]:
            cache.store(key, b"of " + key)
        cache.remove(keys[0])
        if not cache.features.iterable:
            with pytest.raises(NotSupported):
                cache.iterate()
            return
        listed = {key: item.value for key, item in cache.iterate() if key in keys}
        assert listed == {key: b"of " + key for key in keys[1:3]}

    def test_it_has_facts_for_an_operator(self, cache: Provider, key: bytes) -> None:
        cache.store(key, b"x")
        facts = cache.status()
        assert facts
        assert all(isinstance(fact, (int, float, str)) for fact in facts.values())

    def test_it_has_a_name(self, cache: Provider) -> None:
        assert cache.name

    def test_it_can_be_closed_twice(self, cache: Provider) -> None:
        cache.fetch([b"key"])
        cache.close()
        cache.close()
