"""Names of keys in memcached: printable, short enough, and one for each key."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.cache.api import BadKey
from syncstore.cache.memcached.keys import Keys

KEYS = Keys(b"sync:")
any_key = st.binary(min_size=1, max_size=KEYS.longest) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=KEYS.longest
).map(str.encode)


def test_a_printable_key_stands_as_it_is() -> None:
    assert KEYS.name(b"2:1234567:meta") == b"sync:2:1234567:meta"
    assert Keys(b"").name(b"!~") == b"!~"


@given(any_key)
def test_a_name_is_one_that_memcached_takes(key: bytes) -> None:
    assert re.fullmatch(rb"sync:[!-~]+", KEYS.name(key))
    assert len(KEYS.name(key)) <= 250


@given(any_key, any_key)
def test_no_two_keys_have_one_name(one: bytes, other: bytes) -> None:
    assert (KEYS.name(one) == KEYS.name(other)) == (one == other)
    name = KEYS.name(one).removeprefix(b"sync:")
    if len(name) <= KEYS.longest:
        assert (KEYS.name(name) == KEYS.name(one)) == (name == one)


@pytest.mark.parametrize("prefix", [b"", b"sync:", b"p" * 100])
@pytest.mark.parametrize("filling", [b"k", b"\xff", b"~"])
def test_the_longest_key_fits_whatever_it_is_of(prefix: bytes, filling: bytes) -> None:
    keys = Keys(prefix)
    assert len(keys.name(filling * keys.longest)) <= 250
    for size in (0, keys.longest + 1, 10_000):
        with pytest.raises(BadKey):
            keys.name(filling * size)


def test_the_longest_key_could_not_be_longer() -> None:
    longest = Keys(b"").longest
    assert len(Keys(b"").name(b"\xff" * longest)) >= 249


@pytest.mark.parametrize("prefix", [b"a b", b"\n", b"\xff", b"p" * 101])
def test_it_refuses_a_prefix_that_is_no_part_of_a_name(prefix: bytes) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Keys(prefix)
