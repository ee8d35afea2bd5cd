"""How the tests of this folder open a cyclic buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncstore.cache.shmcb import ShmcbProvider
from syncstore.cache.shmcb.geometry import DEFAULT_ITEM_SIZE, DEFAULT_SIZE, Geometry
from syncstore.clock import Clock
from syncstore.testing.clocks import SteppableClock

OpenBuffer = Callable[..., ShmcbProvider]

PATIENCE = 20.0  # seconds for others' turns: the machine may be busy


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def open_buffer(path: Path, clock: Clock) -> Iterator[OpenBuffer]:
    """Opens providers on one file, closed at the end of the test."""
    opened: list[ShmcbProvider] = []

    def open_one(
        size: int = DEFAULT_SIZE,
        *,
        item_size: int = DEFAULT_ITEM_SIZE,
        timeout: float = PATIENCE,
        namespace: str = "a",
    ) -> ShmcbProvider:
        provider = ShmcbProvider(
            str(path), clock, namespace=namespace, geometry=Geometry.of(size, item_size), timeout=timeout
        )
        opened.append(provider)
        return provider

    yield open_one
    for provider in opened:
        provider.close()
