"""The provider `http` keeps the contract over a mount of each provider that needs no server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncstore.cache import making
from syncstore.cache.api import Provider
from syncstore.cache.http.provider import HttpProvider, Place
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.shmap_stand import PREFIX, mounted, served

PROVIDERS = {"memory": "memory", "dbm": "dbm:{folder}/cache.db", "shmcb": "shmcb:{folder}/cache(16777216)"}
"""Those that need no server, as settings have them."""


def made(text: str, folder: Path, clock: Clock) -> Provider:
    """The cache of a setting, for a mount. Skips the test where its provider is not there."""

    def none(name: str) -> Any:
        raise ConfigError(f"there is no {name} in this test")

    description = making.Description.parse(text.format(folder=folder))
    options = making.Options(description.options)
    surroundings = making.Surroundings("test", clock, folder, options, none, none, "sqlite://")
    return making.make(description, surroundings)


class LastClock:
    """The clock that was named last: that of the client whose test it is."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.clock, name)


@pytest.mark.parametrize("mount", PROVIDERS)
class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, mount: str, clock: SteppableClock, tmp_path: Path) -> Iterator[OpenCache]:
        theirs: Any = LastClock(clock)
        behind = made(PROVIDERS[mount], tmp_path, theirs)

        def open_one(clock: Clock) -> Provider:
            theirs.clock = clock
            return HttpProvider(place, clock, timeout=20)

        with served(mounted(behind, theirs)) as port, OpenCaches(open_one) as open_cache:
            place = Place(False, HOST, port, PREFIX)
            yield open_cache
        behind.close()

    @pytest.fixture
    def open_unreachable_cache(self) -> Iterator[OpenCache]:
        place = Place(False, HOST, free_port(), PREFIX)
        with OpenCaches(lambda clock: HttpProvider(place, clock)) as open_cache:
            yield open_cache
