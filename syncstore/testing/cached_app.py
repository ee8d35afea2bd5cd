"""Settings of an app with memcached, in each of the ways in which collections and locks can be kept."""

from __future__ import annotations

import itertools

from syncstore.testing.api_suite.fixtures import SECRET

_ALL = "col other elsewhere big small c none meta crypto clients tabs bookmarks history forms c9 long empty emptied"
LIVING = {
    "cached only": {"cache.cached_only": _ALL},
    "written through": {"cache.write_through": _ALL},
    "uncached": {},
}
"""Where all collections of the API suite live."""

GREAT_ITEMS = ("-I", "16m")
"""Options of a memcached that takes the suite's greatest uploads as one item."""

_numbers = itertools.count()


def zookeeper_settings(hosts: str) -> dict[str, str]:
    """The part of an app's settings that puts its locks into ZooKeeper, below a path that no other app has."""
    return {"lock.backend": "zookeeper", "lock.zookeeper.cluster": "main", **cluster_settings(hosts)}


def cluster_settings(hosts: str) -> dict[str, str]:
    """The part that names a ZooKeeper cluster, `main`, below a path that no other app has."""
    return {
        "zk.clusters": "main",
        "zk.main.hosts": hosts,
        "zk.main.chroot": f"/app{next(_numbers)}",
    }


def cached_settings(database_url: str, memcached: str, kind: str, locks: str) -> dict[str, str]:
    """An app's settings, with keys in memcached that no other app of this process has."""
    return {
        "sqlalchemy.url": database_url,
        "auth.secrets": SECRET,
        "migrate": "auto",
        "cache.provider": "memcached",
        "memcached.servers": memcached,
        "cache.key_prefix": f"app{next(_numbers)}",
        "lock.backend": locks,
        **LIVING[kind],
    }
