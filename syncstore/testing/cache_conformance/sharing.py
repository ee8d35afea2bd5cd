"""Threads and processes: nobody's answer reaches another, and compare-and-set counts exactly."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from syncstore.cache.api import ABSENT, Conflict, NotFound, Provider, Remove, Store, Token
from syncstore.clock import SystemClock
from syncstore.testing.cache_conformance.rooms import PATIENCE, Child, OpenCache, Rooms, needs_cas, value_of


def count_up(cache: Provider, key: bytes, times: int) -> None:
    """Count up the number under `key`, from nothing if need be, by compare-and-set."""
    for _ in range(times):
        while True:
            try:
                try:
                    item = cache.retrieve(key)
                except NotFound:
                    cache.store(key, b"1", expect=ABSENT)
                else:
                    cache.store(key, b"%d" % (int(item.value) + 1), expect=item.token)
            except Conflict:
                continue
            break


def use(cache: Provider, name: bytes, times: int, seed: int) -> None:
    """Store, find, replace and remove values under keys that begin with `name`, and look at each answer."""
    rng = random.Random(seed)
    known: dict[bytes, tuple[bytes, Token]] = {}
    keys = [name + b":%d" % number for number in range(5)]
    for turn in range(times):
        key = rng.choice(keys)
        value = b"%s=%d" % (key, turn) + b"." * rng.choice((0, 10, 1000, 30_000))
        if rng.random() < 0.2 and key in known:
            assert cache.change([Remove(key, known.pop(key)[1]), Remove(key)])[0] is None
        elif rng.random() < 0.1:
            cache.change_later([Store(name + b":later", value)] * 2)  # it may come after what we do next
        elif rng.random() < 0.5:
            expect = known[key][1] if key in known else ABSENT
            known[key] = value, cache.store(key, value, expect=expect)
        else:
            found = cache.fetch(keys)
            assert [item and (item.value, item.token) for item in found] == [known.get(key) for key in keys]


def together(*works: Callable[[], object]) -> None:
    """Do all at once, each in a thread of its own."""
    start = threading.Barrier(len(works))

    def begin(work: Callable[[], object]) -> None:
        start.wait(PATIENCE)
        work()

    with ThreadPoolExecutor(len(works)) as threads:
        for future in [threads.submit(begin, work) for work in works]:
            future.result()


@needs_cas
class SharingRules(Rooms):
    """Several at once."""

    def test_threads_count_exactly(self, cache: Provider, key: bytes) -> None:
        together(*[lambda: count_up(cache, key, 100)] * 6)
        assert value_of(cache, key) == b"600"

    def test_one_of_many_threads_is_the_first(self, cache: Provider, keys: list[bytes]) -> None:
        won: list[bytes] = []

        def try_all() -> None:
            for key in keys:
                try:
                    cache.store(key, b"mine", expect=ABSENT)
                except Conflict:
                    continue
                won.append(key)

        together(*[try_all] * 8)
        assert sorted(won) == keys

    def test_threads_get_their_own_answers(self, cache: Provider, prefix: bytes, key: bytes) -> None:
        together(*(lambda n=n: use(cache, prefix + b":t%d" % n, 150, n) for n in range(12)))

    def test_children_get_their_own_answers(self, open_cache: OpenCache, prefix: bytes, key: bytes) -> None:
        cache = open_cache(SystemClock())
        token = cache.store(key, b"parent")
        cache.change_later([Store(key + b"later", b"x")])  # an answer that is under way when they are forked
        children = [
            Child(lambda n=n: use(cache, prefix + b":c%d" % n, 150, n))  # type: ignore[misc]  # each lambda has its n
            for n in range(8)
        ]
        use(cache, prefix + b":parent", 150, 99)
        assert [child.join() for child in children] == [""] * 8
        assert cache.retrieve(key) == (b"parent", token, 0)

    def test_a_child_of_a_parent_with_busy_threads_works(
        self, open_cache: OpenCache, prefix: bytes, key: bytes
    ) -> None:
        cache = open_cache(SystemClock())
        done = threading.Event()

        def busy(number: int) -> None:
            turn = 0
            while not done.is_set():
                turn += 1
                use(cache, prefix + b":b%d.%d" % (number, turn), 20, turn)

        with ThreadPoolExecutor(4) as threads:
            busy_threads = [threads.submit(busy, number) for number in range(4)]
            try:
                for number in range(8):
                    name = prefix + b":f%d" % number
                    assert Child(lambda name=name: use(cache, name, 40, 5)).join() == ""  # type: ignore[misc]  # its own name
            finally:
                done.set()
            for thread in busy_threads:
                thread.result()

    def test_children_see_what_it_says_they_see(self, open_cache: OpenCache, key: bytes) -> None:
        cache = open_cache(SystemClock())
        shared = cache.features.shared
        cache.store(key, b"parent")

        def look_and_count() -> None:
            if shared:
                assert value_of(cache, key) == b"parent"
            count_up(cache, key + b"count", 50)

        children = [Child(look_and_count) for _ in range(4)]
        assert [child.join() for child in children] == [""] * 4
        assert value_of(cache, key + b"count") == (b"200" if shared else None)
        assert value_of(cache, key) == b"parent"
