"""What a cyclic buffer holds: the oldest go first, the counters tell, and no byte that changed by itself is told."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from syncstore.cache.api import Conflict, Item, NotFound, Provider, Remove, Store
from syncstore.cache.shmcb import ShmcbProvider
from syncstore.cache.shmcb.geometry import HEADER_SIZE, MAX_SIZE, MIN_SIZE
from syncstore.testing.clocks import SteppableClock

OpenBuffer = Callable[..., ShmcbProvider]


def live(cache: Provider) -> dict[bytes, bytes]:
    return {key: item.value for key, item in cache.iterate()}


def told(item: Item) -> tuple[bytes, int, float]:
    """All of an item but the incarnation, which is its sub-cache's."""
    return item.value, item.token.number, item.expires


# -- where keys are


def test_keys_that_begin_alike_are_spread_over_all_sub_caches(
    open_buffer: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda size: b"s" * size)
    cache = open_buffer(MAX_SIZE - 1)
    cache.change([Store(b"/map/u/%d" % number, b"x") for number in range(10_000)])
    status = cache.status()
    assert (status["items"], status["sub_caches"]) == (10_000, 32)
    mean = 10_000 / 32
    assert isinstance(status["fewest_items"], int)
    assert isinstance(status["most_items"], int)
    assert mean * 0.75 < status["fewest_items"] <= status["most_items"] < mean * 1.25


def test_two_namespaces_of_one_file_do_not_meet(open_buffer: OpenBuffer) -> None:
    one, other = open_buffer(namespace="a"), open_buffer(namespace="ab")
    one.store(b"b:k", b"one")
    other.store(b"k", b"other")
    assert (live(one), live(other)) == ({b"b:k": b"one"}, {b"k": b"other"})
    one.remove(b"b:k")
    assert (live(one), live(other)) == ({}, {b"k": b"other"})


# -- what goes when it is full


def test_the_oldest_go_first_and_are_counted(open_buffer: OpenBuffer) -> None:
    cache = open_buffer(MIN_SIZE)
    for number in range(1000):
        cache.store(b"%d" % number, b"x" * 100)
    kept = live(cache)
    assert list(kept) == [b"%d" % number for number in range(1000 - len(kept), 1000)]
    status = cache.status()
    assert (status["items"], status["scrolled"]) == (len(kept), 1000 - len(kept))
    assert cache.limits.max_items == len(kept)


@pytest.mark.parametrize("size", [1, 300, 1000])
def test_the_newest_hundred_are_all_there(open_buffer: OpenBuffer, size: int) -> None:
    cache = open_buffer(2 * 1024 * 1024)
    numbers = range(5000)
    for number in numbers:
        cache.store(b"%d" % number, b"%d" % number * size)
    for number in numbers[-100:]:
        assert cache.retrieve(b"%d" % number).value == b"%d" % number * size
    status = cache.status()
    assert status["scrolled"] == 5000 - len(live(cache)) > 0
    assert status["scrolled"] == status["stores"] - status["items"]  # type: ignore[operator]  # both are numbers


def test_values_of_all_sizes_go_over_the_ends_of_the_rings(
    open_buffer: OpenBuffer, clock: SteppableClock
) -> None:
    rng = random.Random(5)
    cache = open_buffer(16_384, item_size=200)
    known: dict[bytes, bytes] = {}
    for turn in range(4000):
        key = b"%d" % rng.randrange(40)
        if rng.random() < 0.2:
            cache.change([Remove(key)])
            known.pop(key, None)
        else:
            largest = rng.choice((5, 100, 2000, cache.limits.max_value))
            known[key] = b"%d" % turn + rng.randbytes(rng.randrange(largest - 4))
            expires = clock.seconds() + rng.random() if rng.random() < 0.3 else 0
            cache.store(key, known[key], expires)
            assert cache.retrieve(key).value == known[key]
        if turn % 10 == 0:
            clock.step(0.2)
            found = live(cache)
            assert {name: known.get(name) for name in found} == found
    status = cache.status()
    assert status["damaged"] == status["interrupted"] == 0
    assert 0 not in (status["scrolled"], status["replaced"], status["expired"])


def test_a_key_that_is_stored_again_and_again_drives_out_no_other(open_buffer: OpenBuffer) -> None:
    cache = open_buffer(MIN_SIZE)
    tokens = {key: cache.store(key, key * 100) for key in (b"one", b"two", b"three")}
    for number in range(2000):
        cache.store(b"often", b"%d" % number * 100)
    for key, token in tokens.items():
        assert cache.retrieve(key)[:2] == (key * 100, token)
    assert cache.retrieve(b"often").value == b"1999" * 100
    assert cache.status()["scrolled"] == 0


def test_those_that_expired_make_room_before_those_that_live(
    open_buffer: OpenBuffer, clock: SteppableClock
) -> None:
    cache = open_buffer(MIN_SIZE)
    for number in range(5):
        cache.store(b"dies%d" % number, b"x" * 1000, clock.seconds() + 1)
    cache.store(b"lives", b"x" * 1000)
    clock.step(1)
    cache.store(b"new", b"x" * 1000)
    assert live(cache).keys() == {b"lives", b"new"}
    status = cache.status()
    assert (status["expired"], status["scrolled"], status["items"]) == (5, 0, 2)


