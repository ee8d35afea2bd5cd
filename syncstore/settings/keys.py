"""Every key with its type, default and meaning. The table in docs/settings.md comes out of this page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from syncstore.errors import ConfigError
from syncstore.limits import Limits
from syncstore.settings import mounts, values
from syncstore.settings.cache_servers import (
    CacheServer,
    StateStore,
    cache_provider,
    cache_servers,
    retry_interval,
    state_store,
)
from syncstore.settings.values import CacheAddress
from syncstore.zookeeper import ensemble


def setting(
    key: str, parse: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False, shown: str = ""
) -> Any:
    """One key of the schema. `shown` replaces the default in the documentation where it needs words."""
    return field(
        default_factory=lambda: default,  # a factory, since some defaults are mappings
        repr=not secret,
        metadata={
            "key": key,
            "default": default,
            "parse": parse,
            "doc": doc,
            "secret": secret,
            "shown": shown,
        },
    )


def named_setting(
    key: str, parse: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False, shown: str = ""
) -> Any:
    """A key that is there once for each name, where it has `<name>`. The value is a mapping by name.

    `default` is for a name whose key is not set; the mapping does not hold it.
    """
    made = setting(key, parse, default, doc, secret=secret, shown=shown)
    return field(default_factory=lambda: MappingProxyType({}), repr=made.repr, metadata=made.metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, parsed. `here` is the folder that relative defaults start from."""

    here: Path = field(default=Path(), metadata={})

    # -- the database
    sqlalchemy_url: str = setting(
        "sqlalchemy.url",
        values.text,
        "",
        shown="`sqlite:///<here>/var/sync.db`",
        secret=True,
        doc="The database: sqlite, mysql, mariadb or postgresql, as SQLAlchemy writes URLs.",
    )
    pool_size: int = setting(
        "sqlalchemy.pool_size", values.number(1, 1000), 8, "Database connections that a process keeps open."
    )
    max_overflow: int = setting(
        "sqlalchemy.max_overflow",
        values.number(0, 1000),
        16,
        "Further connections that it may open under load.",
    )
    pool_timeout: float = setting(
        "sqlalchemy.pool_timeout",
        values.seconds(0, 60),
        5.0,
        "Seconds that a request waits for a free connection before it answers 503.",
    )
    connect_timeout: float = setting(
        "database.connect_timeout",
        values.seconds(1, 60),
        5.0,
        "Seconds to wait for a new database connection.",
    )
    answer_timeout: float = setting(
        "database.answer_timeout",
        values.seconds(1, 600),
        30.0,
        "Seconds to wait for the answer to one statement before the connection is given up.",
    )
    migrate: str = setting(
        "migrate",
        values.one_of("auto", "check"),
        "check",
        "What to do at start with a database of an older schema: `auto` brings it up to date, `check` will not start. "
        "A database without tables is set up by either.",
    )

    # -- the cache
    cache_described: str = setting(
        "cache.provider",
        cache_provider,
        "none",
        "Where times and small collections are cached: `memcached`, or `memory` for a server of one process, or "
        "another provider with its argument and options, such as `zookeeper:<cluster>/<path>`.",
    )
    cached_only: tuple[str, ...] = setting(
        "cache.cached_only",
        values.collections,
        (),
        "Collections that live in the cache alone, such as `tabs`: what the cache loses, clients upload again.",
    )
    write_through: tuple[str, ...] = setting(
        "cache.write_through",
        values.collections,
        (),
        "Collections of which the cache has a copy, such as `meta crypto clients`.",
    )
    cache_key_prefix: str = setting(
        "cache.key_prefix",
        values.key_prefix,
        "sync",
        "What all keys in the cache begin with; a copy of a database that shares a memcached needs another one.",
    )
    cache_sample: float = setting(
        "cache.sample",
        values.share,
        0.0,
        "The share of reads, from 0 to 1, that are compared with SQL to count where the cache was wrong.",
    )
    memcached_servers: tuple[CacheServer, ...] = setting(
        "memcached.servers",
        cache_servers,
        (CacheServer("127.0.0.1:11211", values.CacheAddress("127.0.0.1", 11211)),),
        "The memcacheds, each HOST:PORT or the path of a unix socket, with `name=`, `weight=`, `timeout=` and "
        "`retry_interval=` after it where needed.",
        shown="`127.0.0.1:11211`",
    )
    memcached_connect_timeout: float = setting(
        "memcached.connect_timeout",
        values.seconds(0.01, 60),
        0.25,
        "Seconds to wait for a connection to memcached.",
    )
    memcached_timeout: float = setting(
        "memcached.timeout",
        values.seconds(0.01, 60),
        0.5,
        "Seconds to wait for an answer of memcached before requests go on without it.",
    )
    memcached_pool_size: int = setting(
        "memcached.pool_size",
        values.number(1, 1024),
        16,
        "Connections to memcached that each process keeps at most: one for each of its threads is enough.",
    )
    memcached_state_lease: float = setting(
        "memcached.state_lease",
        values.seconds(0.1, 60),
        1.0,
        "Seconds for which a process may rely on what it last read of memcached's state; also how long writes wait "
        "when memcached fails.",
    )
    memcached_retry_interval: float = setting(
        "memcached.retry_interval",
        retry_interval,
        15.0,
        "Seconds between attempts to use a memcached again that was declared failed; -1 leaves it to "
        "`syncstore cache up`.",
    )
    memcached_failure_limit: int = setting(
        "memcached.failure_limit",
        values.number(1, 1000),
        3,
        "Faults in a row after which a reader declares a memcached failed for all; a writer that cannot tell it of a "
        "write does so at once.",
    )
    memcached_allow_failover: bool = setting(
        "memcached.allow_failover",
        values.flag,
        False,
        "Whether another memcached stands in for one that has failed; if not, its users are served from the database.",
    )
    memcached_max_failover_attempts: int = setting(
        "memcached.max_failover_attempts",
        values.number(1, 100),
        20,
        "How often a stand-in is looked for.",
    )
    memcached_hash_strategy: str = setting(
        "memcached.hash_strategy",
        values.one_of("consistent", "standard"),
        "consistent",
        "How users are placed on memcacheds: `consistent`, or `standard`, which moves most of them when a server is "
        "added.",
    )
    memcached_state: StateStore = setting(  # noqa: RUF009 - as for `bind`
        "memcached.state",
        state_store,
        StateStore("sql"),
        "Where all processes share which memcached has failed: `sql`, `zookeeper:<cluster>/<path>`, `file:<path>` for "
        "one machine, `memory` for one process.",
        shown="`sql`",
    )
    memcached_rejoin: str = setting(
        "memcached.rejoin",
        values.one_of("epoch", "flush", "manual"),
        "epoch",
        "How a memcached comes back: `epoch` gives all its keys new names, `flush` empties it besides, `manual` waits "
        "for `syncstore cache up`.",
    )
    memcached_on_failure: str = setting(
        "memcached.on_failure",
        values.callback,
        "",
        "A function, as `module:name`, that is called with host, port and reason when a memcached is declared failed.",
    )

    # -- small-object caches
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

    # -- who asks
    public_url: str = setting(
        "public_url",
        values.public_url,
        "",
        shown="from the request",
        doc="The address that clients use, scheme://host[:port][/prefix]; also this node's name in tokens.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "trusted_proxies",
        values.networks,
        (),
        "Addresses or networks of proxies whose X-Forwarded-Proto and X-Forwarded-Host are believed.",
    )
    secrets: tuple[str, ...] = setting(
        "auth.secrets",
        values.words,
        (),
        shown="generated once, kept beside the database",
        secret=True,
        doc="The secrets that sign tokens, separated by spaces, newest last: all verify, the last one signs.",
    )
    master_secrets: tuple[str, ...] = setting(
        "auth.master_secrets",
        values.words,
        (),
        secret=True,
        doc="Master secrets from which each node's secret is derived, newest last. Instead of `auth.secrets`.",
    )
    node_secrets: str = setting(
        "auth.node_secrets",
        values.text,
        "",
        "A file with one line per node, `node,time:secret[,time:secret...]`. Instead of `auth.secrets`.",
    )
    nodes: tuple[str, ...] = setting(
        "auth.nodes", values.words, (), "Node names accepted in tokens beside `public_url`."
    )
    check_node: bool = setting(
        "auth.check_node",
        values.flag,
        True,
        "Whether a token for another node is refused with 401, as it must be after a move.",
    )
    expired_token_window: int = setting(
        "auth.expired_token_window",
        values.number(0),
        7200,
        "Seconds for which info/collections still accepts a token that has expired.",
    )
    verify_payload_hash: bool = setting(
        "auth.verify_payload_hash",
        values.flag,
        False,
        "Whether a Hawk payload hash, where a client sends one, must match the body.",
    )
    token_cache_size: int = setting(
        "auth.token_cache_size",
        values.number(2, 10_000_000),
        20_000,
        "Verified tokens that a process remembers.",
    )

    # -- the token server
    tokenserver: bool = setting(
        "tokenserver.enabled",
        values.flag,
        False,
        "Whether the token server runs in this process: clients are pointed at it, and it at the storage.",
    )
    tokenserver_url: str = setting(
        "tokenserver.sqlalchemy.url",
        values.text,
        "",
        shown="that of `sqlalchemy.url`",
        secret=True,
        doc="The token server's database, where it is another one than the storage's.",
    )
    allow_new_users: bool = setting(
        "tokenserver.allow_new_users",
        values.flag,
        True,
        "Whether any account may become a user; if not, only those of `syncstore user allow`.",
    )
    token_duration: int = setting(
        "tokenserver.token_duration",
        values.number(1, 31_536_000),
        3600,
        "Seconds for which a token is valid.",
    )
    fxa_oauth_server_url: str = setting(
        "tokenserver.fxa_oauth_server_url",
        values.server_url,
        "https://oauth.accounts.firefox.com",
        "The account server that proves who somebody is.",
    )
    fxa_email_domain: str = setting(
        "tokenserver.fxa_email_domain",
        values.text,
        "api.accounts.firefox.com",
        "The domain behind the account's id in the table of users.",
    )
    fxa_issuer: str = setting(
        "tokenserver.fxa_issuer",
        values.text,
        "",
        "The issuer that account tokens must name; empty for any that the keys have signed.",
    )
    fxa_jwks: str = setting(
        "tokenserver.fxa_jwks",
        values.text,
        "",
        "The account server's public keys, as a JSON Web Key set or the path of a file with one; "
        "empty to fetch them from the account server.",
    )
    fxa_timeout: float = setting(
        "tokenserver.fxa_timeout", values.seconds(0.1, 60), 10.0, "Seconds to wait for the account server."
    )
    metrics_secret: str = setting(
        "tokenserver.metrics_secret",
        values.text,
        "",
        shown="derived from the signing secret",
        secret=True,
        doc="The secret that turns account ids into the pseudonyms of logs and tokens.",
    )
    node_capacity: int = setting(
        "tokenserver.node_capacity",
        values.number(1, 2**31 - 1),
        100_000,
        "Users that this server takes, where `syncstore node` was never used.",
    )
    account_events: bool = setting(
        "tokenserver.events",
        values.flag,
        False,
        "Whether the account server may report deleted accounts and changed passwords at /1.0/webhooks/fxa/events.",
    )
    events_client_id: str = setting(
        "tokenserver.events_client_id", values.text, "", "The audience that its reports must name."
    )
    events_issuer: str = setting(
        "tokenserver.events_issuer", values.text, "", "The issuer that its reports must name."
    )

    # -- limits
    max_request_bytes: int = setting(
        "limits.max_request_bytes", values.number(1), 2_625_536, "Bytes of a request's body."
    )
    max_record_payload_bytes: int = setting(
        "limits.max_record_payload_bytes", values.number(1), 2_621_440, "Bytes of one item's payload."
    )
    max_post_records: int = setting(
        "limits.max_post_records", values.number(1, 1000), 100, "Items in one POST."
    )
    max_post_bytes: int = setting(
        "limits.max_post_bytes", values.number(1), 2_621_440, "Bytes of payload in one POST."
    )
    max_total_records: int = setting(
        "limits.max_total_records", values.number(1), 10_000, "Items in one batch."
    )
    max_total_bytes: int = setting(
        "limits.max_total_bytes", values.number(1), 262_144_000, "Bytes of payload in one batch."
    )
    limits_of_collections: Mapping[str, Mapping[str, int]] = setting(
        "limits.collections",
        values.overrides,
        MappingProxyType({}),
        'Other limits for single collections, as JSON: `{"name": {"max_record_payload_bytes": 1000000}}`.',
    )
    quota: int | None = setting(
        "quota.bytes",
        values.optional_bytes,
        None,
        "Bytes of payload that a user may store; `off` for no quota.",
        shown="`off`",
    )
    batch_enabled: bool = setting(
        "batch.enabled", values.flag, True, "Whether clients may upload in batches."
    )
    batch_lifetime: int = setting(
        "batch.lifetime", values.number(1, 10**9), 7200, "Seconds after which an open batch is forgotten."
    )

    # -- locks
    lock_backend: str = setting(
        "lock.backend",
        values.one_of("sql", "memcached", "zookeeper"),
        "sql",
        "Where locks live. `sql`: in the transaction that writes. `memcached`: in front of it, as leases. "
        "`zookeeper`: in front of it, as a queue.",
    )
    lock_timeout: float = setting(
        "lock.timeout",
        values.seconds(0, 60),
        5.0,
        "Seconds that a writer waits for another one before it answers 503; 0 does not wait.",
    )
    lock_ttl: float = setting(
        "lock.ttl",
        values.seconds(3, 3600),
        60.0,
        "Seconds after which a lock in memcached ends by itself, should its holder have died.",
    )
    lock_shared_reads: bool = setting(
        "lock.shared_reads",
        values.flag,
        True,
        "Whether readers share a lock in memcached; if not, each has it alone as a writer has.",
    )
    lock_memcached_server: values.CacheAddress | None = setting(  # noqa: RUF009 - as for `bind`
        "lock.memcached.server",
        values.optional_cache_address,
        None,
        "The memcached that keeps the locks, where it is another one than the cache's.",
        shown="that of `memcached.servers`",
    )

    lock_zookeeper_cluster: str = setting(
        "lock.zookeeper.cluster",
        values.text,
        "",
        "The ZooKeeper cluster that keeps the locks, one of `zk.clusters`.",
    )

    # -- ZooKeeper
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

    # -- faults
    retry_after_conflict: int = setting(
        "retry_after.conflict",
        values.number(1, 86400),
        10,
        "Seconds of Retry-After when another writer was at work.",
    )
    retry_after_outage: int = setting(
        "retry_after.outage",
        values.number(1, 86400),
        60,
        "Seconds of Retry-After when the database does not answer.",
    )
    backoff: int = setting(
        "backoff.seconds",
        values.number(0, 86400),
        0,
        "When above 0, X-Weave-Backoff asks clients to come back later than this.",
    )
    backoff_probability: float = setting(
        "backoff.probability",
        values.share,
        1.0,
        "The share of answers that carry X-Weave-Backoff, from 0 to 1.",
    )

    # -- what else the web answers
    cors_max_age: int = setting(
        "cors.max_age", values.number(1), 1_728_000, "Seconds for which a browser may keep a CORS preflight."
    )
    alert: str = setting(
        "alert",
        values.header_line,
        "",
        "Text of X-Weave-Alert, shown to users by their clients; empty for none.",
    )
    block_old_ios: bool = setting(
        "block_old_ios",
        values.flag,
        False,
        "Whether Firefox for iOS before version 20, which crashes on some answers, is kept out with 503.",
    )
    version_file: str = setting(
        "version_file", values.text, "", "A JSON file that /__version__ answers; empty for a 404."
    )

    # -- purge
    purge_interval: float = setting(
        "purge.interval",
        values.seconds(0, 604800),
        0.0,
        "Seconds between purges inside the serving process; 0 leaves it to `syncstore purge`.",
    )
    purge_grace: int = setting(
        "purge.grace",
        values.number(0, 10**9),
        86400,
        "Seconds for which an expired item or batch is kept before it is purged.",
    )
    purge_step: int = setting(
        "purge.step", values.number(1, 100_000), 1000, "Rows or users that one step of a purge looks at."
    )

    # -- syncstore serve
    bind: values.Address = setting(  # noqa: RUF009 - `setting` makes a field, and an values.Address is immutable
        "serve.bind",
        values.parse_address,
        values.Address("127.0.0.1", 8000),
        "HOST:PORT that `syncstore serve` listens on.",
        shown="`127.0.0.1:8000`",
    )
    workers: int = setting(
        "serve.workers", values.number(1, 1024), 1, "Processes of `syncstore serve`: one per core."
    )
    threads: int = setting(
        "serve.threads",
        values.number(0, 256),
        0,
        "Threads in each process, which overlap their waits for the database; 0 chooses 2 for SQLite, which has "
        "few waits to overlap, and 4 for the others.",
    )

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
