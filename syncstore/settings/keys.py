"""All settings together: the keys of each section, what follows from several, and what cannot be right together."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from syncstore.errors import ConfigError
from syncstore.limits import Limits
from syncstore.settings import mounts
from syncstore.settings.cache_servers import (
    CacheServer,
)
from syncstore.settings.sections.asking import AskingKeys
from syncstore.settings.sections.cache import CacheKeys
from syncstore.settings.sections.database import DatabaseKeys
from syncstore.settings.sections.limits import LimitsKeys
from syncstore.settings.sections.locks import LocksKeys
from syncstore.settings.sections.serving import ServingKeys
from syncstore.settings.sections.small_caches import SmallCachesKeys
from syncstore.settings.sections.token_server import TokenServerKeys
from syncstore.settings.sections.zookeeper import ZooKeeperKeys
from syncstore.settings.values import CacheAddress
from syncstore.zookeeper import ensemble


@dataclass(frozen=True, kw_only=True)
class Settings(
    ServingKeys,
    ZooKeeperKeys,
    LocksKeys,
    LimitsKeys,
    TokenServerKeys,
    AskingKeys,
    SmallCachesKeys,
    CacheKeys,
    DatabaseKeys,
):
    """All settings, parsed. `here` is the folder that relative defaults start from.

    Fields are collected from the last base to the first, and so documented from the database to serving.
    """

    here: Path = field(default=Path(), metadata={})

    def __post_init__(self) -> None:
        """Fill in what depends on other keys, and refuse what cannot be right together."""
        if not self.sqlalchemy_url:
            object.__setattr__(self, "sqlalchemy_url", f"sqlite:///{self.here.resolve()}/var/sync.db")
        if sum(map(bool, (self.secrets, self.master_secrets, self.node_secrets))) > 1:
            raise ConfigError(
                "only one of auth.secrets, auth.master_secrets and auth.node_secrets can be set"
            )
        if self.node_secrets and not (self.public_url or self.nodes):
            raise ConfigError("auth.node_secrets needs public_url or auth.nodes, to know which node this is")
        if self.master_secrets and not (self.public_url or self.nodes):
            raise ConfigError(
                "auth.master_secrets needs public_url or auth.nodes, to know which node this is"
            )
        if self.account_events and not (self.events_client_id and self.events_issuer):
            raise ConfigError(
                "tokenserver.events needs tokenserver.events_client_id and tokenserver.events_issuer, "
                "or anybody's reports would be believed"
            )
        if self.tokenserver and not self.fxa_email_domain:
            raise ConfigError("tokenserver.fxa_email_domain must not be empty")
        if self.lock_timeout > self.answer_timeout:
            raise ConfigError(
                f"lock.timeout ({self.lock_timeout:g}) must not be greater than database.answer_timeout "
                f"({self.answer_timeout:g}), or writers who wait for each other would pass for an outage"
            )
        if self.lock_backend == "memcached" and self.lock_ttl < self.answer_timeout + 10:
            raise ConfigError(
                f"lock.ttl ({self.lock_ttl:g}) must be at least 10 more than database.answer_timeout "
                f"({self.answer_timeout:g}), or a writer would lose its lock while it waits for the database"
            )
        if self.lock_backend == "zookeeper" and not self.lock_zookeeper_cluster:
            raise ConfigError(
                "lock.backend = zookeeper needs lock.zookeeper.cluster, one of the names in zk.clusters"
            )
        if self.lock_zookeeper_cluster and self.lock_zookeeper_cluster not in self.zk_clusters:
            raise ConfigError(
                f"lock.zookeeper.cluster: zk.clusters does not name {self.lock_zookeeper_cluster!r}"
            )
        both = set(self.cached_only) & set(self.write_through)
        if both:
            raise ConfigError(
                f"{min(both)} is in cache.cached_only and in cache.write_through: it can be only one of them"
            )
        for key, names in (
            ("cache.cached_only", self.cached_only),
            ("cache.write_through", self.write_through),
        ):
            if names and self.cache_provider == "none":
                raise ConfigError(f"{key} needs a cache: set cache.provider, or empty the list")
        if self.cache_sample and self.cache_provider == "none":
            raise ConfigError("cache.sample needs a cache: set cache.provider, or leave it at 0")
        if self.cache_provider == "memory" and self.workers > 1:
            raise ConfigError(
                f"cache.provider = memory is for one process, and serve.workers (or --workers) is {self.workers}: "
                "set that to 1, or cache.provider = memcached, or none"
            )
        if self.cache_provider not in ("none", "memory"):
            self._check_memcached()
        self._check_shmap()
        for one in schema():
            before, named, after = one.metadata["key"].partition("<name>")
            for name in getattr(self, one.name) if named and before == "zk." else ():
                if name not in self.zk_clusters:
                    raise ConfigError(f"{before}{name}{after}: zk.clusters does not name {name!r}")
        for name in self.zk_clusters:
            if not self.zk_hosts.get(name):
                raise ConfigError(f"zk.{name}.hosts must name at least one server, as HOST:PORT")
        self.limits.check()

    def _check_memcached(self) -> None:
        intervals = [self.memcached_retry_interval, *(one.retry_interval for one in self.memcached_servers)]
        if any(one is not None and 0 <= one < self.memcached_state_lease for one in intervals):
            raise ConfigError("memcached.retry_interval must not be less than memcached.state_lease")
        if self.memcached_rejoin == "flush" and self.cache_provider != "memcached":
            raise ConfigError(
                f"memcached.rejoin = flush needs a memcached, and cache.provider is {self.cache_provider}: "
                "set epoch, or manual"
            )
        if self.memcached_rejoin == "flush" and self.cached_only:
            raise ConfigError(
                "memcached.rejoin = flush would destroy the collections of cache.cached_only: set epoch, or manual"
            )
        state = self.memcached_state
        if state.kind == "zookeeper" and state.cluster not in self.zk_clusters:
            raise ConfigError(f"memcached.state: zk.clusters does not name {state.cluster!r}")
        if state.kind == "memory" and self.workers > 1:
            raise ConfigError(
                f"memcached.state = memory is for one process, and serve.workers (or --workers) is {self.workers}"
            )

    def _check_shmap(self) -> None:
        for name in self.caches:
            if not mounts.CACHE_NAME.fullmatch(name):
                raise ConfigError(
                    f"socache.{name}: a cache's name must be 1 to 16 small letters, digits, dashes or underscores"
                )
        if self.caches and "socache-" in self.cache_key_prefix:
            raise ConfigError(
                "cache.key_prefix must not have socache- in it: such are the keys of socache.<name>"
            )
        prefix = unquote(urlsplit(self.public_url).path)
        for path, name in self.shmap_mounts:
            if name not in self.caches:
                raise ConfigError(f"shmap.mounts: there is no socache.{name}")
            if prefix and (f"{path}/".startswith(f"{prefix}/") or f"{prefix}/".startswith(f"{path}/")):
                raise ConfigError(f"shmap.mounts: {path} and the path of public_url hide each other")
        if self.shmap_mounts and self.shmap_permission == "shmap" and not self.shmap_secret:
            raise ConfigError(
                "shmap.mounts needs shmap.secret, or shmap.secret_file, for who may use it; or write "
                "shmap.permission = public, if everybody may"
            )
        if self.shmap_secret and self.shmap_permission == "public":
            raise ConfigError(
                "shmap.secret protects nothing with shmap.permission = public: remove one of them"
            )

    @property
    def cache_provider(self) -> str:
        """The name of the cache's provider, or `none`."""
        return self.cache_described.split(" ")[0].partition(":")[0]

    @property
    def cache_servers(self) -> tuple[CacheServer, ...]:
        """The memcacheds; where something else is the cache, that."""
        if self.cache_provider == "memcached":
            return self.memcached_servers
        return (CacheServer(self.cache_provider, CacheAddress(self.cache_described.split(" ")[0], 0)),)

    @property
    def zookeeper(self) -> tuple[ensemble.Ensemble, ...]:
        """The ZooKeeper clusters that `zk.clusters` names."""
        return tuple(
            ensemble.Ensemble(
                name,
                self.zk_hosts[name],
                self.zk_session_timeout_ms.get(name, ensemble.DEFAULT_SESSION_TIMEOUT_MS) / 1000,
                self.zk_op_timeout_ms.get(name, ensemble.DEFAULT_OP_TIMEOUT_MS) / 1000,
                self.zk_connect_timeout_ms.get(name, ensemble.DEFAULT_CONNECT_TIMEOUT_MS) / 1000,
                self.zk_chroot.get(name, ""),
                self.zk_auth.get(name),
            )
            for name in self.zk_clusters
        )

    @property
    def limits(self) -> Limits:
        """The limits of requests, with their overrides."""
        return Limits(
            max_request_bytes=self.max_request_bytes,
            max_record_payload_bytes=self.max_record_payload_bytes,
            max_post_records=self.max_post_records,
            max_post_bytes=self.max_post_bytes,
            max_total_records=self.max_total_records,
            max_total_bytes=self.max_total_bytes,
            collections=self.limits_of_collections,
        )


def schema() -> list[Field[Any]]:
    """The fields that are settings, in the order of the documentation."""
    return [one for one in fields(Settings) if "key" in one.metadata]
