"""Any provider in the place of a memcached: the one server of a group, with a state of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncstore.cache.api import Change, Features, Limits, NotSupported, Provider, check_expiry
from syncstore.clock import Clock


class SoleServer:
    """A provider that is at `address`, in the words of the settings. `end` is called when it is closed."""

    def __init__(self, provider: Provider, address: str, clock: Clock, end: Callable[[], None]) -> None:
        self._provider = provider
        self._clock = clock
        self._end = end
        self.address = address
        self.name = provider.name
        self.retrieve = provider.retrieve
        self.store = provider.store
        self.remove = provider.remove
        self.fetch = provider.fetch
        self.change = provider.change
        self.change_later = provider.change_later
        self.iterate = provider.iterate
        self.cull = provider.cull
        self.status = provider.status

    @property
    def features(self) -> Features:
        """What it can do (see Provider)."""
        return self._provider.features

    @property
    def limits(self) -> Limits:
        """What fits into it (see Provider)."""
        return self._provider.limits

    @property
    def max_key(self) -> int:
        """Bytes of a key at most."""
        return self._provider.limits.max_key

    def check_expiry(self, changes: Sequence[Change]) -> None:
        """Raise ValueError for a value that has expired before it is stored."""
        check_expiry(changes, self._clock.seconds())

    def flush(self) -> None:
        """Not possible: no other provider than memcached can. Raises NotSupported."""
        raise NotSupported(f"{self.name} cannot forget everything at once")

    def close(self) -> None:
        """Close it, and what it needs."""
        self._provider.close()
        self._end()
