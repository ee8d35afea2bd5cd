"""How a cache is made of `zookeeper:CLUSTER/PATH`: it parses, and asks nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from syncstore.cache.api import Provider, TooLarge
from syncstore.cache.making import Options, Surroundings
from syncstore.cache.zookeeper import create
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.zookeeper_servers import ZooKeeperServer
from syncstore.zookeeper.cluster import Cluster
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, Host, parse_hosts

_clusters: list[Clusters] = []


@pytest.fixture(autouse=True)
def _end() -> Iterator[None]:
    yield
    while _clusters:
        _clusters.pop().close()


def surroundings(hosts: tuple[Host, ...] = (), **options: str) -> Surroundings:
    opened = Clusters([Ensemble("main", hosts or (Host(HOST, free_port()),))])
    _clusters.append(opened)

    def clusters(name: str) -> Cluster:
        if name != "main":
            raise ConfigError(f"zk.clusters does not name {name!r}")
        return opened[name]

    def no_memcached(_: str) -> NoReturn:
        raise AssertionError

    return Surroundings(
        "objects", SystemClock(), Path(), Options(options), clusters, no_memcached, "sqlite://"
    )


def made(argument: str, hosts: tuple[Host, ...] = (), **options: str) -> Provider:
    around = surroundings(hosts, **options)
    cache = create(argument, around)
    around.options.refuse_others()
    return cache


@pytest.mark.parametrize("path", ["cache", "sync/cache", "a.b/c_d-e"])
def test_it_is_made_of_a_cluster_and_a_path(path: str) -> None:
    cache = made(f"main/{path}")
    assert cache.name == "zookeeper"
    assert cache.limits.max_value == 1_000_000
    assert cache.features == (True, True, True, True, False, True)


@pytest.mark.parametrize(
    "argument",
    ["", "main", "main/", "/cache", "main//cache", "main/cache/", "main/../cache", "main/./cache", "main/a b",
     "main/a//b", "Main/cache", "main two/cache", "main/\0", "main/zookeeper", "main/ключ", "host:2181/cache"],
)  # fmt: skip
def test_anything_else_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match="CLUSTER/PATH"):
        made(argument)


def test_a_cluster_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="'other'"):
        made("other/cache")


@pytest.mark.parametrize(
    "option",
    [{"max_value": "1000001"}, {"max_value": "0"}, {"timeout": "0"}, {"timeout": "x"}, {"reads": "fast"}],
)
def test_options_are_checked(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        made("main/cache", **option)


def test_options_are_heeded(zookeeper_server: ZooKeeperServer) -> None:
    cache = made(
        "main/cache", parse_hosts(zookeeper_server.hosts), max_value="10", timeout="9", reads="agreed"
    )
    assert cache.limits.max_value == 10
    with pytest.raises(TooLarge):
        cache.store(b"key", b"x" * 11)
    token = cache.store(b"key", b"x" * 10)
    assert cache.retrieve(b"key") == (b"x" * 10, token, 0)
    cache.remove(b"key")


def test_with_no_server_there_it_is_made_at_once() -> None:
    began = time.monotonic()
    cache = made("main/cache")
    assert cache.limits.max_key == 250
    assert time.monotonic() - began < 1
    cache.close()