def test_what_has_expired_is_culled_a_few_at_a_time(open_buffer: OpenBuffer, clock: SteppableClock) -> None:
    cache = open_buffer()
    for number in range(20):
        cache.store(b"dies%d" % number, b"x", clock.seconds() + 10)
        cache.store(b"lives%d" % number, b"x", clock.seconds() + 20)
        cache.store(b"stays%d" % number, b"x")
    assert cache.cull() == 0
    assert cache.cull(now=clock.seconds() + 10, limit=3) == 3
    clock.step(10)
    assert cache.cull(limit=4) == 4
    assert cache.cull() == 13
    assert cache.cull() == 0
    assert cache.status()["items"] == 40
    assert {key[:5] for key in live(cache)} == {b"lives", b"stays"}


def test_it_counts_what_is_done(open_buffer: OpenBuffer, clock: SteppableClock) -> None:
    cache = open_buffer()
    cache.store(b"a", b"1")
    cache.store(b"a", b"2")
    cache.store(b"b", b"1", clock.seconds() + 1)
    cache.fetch([b"a", b"b", b"c"])
    clock.step(1)
    cache.store(b"b", b"2")
    cache.remove(b"a")
    for _ in range(2):
        with pytest.raises(NotFound):
            cache.remove(b"a")
    other = open_buffer()  # the counters are the file's
    status = other.status()
    names = ("stores", "replaced", "expired", "scrolled", "retrieve_hits", "retrieve_misses")
    assert [status[name] for name in names] == [4, 1, 1, 0, 2, 1]
    assert (status["remove_hits"], status["remove_misses"]) == (1, 2)


# -- bytes that are not those that were written


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_no_byte_that_changed_by_itself_is_told(
    open_buffer: OpenBuffer, path: Path, clock: SteppableClock, step: int
) -> None:
    cache = open_buffer(MIN_SIZE)
    rng = random.Random(1)
    wrote = {b"%d" % number: b"%d" % number + rng.randbytes(300) for number in range(25)}
    for key, value in wrote.items():
        cache.store(key, value, clock.seconds() + 10)
    before = live(cache)
    facts = {key: told(item) for key, item in cache.iterate()}
    good = path.read_bytes()
    damaged = 0
    with path.open("r+b", buffering=0) as file:
        for place in range(HEADER_SIZE + step // 2, len(good), step):
            os.pwrite(file.fileno(), good, 0)
            os.pwrite(file.fileno(), bytes([good[place] ^ (1 << place % 8)]), place)
            for item, key in zip(cache.fetch(list(before)), before, strict=True):
                assert item is None or told(item) == facts[key], (place, key)
            for key, item in cache.iterate():
                assert told(item) == facts[key], (place, key)
            for number in range(12):  # more than a half of what is there goes
                cache.store(b"new%d" % number, b"y" * 300)
            assert cache.retrieve(b"new11").value == b"y" * 300
            cache.cull()
            now = live(cache)
            assert {key: before.get(key, b"y" * 300) for key in now} == now
            damaged += cache.status()["damaged"] > 0  # type: ignore[operator]  # it is a number
    assert damaged > 100 / step


def test_a_value_that_changed_by_itself_is_a_miss_counted_and_its_token_is_worth_nothing(
    open_buffer: OpenBuffer, path: Path
) -> None:
    cache = open_buffer(MIN_SIZE)
    token = cache.store(b"k", b"a value")
    other = cache.store(b"other", b"x")
    changed = path.read_bytes().replace(b"a value", b"a xalue")
    with path.open("r+b") as file:
        file.write(changed)
    with pytest.raises(NotFound):
        cache.retrieve(b"k")
    assert cache.status()["damaged"] == 1
    assert live(cache) == {}
    again = cache.store(b"k", b"a value")
    assert again.number == token.number
    assert again != token
    for old in (token, other):
        with pytest.raises(Conflict):
            cache.store(b"k", b"late", expect=old)


def test_an_index_that_runs_in_a_circle_is_damage(open_buffer: OpenBuffer, path: Path) -> None:
    cache = open_buffer(MIN_SIZE)
    cache.store(b"k", b"x")
    data = path.read_bytes()
    (bucket,) = [
        at for at in range(HEADER_SIZE + 72, HEADER_SIZE + 200, 4) if data[at : at + 4] == b"\1\0\0\0"
    ][:1]
    assert struct.unpack_from("=I", data, bucket) == (1,)
    index = data.index(b"a:k")  # in the data ring, which comes behind the index
    assert index > bucket
    cache.store(b"other", b"y")
    with path.open("r+b") as file:
        raw = bytearray(path.read_bytes())
        places = cache.limits.max_items or 0
        start = HEADER_SIZE + 72 + (places * 4 + 7) // 8 * 8
        for place in range(2):
            struct.pack_into("=Q", raw, start + 48 * place, 0)  # neither is what is looked for
            struct.pack_into("=I", raw, start + 48 * place + 44, 2 - place)
        file.write(raw)
    assert cache.fetch([b"k", b"other"]) == [None, None]
    assert cache.status()["damaged"] in (1, 2)
    cache.store(b"k", b"z")
    assert live(cache) == {b"k": b"z"}
