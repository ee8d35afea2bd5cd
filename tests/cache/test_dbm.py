"""The provider `dbm` keeps the contract, and its values outlive what it is made for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.cache.dbm import DbmProvider
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches

PATIENCE = 20.0  # seconds for others' turns: the machine may be busy


class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        path = str(tmp_path / "cache")
        with OpenCaches(
            lambda clock: DbmProvider(path, clock, namespace="a", timeout=PATIENCE)
        ) as open_cache:
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self, tmp_path: Path) -> Iterator[OpenCache]:
        path = str(tmp_path / "nowhere" / "cache")
        with OpenCaches(lambda clock: DbmProvider(path, clock, namespace="a")) as open_cache:
            yield open_cache
