"""How files are divided: useful limits, and nothing over the end."""

from __future__ import annotations

import pytest

from syncstore.cache.shmcb.geometry import (
    DEFAULT_SIZE,
    HEADER_SIZE,
    MAX_SIZE,
    MIN_SIZE,
    PLACE_SIZE,
    STATE_SIZE,
    Geometry,
)


@pytest.mark.parametrize(
    "size", [MIN_SIZE, 8193, 12_345, 20_000, 100_003, DEFAULT_SIZE, 2**20 + 1, MAX_SIZE - 1]
)
@pytest.mark.parametrize("item_size", [16, 512, 1024 * 1024])
def test_all_is_in_the_file_and_nothing_in_another_s_place(size: int, item_size: int) -> None:
    geometry = Geometry.of(size, item_size)
    assert STATE_SIZE + 4 * geometry.places <= geometry.index_at
    assert geometry.index_at + PLACE_SIZE * geometry.places == geometry.data_at
    assert geometry.data_at + geometry.data == geometry.sub_size
    assert HEADER_SIZE + geometry.sub_size * geometry.sub_caches <= size
    assert geometry.sub_size % 8 == geometry.data_at % 8 == 0
    limits = geometry.limits
    assert 0 < limits.max_value < geometry.data
    assert limits.max_items == geometry.places * geometry.sub_caches


@pytest.mark.parametrize("size", [16_384, 20_000, 65_536, DEFAULT_SIZE, MAX_SIZE - 1])
def test_a_value_of_ten_thousand_bytes_fits_where_it_can(size: int) -> None:
    assert Geometry.of(size).limits.max_value >= 10_000


def test_the_default_has_several_sub_caches_and_the_largest_more() -> None:
    assert Geometry.of(MIN_SIZE).sub_caches == 1
    assert Geometry.of(DEFAULT_SIZE).sub_caches == 16
    assert Geometry.of(MAX_SIZE - 1).sub_caches == 32
    assert Geometry.of(MAX_SIZE - 1).limits.max_value > 500_000
