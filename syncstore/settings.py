"""The one schema of settings: every key with its type, default and meaning.

Three sources feed it, the later ones winning: the defaults here, the section `[app:main]` of the ini file, and
the environment (`SYNCSTORE_` and the key in capitals, each dot as two underscores: `SYNCSTORE_LOCK__TIMEOUT`).
A secret can stand in a file of its own instead: `auth.secrets_file` in the ini, `SYNCSTORE_AUTH__SECRETS_FILE` in
the environment. An unknown key, a value out of range or a combination that cannot be right stops the start with
one sentence that names the key. `syncstore config check` and the table in docs/settings.md come out of this page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from syncstore.bso import is_collection
from syncstore.errors import ConfigError
from syncstore.limits import Limits

_ENVIRONMENT_PREFIX = "SYNCSTORE_"
# Not settings of the app but of the commands, which read them themselves.
_NOT_SETTINGS = frozenset({"SYNCSTORE_CONFIG"})


class Address(NamedTuple):
    """Where `syncstore serve` listens. `host` is a name or an address, an IPv6 one without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL that reaches it from this machine: an address that stands for all gives the loopback's."""
        here = {"0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - not bound to
        return f"http://{Address(here, self.port)}"


def parse_address(value: str) -> Address:
    """HOST:PORT, [IPv6]:PORT or PORT alone. Raises ValueError."""
    host, _, port = value.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_digits(port) or not 0 < int(port) < 65536 or (":" in host and bare == host) or " " in bare:
        raise ValueError("must be HOST:PORT or [IPv6]:PORT with a port from 1 to 65535")
    return Address(bare or "127.0.0.1", int(port))


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def _text(value: str) -> str:
    return value.strip()


def _header_line(value: str) -> str:
    """Text that an HTTP header can carry; servers drop any other, or the whole answer with it."""
    text = value.strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be one line of printable ASCII")
    return text


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


def _flag(value: str) -> bool:
    word = value.strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0"):
        return False
    raise ValueError("must be true or false")


def _number(lowest: int, highest: int = 2**53) -> Callable[[str], int]:
    def parse(value: str) -> int:
        text = value.strip()
        # int() alone would take "1_000" and digits of any script.
        if not _is_digits(text) or not lowest <= int(text) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse


def _seconds(lowest: float, highest: float = 86400.0) -> Callable[[str], float]:
    def parse(value: str) -> float:
        number = _decimal(value)
        if not lowest <= number <= highest:
            raise ValueError(f"must be a number of seconds from {lowest:g} to {highest:g}")
        return number

    return parse


def _share(value: str) -> float:
    number = _decimal(value)
    if not 0 <= number <= 1:
        raise ValueError("must be a number from 0 to 1")
    return number


def _decimal(value: str) -> float:
    """A finite number in plain digits; NaN, which fails every comparison, for anything else."""
    text = value.strip()
    whole, _, fraction = text.partition(".")
    return float(text) if _is_digits(whole + fraction) else math.nan


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        word = value.strip().lower()
        if word not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return word

    return parse


def _optional_bytes(value: str) -> int | None:
    return None if value.strip().lower() in ("", "off", "none") else _number(1)(value)


def _public_url(value: str) -> str:
    url = value.strip().rstrip("/")
    if url and not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    if "?" in url or "#" in url or " " in url:
        raise ValueError("must be scheme://host[:port][/prefix] and nothing more")
    return url


def _server_url(value: str) -> str:
    url = value.strip().rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url


def _networks(value: str) -> tuple[str, ...]:
    for word in value.split():
        ip_network(word, strict=False)
    return _words(value)


def _overrides(value: str) -> dict[str, dict[str, int]]:
    """The JSON object of per-collection limits, checked as far as this key alone can be."""
    try:
        decoded = json.loads(value) if value.strip() else {}
    except ValueError as error:
        raise ValueError(f"must be a JSON object of collections: {error}") from None
    if not isinstance(decoded, dict):
        raise ValueError("must be a JSON object of collections")  # noqa: TRY004 - the caller turns ValueError into a sentence
    for name, limits in decoded.items():
        if not is_collection(name):
            raise ValueError(f"{name!r} is no collection name")
        if not isinstance(limits, dict) or not limits or set(limits) - set(Limits.OVERRIDABLE):
            raise ValueError(f"{name}: must be an object with some of {', '.join(Limits.OVERRIDABLE)}")
        for key, number in limits.items():
            if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
                raise ValueError(f"{name}.{key} must be a number of bytes above 0")
    return decoded


def setting(
    key: str, parse: Callable[[str], Any], default: Any, doc: str, *, secret: bool = False, shown: str = ""
) -> Any:
    """One key of the schema. `shown` replaces the default in the documentation where it needs words."""
    return field(
        default_factory=lambda: default,  # a factory, since some defaults are mappings
        metadata={
            "key": key,
            "default": default,
            "parse": parse,
            "doc": doc,
            "secret": secret,
            "shown": shown,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, parsed. `here` is the folder that relative defaults start from."""

    here: Path = field(default=Path(), metadata={})

    # -- the database
    sqlalchemy_url: str = setting(
        "sqlalchemy.url",
        _text,
        "",
        shown="`sqlite:///<here>/var/sync.db`",
        secret=True,
        doc="The database: sqlite, mysql, mariadb or postgresql, as SQLAlchemy writes URLs.",
    )
    pool_size: int = setting(
        "sqlalchemy.pool_size", _number(1, 1000), 8, "Database connections that a process keeps open."
    )
    max_overflow: int = setting(
        "sqlalchemy.max_overflow", _number(0, 1000), 16, "Further connections that it may open under load."
    )
    pool_timeout: float = setting(
        "sqlalchemy.pool_timeout",
        _seconds(0, 60),
        5.0,
        "Seconds that a request waits for a free connection before it answers 503.",
    )
    connect_timeout: float = setting(
        "database.connect_timeout", _seconds(1, 60), 5.0, "Seconds to wait for a new database connection."
    )
    answer_timeout: float = setting(
        "database.answer_timeout",
        _seconds(1, 600),
        30.0,
        "Seconds to wait for the answer to one statement before the connection is given up.",
    )
    migrate: str = setting(
        "migrate",
        _one_of("auto", "check"),
        "check",
        "What to do at start with a database of an older schema: `auto` brings it up to date, `check` will not start. "
        "A database without tables is set up by either.",
    )

    # -- who asks
    public_url: str = setting(
        "public_url",
        _public_url,
        "",
        shown="from the request",
        doc="The address that clients use, scheme://host[:port][/prefix]; also this node's name in tokens.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "trusted_proxies",
        _networks,
        (),
        "Addresses or networks of proxies whose X-Forwarded-Proto and X-Forwarded-Host are believed.",
    )
    secrets: tuple[str, ...] = setting(
        "auth.secrets",
        _words,
        (),
        shown="generated once, kept beside the database",
        secret=True,
        doc="The secrets that sign tokens, separated by spaces, newest last: all verify, the last one signs.",
    )
    master_secrets: tuple[str, ...] = setting(
        "auth.master_secrets",
        _words,
        (),
        secret=True,
        doc="Master secrets from which each node's secret is derived, newest last. Instead of `auth.secrets`.",
    )
    node_secrets: str = setting(
        "auth.node_secrets",
        _text,
        "",
        "A file with one line per node, `node,time:secret[,time:secret...]`. Instead of `auth.secrets`.",
    )
    nodes: tuple[str, ...] = setting(
        "auth.nodes", _words, (), "Node names accepted in tokens beside `public_url`."
    )
    check_node: bool = setting(
        "auth.check_node",
        _flag,
        True,
        "Whether a token for another node is refused with 401, as it must be after a move.",
    )
    expired_token_window: int = setting(
        "auth.expired_token_window",
        _number(0),
        7200,
        "Seconds for which info/collections still accepts a token that has expired.",
    )
    verify_payload_hash: bool = setting(
        "auth.verify_payload_hash",
        _flag,
        False,
        "Whether a Hawk payload hash, where a client sends one, must match the body.",
    )
    token_cache_size: int = setting(
        "auth.token_cache_size", _number(2, 10_000_000), 20_000, "Verified tokens that a process remembers."
    )

    # -- the token server
    tokenserver: bool = setting(
        "tokenserver.enabled",
        _flag,
        False,
        "Whether the token server runs in this process: clients are pointed at it, and it at the storage.",
    )
    tokenserver_url: str = setting(
        "tokenserver.sqlalchemy.url",
        _text,
        "",
        shown="that of `sqlalchemy.url`",
        secret=True,
        doc="The token server's database, where it is another one than the storage's.",
    )
    allow_new_users: bool = setting(
        "tokenserver.allow_new_users",
        _flag,
        True,
        "Whether any account may become a user; if not, only those of `syncstore user allow`.",
    )
    token_duration: int = setting(
        "tokenserver.token_duration", _number(1, 31_536_000), 3600, "Seconds for which a token is valid."
    )
    fxa_oauth_server_url: str = setting(
        "tokenserver.fxa_oauth_server_url",
        _server_url,
        "https://oauth.accounts.firefox.com",
        "The account server that proves who somebody is.",
    )
    fxa_email_domain: str = setting(
        "tokenserver.fxa_email_domain",
        _text,
        "api.accounts.firefox.com",
        "The domain behind the account's id in the table of users.",
    )
    fxa_issuer: str = setting(
        "tokenserver.fxa_issuer",
        _text,
        "",
        "The issuer that account tokens must name; empty for any that the keys have signed.",
    )
    fxa_jwks: str = setting(
        "tokenserver.fxa_jwks",
        _text,
        "",
        "The account server's public keys, as a JSON Web Key set or the path of a file with one; "
        "empty to fetch them from the account server.",
    )
    fxa_timeout: float = setting(
        "tokenserver.fxa_timeout", _seconds(0.1, 60), 10.0, "Seconds to wait for the account server."
    )
    metrics_secret: str = setting(
        "tokenserver.metrics_secret",
        _text,
        "",
        shown="derived from the signing secret",
        secret=True,
        doc="The secret that turns account ids into the pseudonyms of logs and tokens.",
    )
    node_capacity: int = setting(
        "tokenserver.node_capacity",
        _number(1, 2**31 - 1),
        100_000,
        "Users that this server takes, where `syncstore node` was never used.",
    )
    account_events: bool = setting(
        "tokenserver.events",
        _flag,
        False,
        "Whether the account server may report deleted accounts and changed passwords at /1.0/webhooks/fxa/events.",
    )
    events_client_id: str = setting(
        "tokenserver.events_client_id", _text, "", "The audience that its reports must name."
    )
    events_issuer: str = setting(
        "tokenserver.events_issuer", _text, "", "The issuer that its reports must name."
    )

    # -- limits
    max_request_bytes: int = setting(
        "limits.max_request_bytes", _number(1), 2_625_536, "Bytes of a request's body."
    )
    max_record_payload_bytes: int = setting(
        "limits.max_record_payload_bytes", _number(1), 2_621_440, "Bytes of one item's payload."
    )
    max_post_records: int = setting("limits.max_post_records", _number(1, 1000), 100, "Items in one POST.")
    max_post_bytes: int = setting(
        "limits.max_post_bytes", _number(1), 2_621_440, "Bytes of payload in one POST."
    )
    max_total_records: int = setting("limits.max_total_records", _number(1), 10_000, "Items in one batch.")
    max_total_bytes: int = setting(
        "limits.max_total_bytes", _number(1), 262_144_000, "Bytes of payload in one batch."
    )
    limits_of_collections: Mapping[str, Mapping[str, int]] = setting(
        "limits.collections",
        _overrides,
        MappingProxyType({}),
        'Other limits for single collections, as JSON: `{"name": {"max_record_payload_bytes": 1000000}}`.',
    )
    quota: int | None = setting(
        "quota.bytes",
        _optional_bytes,
        None,
        "Bytes of payload that a user may store; `off` for no quota.",
        shown="`off`",
    )
    batch_enabled: bool = setting("batch.enabled", _flag, True, "Whether clients may upload in batches.")
    batch_lifetime: int = setting(
        "batch.lifetime", _number(1, 10**9), 7200, "Seconds after which an open batch is forgotten."
    )

    # -- locks and faults
    lock_backend: str = setting(
        "lock.backend", _one_of("sql"), "sql", "Where locks live. `sql`: in the transaction that writes."
    )
    lock_timeout: float = setting(
        "lock.timeout",
        _seconds(0, 60),
        5.0,
        "Seconds that a writer waits for another one before it answers 503; 0 does not wait.",
    )
    retry_after_conflict: int = setting(
        "retry_after.conflict",
        _number(1, 86400),
        10,
        "Seconds of Retry-After when another writer was at work.",
    )
    retry_after_outage: int = setting(
        "retry_after.outage",
        _number(1, 86400),
        60,
        "Seconds of Retry-After when the database does not answer.",
    )
    backoff: int = setting(
        "backoff.seconds",
        _number(0, 86400),
        0,
        "When above 0, X-Weave-Backoff asks clients to come back later than this.",
    )
    backoff_probability: float = setting(
        "backoff.probability",
        _share,
        1.0,
        "The share of answers that carry X-Weave-Backoff, from 0 to 1.",
    )

    # -- what else the web answers
    cors_max_age: int = setting(
        "cors.max_age", _number(1), 1_728_000, "Seconds for which a browser may keep a CORS preflight."
    )
    alert: str = setting(
        "alert", _header_line, "", "Text of X-Weave-Alert, shown to users by their clients; empty for none."
    )
    block_old_ios: bool = setting(
        "block_old_ios",
        _flag,
        False,
        "Whether Firefox for iOS before version 20, which crashes on some answers, is kept out with 503.",
    )
    version_file: str = setting(
        "version_file", _text, "", "A JSON file that /__version__ answers; empty for a 404."
    )

    # -- purge
    purge_interval: float = setting(
        "purge.interval",
        _seconds(0, 604800),
        0.0,
        "Seconds between purges inside the serving process; 0 leaves it to `syncstore purge`.",
    )
    purge_grace: int = setting(
        "purge.grace",
        _number(0, 10**9),
        86400,
        "Seconds for which an expired item or batch is kept before it is purged.",
    )
    purge_step: int = setting(
        "purge.step", _number(1, 100_000), 1000, "Rows or users that one step of a purge looks at."
    )

    # -- syncstore serve
    bind: Address = setting(  # noqa: RUF009 - `setting` makes a field, and an Address is immutable
        "serve.bind",
        parse_address,
        Address("127.0.0.1", 8000),
        "HOST:PORT that `syncstore serve` listens on.",
        shown="`127.0.0.1:8000`",
    )
    workers: int = setting(
        "serve.workers", _number(1, 1024), 1, "Processes of `syncstore serve`: one per core."
    )
    threads: int = setting(
        "serve.threads",
        _number(1, 256),
        4,
        "Threads in each process, which overlap their waits for the database.",
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
        self.limits.check()

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


def read_settings(ini: Mapping[str, str], environment: Mapping[str, str], here: Path) -> Settings:
    """The settings of an ini section and an environment. Raises ConfigError naming the first wrong key."""
    known = {one.metadata["key"]: one for one in schema()}
    secret_files = {f"{key}_file": key for key, one in known.items() if one.metadata["secret"]}
    from_environment = _from_environment(environment, {*known, *secret_files})
    # A secret from the environment replaces one from the ini, in whichever form either is given.
    replaced = {secret_files.get(key, f"{key}_file") for key in from_environment}
    texts = {key: text for key, text in ini.items() if key not in replaced} | from_environment
    values: dict[str, Any] = {"here": here}
    for key, text in texts.items():
        one = known.get(secret_files.get(key, key))
        if one is None:
            raise ConfigError(f"unknown setting {key!r}{_suggestion(key, known)}")
        if key in secret_files:
            if one.metadata["key"] in texts:
                raise ConfigError(f"{one.metadata['key']} and {key} are both set: keep one")
            text = _read_secret_file(key, here / text.strip())
        try:
            values[one.name] = one.metadata["parse"](text)
        except ValueError as error:
            shown = "" if one.metadata["secret"] else f" = {' '.join(text.split())[:80]}"
            raise ConfigError(f"{key}{shown}: {error}") from error
    return Settings(**values)


def _from_environment(environment: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    texts = {}
    for name, value in environment.items():
        if name.startswith(_ENVIRONMENT_PREFIX) and name not in _NOT_SETTINGS:
            key = name[len(_ENVIRONMENT_PREFIX) :].lower().replace("__", ".")
            if key not in known:
                raise ConfigError(
                    f"the environment variable {name} stands for the unknown setting {key!r}"
                    f"{_suggestion(key, known)}"
                )
            texts[key] = value
    return texts


def _suggestion(key: str, known: Collection[str]) -> str:
    near = get_close_matches(key, known, n=1, cutoff=0.7)
    return f": is {near[0]} meant?" if near else ""


def _read_secret_file(key: str, path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{key}: {path} is not UTF-8 text") from None  # the error would quote the secret
    if not secret:
        raise ConfigError(f"{key}: {path} is empty")
    return secret
