"""The composition of small-object caches: settings in, the caches out, and the services that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from syncstore import databases
from syncstore.cache import making
from syncstore.cache.api import Provider
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.settings import Settings, values

if TYPE_CHECKING:
    from syncstore.cache.memcached.records import HomeRecords
    from syncstore.zookeeper.cluster import Cluster

_CULL_INTERVAL: Final = 60.0

# Another node knows nothing of our names; and of one file that two caches share, each would have the size it wants.
_BOUND_TO_A_PLACE: Final = frozenset({"http", "shmcb"})
_FILES: Final = frozenset({"dbm", "shmcb"})


STORAGE: Final = "sync-"
"""What the names begin with under which the storage is cached."""


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
    _check_places({f"socache.{name}": one for name, one in descriptions.items()}, settings)
    made: dict[str, SmallCache] = {}
    for name, description in descriptions.items():
        try:
            made[name] = make_cache(settings, description, name, services, clock)
        except ConfigError as error:
            raise ConfigError(f"socache.{name}: {error}") from error
    return made


def make_cache(
    settings: Settings,
    description: making.Description,
    namespace: str,
    services: Services,
    clock: Clock,
    *,
    strict: bool = False,
) -> SmallCache:
    """The cache of a description; a `strict` one never gives an answer that is a moment old. Raises ConfigError."""
    options = making.Options(description.options)
    surroundings = making.Surroundings(
        namespace=namespace,
        clock=clock,
        here=settings.here,
        options=options,
        cluster=services.cluster,
        memcached=services.memcached,
        database=databases.with_password(databases.storage_tables(settings).url),
        strict=strict,
    )
    interval = options.take("cull_interval", values.seconds(0), _CULL_INTERVAL)
    return SmallCache(making.make(description, surroundings), interval)


def _descriptions(settings: Settings) -> dict[str, making.Description]:
    found = {}
    for name, text in settings.caches.items():
        if name.startswith(STORAGE):
            raise ConfigError(
                f"socache.{name}: names that begin with {STORAGE} are those of the storage's own cache"
            )
        try:
            found[name] = making.Description.parse(text)
        except ValueError as error:
            raise ConfigError(f"socache.{name}: {error}") from error
    return found


def parse_storage_cache(settings: Settings) -> making.Description:
    """What `cache.provider` describes, where that has no keys of its own. Raises ConfigError."""
    try:
        return making.Description.parse(settings.cache_described)
    except ValueError as error:
        raise ConfigError(f"cache.provider: {error}") from error


def _check_places(descriptions: Mapping[str, making.Description], settings: Settings) -> None:
    """Two caches in one place would be one cache under two names; and a database is no place for any."""
    databases_here = {
        Path(tables.url.database).resolve()
        for tables in databases.families(settings)
        if tables.url.get_backend_name() == "sqlite" and tables.url.database
    }
    taken: dict[tuple[str, str], str] = {}
    if settings.cache_provider not in ("none", "memory", "memcached"):
        descriptions = {"cache.provider": parse_storage_cache(settings), **descriptions}
    for name, (provider, argument, _) in descriptions.items():
        place = argument.rstrip("/")
        if provider in _FILES:
            path = (settings.here / argument.partition("(")[0]).resolve()
            if path in databases_here:
                raise ConfigError(f"{name}: {path} is the database of the service: name another file")
            place = str(path)
        other = taken.setdefault((provider, place), name)
        if other != name and provider in _BOUND_TO_A_PLACE:
            raise ConfigError(f"{name} and {other} are one and the same place: remove one of them")
