"""The composition of shmap: the mounts of the settings over their caches, and what culls these."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from syncstore.app_providers import Services, SmallCache, make_caches
from syncstore.cache.culling import Culling
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.settings import Settings
from syncstore.web.shmap import Mount, Rules, Shmap
from syncstore.web.shmap_access import Access
from syncstore.web.shmap_deadline import Deadline

if TYPE_CHECKING:
    from syncstore.cache.memcached.records import HomeRecords


def open_shmap(settings: Settings, records: HomeRecords, clock: Clock) -> Shmap | None:
    """The mounts of the settings, over their caches; None without caches. Raises ConfigError, Unavailable."""
    if not settings.caches:
        return None
    with ExitStack() as opened:
        services = Services(settings, clock, records)
        opened.callback(services.close)
        caches = make_caches(settings, services, clock)
        _check_mounts(settings, caches)
        for cache in caches.values():
            opened.callback(cache.provider.close)
        deadline = Deadline(settings.shmap_timeout)
        opened.callback(deadline.close)
        mounts = _mounts(settings, caches, clock, deadline)
        for name, cache in caches.items():
            culling = Culling(cache.provider, cache.cull_interval, name=name)
            opened.callback(culling.stop)
            culling.start()
        access = Access(settings.shmap_secret if settings.shmap_permission == "shmap" else ())
        return Shmap(mounts, access, opened.pop_all().close)


def check_shmap(settings: Settings, clock: Clock) -> None:
    """Find what is wrong with its settings, without a connection. Raises ConfigError."""
    services = Services(settings, clock, None)
    try:
        caches = make_caches(settings, services, clock)
        _check_mounts(settings, caches)
        for cache in caches.values():
            cache.provider.close()
    finally:
        services.close()


def _check_mounts(settings: Settings, caches: Mapping[str, SmallCache]) -> None:
    for prefix, name in settings.shmap_mounts:
        if settings.workers > 1 and isinstance(caches[name].provider, MemoryProvider):
            raise ConfigError(
                f"shmap.mounts: {prefix} {name}: each process has a memory of its own, and serve.workers (or "
                f"--workers) is {settings.workers}: set that to 1, or another provider in socache.{name}, such as shmcb"
            )


def _mounts(
    settings: Settings, caches: Mapping[str, SmallCache], clock: Clock, deadline: Deadline
) -> list[Mount]:
    rules = Rules(
        settings.shmap_default_expiry,
        settings.shmap_max_body,
        settings.shmap_key == "path",
        settings.shmap_list,
    )
    return [
        Mount(
            prefix,
            caches[name].provider,
            clock,
            rules,
            None if isinstance(caches[name].provider, MemoryProvider) else deadline,
        )
        for prefix, name in settings.shmap_mounts
    ]
