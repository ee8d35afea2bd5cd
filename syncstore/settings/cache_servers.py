"""What the storage is cached in, by the settings: a provider, memcacheds with options, and where their states are."""

from __future__ import annotations

import re
from typing import NamedTuple

from syncstore.settings.values import CacheAddress, cache_address, decimal, is_digits

MAX_WEIGHT = 1000
_NAME = re.compile(r"[!-~]{1,100}", re.ASCII)
_NODE = r"(?!\.{1,2}(?:/|$))[\w.-]+"  # ZooKeeper has no nodes of the names . and ..
_NODES = re.compile(rf"{_NODE}(?:/{_NODE})*", re.ASCII)
_OPTIONS = "name, weight, timeout and retry_interval"


def cache_provider(value: str) -> str:
    """`none`, `memory`, `memcached`, or `PROVIDER:ARGUMENT` with options, in one line. Raises ValueError."""
    words = value.split() or [""]
    name, colon, argument = words[0].partition(":")
    name = name.lower()
    if name in ("none", "memory", "memcached") and (colon or len(words) > 1):
        raise ValueError(f"must be {name} alone: its settings have keys of their own")
    if name not in ("none", "memory", "memcached") and not colon:
        raise ValueError(
            "must be none, memory or memcached, or another provider with its argument after a colon, such as "
            "zookeeper:main/sync"
        )
    if name == "http":
        raise ValueError("must not be http: what another node can do is not known when this one starts")
    return " ".join([f"{name}{colon}{argument}", *words[1:]])


class CacheServer(NamedTuple):
    """One memcached: keys are placed by its `name`, its share is its `weight`.

    `timeout` and `retry_interval`, in seconds, are None where those of all servers are meant.
    """

    name: str
    address: CacheAddress
    weight: int = 1
    timeout: float | None = None
    retry_interval: float | None = None


def cache_servers(value: str) -> tuple[CacheServer, ...]:
    """`ADDRESS [name=N] [weight=N] [timeout=S] [retry_interval=S]`, once or more. Raises ValueError."""
    servers: list[CacheServer] = []
    for word in value.split():
        option, equals, text = word.partition("=")
        if not equals or "/" in option or ":" in option:
            address = cache_address(word)
            servers.append(CacheServer(str(address), address))
        elif not servers:
            raise ValueError(f"must begin with HOST:PORT or the path of a unix socket, not with {word!r}")
        else:
            servers[-1] = _with(servers[-1], option, text)
    if not servers:
        raise ValueError("must have at least one HOST:PORT, or one path of a unix socket")
    for several, what in (
        ([server.name for server in servers], "name"),
        ([str(server.address) for server in servers], "address"),
    ):
        for one in several:
            if several.count(one) > 1:
                raise ValueError(f"must not have two servers with the {what} {one}")
    return tuple(servers)


def _with(server: CacheServer, option: str, text: str) -> CacheServer:
    match option:
        case "name":
            if not _NAME.fullmatch(text):
                raise ValueError("must have names of 1 to 100 characters without spaces")
            return server._replace(name=text)
        case "weight":
            if not is_digits(text) or not 1 <= int(text) <= MAX_WEIGHT:
                raise ValueError(f"must have weights from 1 to {MAX_WEIGHT}, and {server.name} has {text!r}")
            return server._replace(weight=int(text))
        case "timeout":
            seconds = decimal(text)
            if not 0.01 <= seconds <= 60:
                raise ValueError(
                    f"must have timeouts from 0.01 to 60 seconds, and {server.name} has {text!r}"
                )
            return server._replace(timeout=seconds)
        case "retry_interval":
            return server._replace(retry_interval=retry_interval(text))
    raise ValueError(f"has an option {option!r} for {server.name}: a server has {_OPTIONS}")


def retry_interval(value: str) -> float:
    """Seconds from 0.1 to 86400, or -1 for never. Raises ValueError."""
    if value.strip() == "-1":
        return -1.0
    number = decimal(value)
    if not 0.1 <= number <= 86400:
        raise ValueError("must be a number of seconds from 0.1 to 86400, or -1 for never by itself")
    return number


class StateStore(NamedTuple):
    """Where the states of memcacheds are shared: the `kind` is sql, zookeeper, file or memory; with the `path` of a
    file or a node, and the name of a ZooKeeper `cluster`."""

    kind: str
    path: str = ""
    cluster: str = ""


def state_store(value: str) -> StateStore:
    """`sql`, `memory`, `file:/PATH` or `zookeeper:CLUSTER/PATH`. Raises ValueError."""
    kind, colon, rest = value.strip().partition(":")
    if kind in ("sql", "memory") and not colon:
        return StateStore(kind)
    if kind == "file" and rest.startswith("/") and "\0" not in rest:
        return StateStore(kind, rest)
    cluster, slash, path = rest.partition("/")
    if kind == "zookeeper" and slash and cluster and _NODES.fullmatch(path):
        return StateStore(kind, f"/{path}", cluster)
    raise ValueError(
        "must be sql, memory, file: with an absolute path, or zookeeper: with a cluster's name, a slash and a path"
    )
