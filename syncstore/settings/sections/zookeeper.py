"""The keys of ZooKeeper clusters, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syncstore.settings import values
from syncstore.settings.setting import named_setting, setting
from syncstore.zookeeper import ensemble


@dataclass(frozen=True, kw_only=True)
class ZooKeeperKeys:
    """The keys of ZooKeeper clusters, by name."""

    zk_clusters: tuple[str, ...] = setting(
        "zk.clusters",
        ensemble.parse_names,
        (),
        "The names by which other settings know ZooKeeper clusters.",
    )
    zk_hosts: Mapping[str, tuple[ensemble.Host, ...]] = named_setting(
        "zk.<name>.hosts",
        ensemble.parse_hosts,
        (),
        "The servers of the cluster, `HOST:PORT,HOST:PORT`.",
        shown="must be set",
    )
    zk_session_timeout_ms: Mapping[str, int] = named_setting(
        "zk.<name>.session_timeout_ms",
        values.number(1, 3_600_000),
        ensemble.DEFAULT_SESSION_TIMEOUT_MS,
        "Milliseconds after which ZooKeeper takes a silent process for dead; its servers have bounds of their own.",
    )
    zk_op_timeout_ms: Mapping[str, int] = named_setting(
        "zk.<name>.op_timeout_ms",
        values.number(1, 3_600_000),
        ensemble.DEFAULT_OP_TIMEOUT_MS,
        "Milliseconds to wait for an answer.",
    )
    zk_connect_timeout_ms: Mapping[str, int] = named_setting(
        "zk.<name>.connect_timeout_ms",
        values.number(1, 3_600_000),
        ensemble.DEFAULT_CONNECT_TIMEOUT_MS,
        "Milliseconds to wait for a connection to one of its servers.",
    )
    zk_chroot: Mapping[str, str] = named_setting(
        "zk.<name>.chroot",
        ensemble.parse_chroot,
        "",
        "The path below which everything of ours is kept, such as `/sync`; it is made when it is missing.",
    )
    zk_auth: Mapping[str, ensemble.Digest | None] = named_setting(
        "zk.<name>.auth",
        ensemble.parse_auth,
        None,
        "Who we are, `digest:USER:SECRET`; nobody else may then read or change what we create.",
        secret=True,
    )
