"""The composition of small-object caches: settings in, the caches out, their mounts, and what culls them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from syncstore import databases
from syncstore.cache import making
from syncstore.cache.api import Provider
from syncstore.cache.culling import Culling
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.settings import Settings, values
from syncstore.web.shmap import Mount, Rules, Shmap
from syncstore.web.shmap_access import Access
from syncstore.web.shmap_deadline import Deadline

if TYPE_CHECKING:
    from syncstore.cache.memcached.records import HomeRecords
    from syncstore.zookeeper.cluster import Cluster

_CULL_INTERVAL: Final = 60.0

# Another node knows nothing of our names; and of one file that two caches share, each would have the size it wants.
_BOUND_TO_A_PLACE: Final = frozenset({"http", "shmcb"})
_FILES: Final = frozenset({"dbm", "shmcb"})


class SmallCache(NamedTuple):
    """One of the caches, and every how many seconds it is culled, 0 for never."""

    provider: Provider
    cull_interval: float


class Services:
    """What caches of the settings share: the clients of ZooKeeper clusters, and of memcacheds."""

    def __init__(self, settings: Settings, clock: Clock, records: HomeRecords | None) -> None:
        self._settings = settings
        self._clock = clock
        self._records = records
        self._opened = ExitStack()
        self.close = self._opened.close
        self._cluster: Callable[[str], Cluster] | None = None

    def cluster(self, name: str) -> Cluster:
        """A ZooKeeper cluster. Raises ConfigError."""
        if name not in self._settings.zk_clusters:
            raise ConfigError(f"zk.clusters does not name {name!r}")
        if self._cluster is None:
            from syncstore.zookeeper.clusters import Clusters

            clusters = Clusters(self._settings.zookeeper)
            self._opened.callback(clusters.close)
            self._cluster = clusters.__getitem__
        return self._cluster(name)

    def memcached(self, prefix: str) -> Provider:
        """The memcacheds of the settings as one cache, whose keys begin with that of the settings and `prefix`."""
        from syncstore.app_memcached import open_memcached, open_pool

        scope = f"{self._settings.cache_key_prefix}-{prefix}"
        servers = self._settings.memcached_servers
        if len(servers) > 1 and self._records is not None:
            pool = open_pool(self._settings, self._records, self._clock, scope)
            self._opened.callback(pool.stop)
            return pool.cache
        provider = open_memcached(self._settings, self._clock, servers[0], prefix=scope)
        self._opened.callback(provider.close)
        return provider


def make_caches(settings: Settings, services: Services, clock: Clock) -> dict[str, SmallCache]:
    """The caches of the settings by name. Opens no connection, but for the states of several memcacheds.

    Raises ConfigError.
    """
    descriptions = _descriptions(settings)
    _check_places(descriptions, settings)
    made: dict[str, SmallCache] = {}
    for name, description in descriptions.items():
        options = making.Options(description.options)
        surroundings = making.Surroundings(
            namespace=name,
            clock=clock,
            here=settings.here,
            options=options,
            cluster=services.cluster,
            memcached=services.memcached,
            database=databases.with_password(databases.storage_tables(settings).url),
        )
        try:
            interval = options.take("cull_interval", values.seconds(0), _CULL_INTERVAL)
            made[name] = SmallCache(making.make(description, surroundings), interval)
        except ConfigError as error:
            raise ConfigError(f"socache.{name}: {error}") from error
    return made


def _descriptions(settings: Settings) -> dict[str, making.Description]:
    found = {}
    for name, text in settings.caches.items():
        try:
            found[name] = making.Description.parse(text)
        except ValueError as error:
            raise ConfigError(f"socache.{name}: {error}") from error
    return found


def _check_places(descriptions: Mapping[str, making.Description], settings: Settings) -> None:
    """Two caches in one place would be one cache under two names; and a database is no place for any."""
    databases_here = {
        Path(tables.url.database).resolve()
        for tables in databases.families(settings)
        if tables.url.get_backend_name() == "sqlite" and tables.url.database
    }
    taken: dict[tuple[str, str], str] = {}
    for name, (provider, argument, _) in descriptions.items():
        place = argument.rstrip("/")
        if provider in _FILES:
            path = (settings.here / argument.partition("(")[0]).resolve()
            if path in databases_here:
                raise ConfigError(f"socache.{name}: {path} is the database of the service: name another file")
            place = str(path)
        other = taken.setdefault((provider, place), name)
        if other != name and provider in _BOUND_TO_A_PLACE:
            raise ConfigError(
                f"socache.{name} and socache.{other} are one and the same place: remove one of them"
            )


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
