"""The provider `shmcb` keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.cache.shmcb import ShmcbProvider
from syncstore.cache.shmcb.geometry import MAX_SIZE, Geometry
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches

PATIENCE = 20.0  # seconds for others' turns: the machine may be busy


class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        geometry = Geometry.of(MAX_SIZE - 1)
        path = str(tmp_path / "cache")
        with OpenCaches(
            lambda clock: ShmcbProvider(path, clock, namespace="a", geometry=geometry, timeout=PATIENCE)
        ) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        geometry = Geometry.of(MAX_SIZE - 1)
        path = str(tmp_path / "nowhere" / "cache")
        with OpenCaches(
            lambda clock: ShmcbProvider(path, clock, namespace="a", geometry=geometry, timeout=PATIENCE)
        ) as open_cache:
            yield open_cache
