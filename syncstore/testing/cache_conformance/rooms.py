"""What every topic of the suite stands on: the cache, its clock, keys of the test's own and those of a neighbour."""

from __future__ import annotations

import os
import secrets
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import pytest

from syncstore.cache.api import Item, NotFound, Provider
from syncstore.clock import Clock
from syncstore.testing.clocks import SteppableClock

OpenCache = Callable[[Clock], Provider]
"""Opens the cache under test; where it is shared, the same one each time."""

PATIENCE = 20.0
"""Seconds after which a test gives up on what must happen."""


R = TypeVar("R")


class OpenCaches:
    """Opens caches by `open_one` when called, and at the end of its block closes them."""

    def __init__(self, open_one: OpenCache) -> None:
        self._open_one = open_one
        self._opened: list[Provider] = []

    def __call__(self, clock: Clock) -> Provider:
        cache = self._open_one(clock)
        self._opened.append(cache)
        return cache

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for cache in self._opened:
            cache.close()


def value_of(cache: Provider, key: bytes) -> bytes | None:
    """The value of a key, None when it is missing."""
    try:
        return cache.retrieve(key).value
    except NotFound:
        return None


def present(found: list[Item | None]) -> list[Item]:
    """All of what was fetched, none of which may be missing."""
    items = [item for item in found if item is not None]
    assert len(items) == len(found)
    return items


class Child:
    """A child of this very process, forked to do one thing."""

    def __init__(self, work: Callable[[], object]) -> None:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Python 3.12 warns whenever there are threads; that forks are survived is what is tested
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(reading)
                work()
            except BaseException:  # noqa: BLE001, RUF100 - it must not run the rest of the tests
                os.write(writing, traceback.format_exc()[-4000:].encode())
            finally:
                os._exit(0)
        os.close(writing)
        self._end = reading

    def join(self) -> str:
        """The child's traceback, empty when all went well."""
        with open(self._end, "rb") as pipe:
            told = pipe.read()
        os.waitpid(self._pid, 0)
        return told.decode(errors="replace")


def needs_cas(rules: R) -> R:
    """Leave out this test, or all of this class and no others that are inherited beside it, where there is no
    compare-and-set."""
    tests = vars(rules).values() if isinstance(rules, type) else [rules]
    for test in tests:
        if callable(test):
            test.needs_cas = True
    return rules


class Rooms:
    """The fixtures that all topics share."""

    can_be_unreachable: ClassVar[bool] = True
    """False for what lives in the process itself."""

    @pytest.fixture
    def open_cache(self) -> OpenCache:
        """How the cache under test is opened: what a subclass must bring."""
        raise NotImplementedError("a conformance class needs a fixture `open_cache`")

    @pytest.fixture
    def open_unreachable_cache(self) -> OpenCache:
        """The same over a service that is not there."""
        raise NotImplementedError("a conformance class needs a fixture `open_unreachable_cache`")

    @pytest.fixture(autouse=True)
    def _with_what_it_can(self, request: pytest.FixtureRequest, cache: Provider) -> None:
        if getattr(request.function, "needs_cas", False) and not cache.features.cas:
            pytest.skip("it has no compare-and-set, and says so")

    @pytest.fixture
    def clock(self) -> SteppableClock:
        """The clock of `cache`; it starts at the present, from which a server outside counts, too."""
        return SteppableClock(time.time_ns() // 1_000_000)

    @pytest.fixture
    def cache(self, open_cache: OpenCache, clock: SteppableClock) -> Provider:
        """The cache under test, on the test's clock."""
        return open_cache(clock)

    @pytest.fixture
    def prefix(self) -> bytes:
        """With what all keys of this test begin, and no others."""
        return secrets.token_hex(6).encode()

    @pytest.fixture
    def key(self, prefix: bytes, neighbour: object) -> bytes:
        """A key that is not in the cache."""
        return prefix + b":key"

    @pytest.fixture
    def keys(self, prefix: bytes, neighbour: object) -> list[bytes]:
        """Four keys that are not in the cache."""
        return [prefix + b":%d" % number for number in range(4)]

    @pytest.fixture
    def neighbour(self, cache: Provider, prefix: bytes) -> Iterator[None]:
        """Keys that resemble the test's, and must have at the end what they had at the beginning."""
        theirs = {
            name: cache.store(name, b"theirs:" + name)
            for name in (prefix, prefix + b":", prefix + b":key2", prefix + b":KEY", prefix + b":00")
        }
        yield
        for name, token in theirs.items():
            assert cache.retrieve(name) == Item(b"theirs:" + name, token)
