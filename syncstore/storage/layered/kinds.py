"""Which collections live where: in SQL, in SQL with a copy in the cache, or in the cache alone."""

from __future__ import annotations

import zlib
from collections.abc import Collection


class Kinds:
    """The configured lists. A collection in neither is uncached: its items are always read from SQL."""

    def __init__(self, cached_only: Collection[str] = (), write_through: Collection[str] = ()) -> None:
        self.cached_only = frozenset(cached_only)
        self.write_through = frozenset(write_through)
        both = self.cached_only & self.write_through
        if both:
            raise ValueError(f"{min(both)} cannot be both cached-only and written through")
        # What stands in a metadata record depends on which times SQL keeps where. A record that was made under
        # another list is unknown here, and is replaced.
        self.fingerprint = zlib.crc32("\0".join(sorted(self.cached_only)).encode())
