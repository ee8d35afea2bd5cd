"""The provider `zookeeper`: a cache in a ZooKeeper cluster, made of `zookeeper:CLUSTER/PATH`."""

from __future__ import annotations

from syncstore.cache.api import Provider
from syncstore.cache.making import Surroundings
from syncstore.cache.zookeeper.places import MAX_VALUE, Places
from syncstore.cache.zookeeper.provider import TIMEOUT, ZooKeeperProvider
from syncstore.errors import ConfigError
from syncstore.settings import values
from syncstore.zookeeper.ensemble import parse_chroot, parse_names


def create(argument: str, surroundings: Surroundings) -> Provider:
    """The cache below PATH in a cluster of the settings (see `syncstore.cache.making.Factory`).

    Options: `timeout` in seconds for each call, `max_value` in bytes, and `reads`, `synced` or `agreed`: the first is
    told by a leader that may have been cut off since, for as long as it does not know.
    """
    options = surroundings.options
    cluster, path = _parse(argument)
    timeout = options.take("timeout", values.seconds(0.05, 60), TIMEOUT)
    max_value = options.take("max_value", values.number(1, MAX_VALUE), MAX_VALUE)
    reads = options.take(
        "reads", values.one_of("synced", "agreed"), "agreed" if surroundings.strict else "synced"
    )
    return ZooKeeperProvider(
        surroundings.cluster(cluster),
        Places(path, surroundings.namespace),
        surroundings.clock,
        timeout=timeout,
        max_value=max_value,
        agreed=reads == "agreed",
    )


def _parse(argument: str) -> tuple[str, str]:
    """The cluster's name and the path. Raises ConfigError."""
    words = f"zookeeper:{argument} must be zookeeper:CLUSTER/PATH"
    cluster, slash, path = argument.partition("/")
    try:
        names = parse_names(cluster)
        parsed = parse_chroot(f"/{path}")
    except ValueError as error:
        raise ConfigError(f"{words}: {error}") from error
    if names != (cluster,) or not slash or parsed != f"/{path}" or path.startswith("/"):
        raise ConfigError(words)
    return cluster, parsed
