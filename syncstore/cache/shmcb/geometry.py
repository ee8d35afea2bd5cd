"""How a file of some size is divided: a header, and after it sub-caches of one size.

    header        512 bytes   what the file is, and the counters
    sub-cache                 its state, 72 bytes; buckets, 4 bytes each; index ring, 48 bytes a place; data ring

A sub-cache is what is lost when a writer is killed in mid-change, or when a byte has changed by itself: many small
ones lose less. But no value may be larger than one of them, so there are as many as leave room for useful values.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

from syncstore.cache.api import Limits
from syncstore.cache.of_several import MAX_KEY

DEFAULT_SIZE: Final = 512 * 1024
MIN_SIZE: Final = 8192
MAX_SIZE: Final = 64 * 1024 * 1024
"""Bytes of a file; the greatest size is one less."""
DEFAULT_ITEM_SIZE: Final = 512

HEADER_SIZE: Final = 512
STATE_SIZE: Final = 72
BUCKET_SIZE: Final = 4
PLACE_SIZE: Final = 48

MAX_PREFIX: Final = 17  # of a key in the file: a namespace of 16 characters, and a colon
_USEFUL_VALUE = 10_000
_MOST_SUB_CACHES = 32


class Geometry(NamedTuple):
    """Where things are in a file of `size` bytes whose items take `item_size` on average.

    `sub_caches` of `sub_size` bytes, each with `places` for items and `data` bytes for their keys and values. The
    data ring begins `data_at` bytes after the sub-cache, the index ring `index_at`, the buckets after its state.
    """

    size: int
    item_size: int
    sub_caches: int
    sub_size: int
    places: int
    index_at: int
    data_at: int
    data: int

    @classmethod
    def of(cls, size: int, item_size: int = DEFAULT_ITEM_SIZE) -> Self:
        """The one of a size, always the same: processes that agree on both numbers agree on all."""
        count = _MOST_SUB_CACHES
        while True:
            geometry = cls._divided(size, item_size, count)
            if count == 1 or geometry.data // 2 >= _USEFUL_VALUE + MAX_KEY + MAX_PREFIX:
                return geometry
            count //= 2

    @classmethod
    def _divided(cls, size: int, item_size: int, count: int) -> Self:
        sub_size = (size - HEADER_SIZE) // count // 8 * 8
        places = max(1, (sub_size - STATE_SIZE) // (item_size + PLACE_SIZE + BUCKET_SIZE))
        index_at = STATE_SIZE + (places * BUCKET_SIZE + 7) // 8 * 8
        data_at = index_at + places * PLACE_SIZE
        return cls(size, item_size, count, sub_size, places, index_at, data_at, sub_size - data_at)

    @property
    def limits(self) -> Limits:
        """What fits into the file.

        A value takes up to half of a data ring, so that it leaves something beside it; in a small file all of it.
        """
        largest = max(self.data // 2, min(self.data, _USEFUL_VALUE + MAX_KEY + MAX_PREFIX))
        return Limits(
            max_key=MAX_KEY,
            max_value=largest - MAX_KEY - MAX_PREFIX,
            max_items=self.sub_caches * self.places,
        )
