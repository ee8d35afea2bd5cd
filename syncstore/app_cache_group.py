"""The composition of what the storage is cached in: a group of memcacheds, or one server of another provider."""

from __future__ import annotations

import hashlib
import socket

from syncstore import app_memcached
from syncstore.app_memcached import Ways, open_group_of
from syncstore.app_providers import STORAGE, Services, make_cache, parse_storage_cache
from syncstore.cache.api import BackendError, Provider
from syncstore.cache.memcached.claims import Claims
from syncstore.cache.memcached.group import Description, Group
from syncstore.cache.memcached.records import HomeRecords
from syncstore.cache.memcached.sole import SoleServer
from syncstore.clock import Clock
from syncstore.errors import ConfigError
from syncstore.settings import Settings
from syncstore.settings.cache_servers import CacheServer


def open_group(settings: Settings, below: HomeRecords, clock: Clock) -> Group:
    """The group of the settings, as this process sees it; `below` is in the database of the data.

    Raises ConfigError when the provider cannot do what the storage needs, and Unavailable when the database does not
    answer.
    """
    if settings.cache_provider == "memcached":
        return app_memcached.open_group(settings, below, clock)
    installation = below.identity()

    def ways(server: CacheServer) -> Ways:
        services = Services(settings, clock, None)
        try:
            values = _open(settings, f"values:{installation}", services, clock)
            _check(values)
            marks = _open(settings, f"marks:{installation}", services, clock)
        except BaseException:
            services.close()
            raise
        return Ways(SoleServer(values, str(server.address), clock, services.close), marks)

    scope = settings.cache_key_prefix
    return open_group_of(settings, settings.cache_servers, ways, below, clock, scope=scope)


def check_provider(settings: Settings, clock: Clock) -> None:
    """Find what is wrong with the provider of the settings, without a connection. Raises ConfigError."""
    if settings.cache_provider in ("none", "memory", "memcached"):
        return
    services = Services(settings, clock, None)
    try:
        provider = _open(settings, "check", services, clock)
        _check(provider)
        provider.close()
    finally:
        services.close()


def _open(settings: Settings, purpose: str, services: Services, clock: Clock) -> Provider:
    """The provider with keys that no other installation and no other purpose has."""
    drawn = hashlib.sha256(f"{settings.cache_key_prefix}:{purpose}".encode()).hexdigest()
    described = parse_storage_cache(settings)
    try:
        return make_cache(
            settings, described, f"{STORAGE}{drawn[:11]}", services, clock, strict=True
        ).provider
    except ConfigError as error:
        raise ConfigError(f"cache.provider: {error}") from error


def _check(provider: Provider) -> None:
    try:
        features = provider.features
    except BackendError as error:
        raise ConfigError(f"cache.provider: what {provider.name} can do is not known: {error}") from error
    if not features.cas:
        raise ConfigError(
            f"cache.provider: {provider.name} has no compare-and-set, without which old values would be served: "
            "choose another provider"
        )
    if not features.shared:
        raise ConfigError(
            f"cache.provider: {provider.name} is not shared by processes, which would not know of each other's writes: "
            "choose another provider"
        )


def describe(settings: Settings, group: Group) -> Description:
    """What another process must have, too, to share the group. Raises Unavailable."""
    if settings.cache_provider == "memcached":
        return app_memcached.describe(settings, group)
    ((_, member),) = group.members.items()
    # What only one machine's processes share is another cache on each machine.
    where = "" if member.cache.features.shared_hosts else f"@{socket.gethostname()}"
    server = f"{member.cache.address}{where}*1"
    lease = settings.memcached_state_lease
    return Description(group.servers.records.identity(), lease, settings.cache_key_prefix, (server,))


def open_claims(settings: Settings, group: Group, clock: Clock) -> Claims:
    """This host's claims on the group's servers. Raises Unavailable."""
    return Claims(str(describe(settings, group)), socket.gethostname(), clock)
