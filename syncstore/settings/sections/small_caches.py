"""The keys of small-object caches and their mounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syncstore.settings import mounts, values
from syncstore.settings.setting import named_setting, setting


@dataclass(frozen=True, kw_only=True)
class SmallCachesKeys:
    """The keys of small-object caches and their mounts."""

    caches: Mapping[str, str] = named_setting(
        "socache.<name>",
        values.text,
        "",
        "A small-object cache, `PROVIDER:ARGUMENT OPTION=VALUE ...`, as in `shmcb:/run/sync/local(1048576)`; "
        "small-caches.md has the providers.",
        secret=True,
    )
    shmap_mounts: tuple[mounts.Mounted, ...] = setting(
        "shmap.mounts",
        mounts.mounts,
        (),
        "Which caches are reached over HTTP: a path and the name of a `socache.<name>` on each line; the longest path "
        "wins.",
    )
    shmap_permission: str = setting(
        "shmap.permission",
        values.one_of("shmap", "public"),
        "shmap",
        "Who may use them: `shmap` for whoever knows a secret of `shmap.secret`, `public` for everybody.",
    )
    shmap_secret: tuple[str, ...] = setting(
        "shmap.secret",
        mounts.secrets,
        (),
        "The secrets, separated by spaces, any of which is sent as `Authorization: Bearer SECRET`.",
        secret=True,
    )
    shmap_key: str = setting(
        "shmap.key",
        values.one_of("path", "suffix"),
        "path",
        "What of a URL is the key: its whole `path`, or the `suffix` after the mount, with its slash.",
    )
    shmap_default_expiry: float = setting(
        "shmap.default_expiry",
        values.seconds(0, 10**9),
        0.0,
        "Seconds for which a value is kept that came without a time; 0 keeps it.",
    )
    shmap_max_body: int = setting(
        "shmap.max_body",
        values.number(1),
        1_048_576,
        "Bytes of a value over HTTP, where its cache does not have a lower limit.",
    )
    shmap_timeout: float = setting(
        "shmap.timeout",
        values.seconds(0.05, 60),
        2.0,
        "Seconds that a request over HTTP waits for its cache before it answers 503.",
    )
    shmap_list: bool = setting(
        "shmap.list",
        values.flag,
        False,
        "Whether a mount tells its keys, where its cache can list them.",
    )
