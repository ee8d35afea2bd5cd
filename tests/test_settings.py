"""Each rule of parsing, the three sources and which wins, and what is refused, with what words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from syncstore.errors import ConfigError
from syncstore.settings import Address, Settings, parse_address, read_settings, schema
from syncstore.settings.cache_servers import CacheServer, StateStore
from syncstore.settings.values import CacheAddress
from syncstore.zookeeper.ensemble import Digest, Ensemble, Host

HERE = Path("/nowhere/at/all")


def read(ini: Mapping[str, str], environment: Mapping[str, str] | None = None, here: Path = HERE) -> Settings:
    return read_settings(ini, environment or {}, here)


def refusal(ini: Mapping[str, str], environment: Mapping[str, str] | None = None, here: Path = HERE) -> str:
    with pytest.raises(ConfigError) as caught:
        read(ini, environment, here)
    return str(caught.value)


def one_server(address: CacheAddress) -> tuple[CacheServer, ...]:
    return (CacheServer(str(address), address),)


# -- defaults

# Those whose text is not what `str` gives.
WRITTEN = {"memcached.servers": "127.0.0.1:11211", "memcached.state": "sql"}


def test_nothing_at_all_gives_the_defaults() -> None:
    settings = read({})
    assert settings.sqlalchemy_url == "sqlite:////nowhere/at/all/var/sync.db"
    assert settings.bind == Address("127.0.0.1", 8000)
    assert settings.quota is None
    assert settings.limits.max_post_records == 100


def test_every_default_obeys_its_own_rule() -> None:
    for one in schema():
        default = one.metadata["default"]
        if one.metadata["key"] in WRITTEN:
            text = WRITTEN[one.metadata["key"]]
        elif isinstance(default, bool):
            text = str(default).lower()
        elif default is None or (isinstance(default, tuple | Mapping) and not default):
            text = ""
        else:
            text = str(default)
        assert one.metadata["parse"](text) == default, one.metadata["key"]


def test_every_key_has_a_sentence_and_none_is_there_twice() -> None:
    keys = [one.metadata["key"] for one in schema()]
    assert len(set(keys)) == len(keys)
    assert all(one.metadata["doc"].endswith(".") for one in schema())


# -- parsing

RIGHT: list[tuple[str, str, Any]] = [
    ("purge.step", " 17 ", 17),
    ("lock.timeout", "0", 0.0),
    ("lock.timeout", "2.5", 2.5),
    ("cache.provider", "Memory", "memory"),
    ("cache.provider", "shmcb:/Run/x(8192)  item_size=100", "shmcb:/Run/x(8192) item_size=100"),
    ("cache.key_prefix", "node-1.sync", "node-1.sync"),
    ("memcached.servers", "cache.example.com:11212", one_server(CacheAddress("cache.example.com", 11212))),
    ("memcached.servers", "[::1]:11211", one_server(CacheAddress("::1", 11211))),
    ("memcached.servers", "/run/memcached.sock", one_server(CacheAddress("/run/memcached.sock", 0))),
    ("memcached.servers", f"/run/{'a' * 102}", one_server(CacheAddress(f"/run/{'a' * 102}", 0))),
    ("memcached.servers", "cache.example.:11211", one_server(CacheAddress("cache.example.", 11211))),
    ("memcached.servers", "cache_1.example:11211", one_server(CacheAddress("cache_1.example", 11211))),
    (
        "memcached.servers",
        f"{'a' * 63}.example:11211",
        one_server(CacheAddress(f"{'a' * 63}.example", 11211)),
    ),
    ("memcached.servers", "[fe80::1%eth0.7]:11211", one_server(CacheAddress("fe80::1%eth0.7", 11211))),
    (
        "memcached.servers",
        "10.0.0.1:11211 weight=2 name=a\n  10.0.0.2:11211 timeout=0.3 retry_interval=-1 name=b\n\n /run/c.sock",
        (
            CacheServer("a", CacheAddress("10.0.0.1", 11211), weight=2),
            CacheServer("b", CacheAddress("10.0.0.2", 11211), timeout=0.3, retry_interval=-1.0),
            CacheServer("/run/c.sock", CacheAddress("/run/c.sock", 0)),
        ),
    ),
    (
        "memcached.servers",
        "one:1 two:2",
        (CacheServer("one:1", CacheAddress("one", 1)), CacheServer("two:2", CacheAddress("two", 2))),
    ),
    (
        "memcached.servers",
        "/run/a=b.sock name=x=y",
        (CacheServer("x=y", CacheAddress("/run/a=b.sock", 0)),),
    ),
    (
        "memcached.servers",
        f"one:1 name={'n' * 100} weight=1000 weight=7 retry_interval=0.1",
        (CacheServer("n" * 100, CacheAddress("one", 1), weight=7, retry_interval=0.1),),
    ),
    ("memcached.retry_interval", "-1", -1.0),
    ("memcached.retry_interval", " 2.5 ", 2.5),
    ("memcached.failure_limit", "1", 1),
    ("memcached.hash_strategy", "Standard", "standard"),
    ("memcached.rejoin", "manual", "manual"),
    ("memcached.state", " sql ", StateStore("sql")),
    ("memcached.state", "memory", StateStore("memory")),
    ("memcached.state", "file:/run/sync/mc.state", StateStore("file", "/run/sync/mc.state")),
    ("memcached.state", "file:/run/my sync:1", StateStore("file", "/run/my sync:1")),
    ("memcached.on_failure", "", ""),
    ("memcached.on_failure", " my.module_2:on_failure ", "my.module_2:on_failure"),
    ("lock.backend", "memcached", "memcached"),
    ("lock.ttl", "300", 300.0),
    ("lock.shared_reads", "false", False),
    ("lock.memcached.server", "", None),
    ("lock.memcached.server", "10.0.0.5:11211", CacheAddress("10.0.0.5", 11211)),
    ("lock.memcached.server", "/run/locks.sock", CacheAddress("/run/locks.sock", 0)),
    ("auth.check_node", "No", False),
    ("auth.check_node", "on", True),
    ("auth.check_node", "1", True),
    ("migrate", " AUTO ", "auto"),
    ("quota.bytes", "OFF", None),
    ("quota.bytes", "", None),
    ("quota.bytes", "1000", 1000),
    ("backoff.probability", "0.25", 0.25),
    ("public_url", "https://sync.example.com/ff/", "https://sync.example.com/ff"),
    ("public_url", "", ""),
    ("trusted_proxies", "127.0.0.1 10.0.0.0/8\n fd00::/8", ("127.0.0.1", "10.0.0.0/8", "fd00::/8")),
    ("auth.secrets", "old\n  new", ("old", "new")),
    ("serve.bind", "[::1]:80", Address("::1", 80)),
    ("serve.bind", "8000", Address("127.0.0.1", 8000)),
    ("limits.collections", "", {}),
    ("limits.collections", '{"tabs": {"max_post_bytes": 2621441}}', {"tabs": {"max_post_bytes": 2621441}}),
]


@pytest.mark.parametrize(("key", "text", "value"), RIGHT)
def test_it_reads(key: str, text: str, value: Any) -> None:
    (one,) = (one for one in schema() if one.metadata["key"] == key)
    assert getattr(read({key: text}), one.name) == value


def test_a_list_of_collections_names_each_once() -> None:
    settings = read({"cache.provider": "memcached", "cache.cached_only": "tabs clients\n tabs"})
    assert settings.cached_only == ("tabs", "clients")


WRONG = [
    ("purge.step", "0", "from 1 to 100000"),
    ("purge.step", "100001", "from 1 to 100000"),
    ("purge.step", "-1", "a whole number"),
    ("purge.step", "1.5", "a whole number"),
    ("purge.step", "1_000", "a whole number"),
    ("purge.step", "\u0663", "a whole number"),
    ("purge.step", "", "a whole number"),
    ("purge.step", "9" * 5000, "a whole number"),
    ("lock.timeout", "61", "from 0 to 60"),
    ("lock.timeout", "nan", "a number of seconds"),
    ("lock.timeout", "1e1", "a number of seconds"),
    ("lock.timeout", "five", "a number of seconds"),
    ("backoff.probability", "1.1", "from 0 to 1"),
    ("auth.check_node", "maybe", "true or false"),
    ("auth.check_node", "", "true or false"),
    ("migrate", "always", "one of auto, check"),
    ("cache.provider", "redis", "none, memory or memcached, or another provider with its argument"),
    ("cache.provider", "memory:x", "memory alone"),
    ("cache.provider", "http://127.0.0.1/map", "must not be http"),
    ("cache.cached_only", "tabs /etc", "is no collection name"),
    ("cache.write_through", "a:b", "is no collection name"),
    ("cache.key_prefix", "", "1 to 32 letters"),
    ("cache.key_prefix", "a b", "1 to 32 letters"),
    ("cache.key_prefix", "x" * 33, "1 to 32 letters"),
    ("memcached.servers", "", "one HOST:PORT"),
    ("memcached.servers", "localhost", "HOST:PORT"),
    ("memcached.servers", "localhost:0", "HOST:PORT"),
    ("memcached.servers", "cache..example:11211", "1 to 63 characters between its dots"),
    ("memcached.servers", ".example:11211", "1 to 63 characters between its dots"),
    ("memcached.servers", f"{'a' * 64}.example:11211", "1 to 63 characters between its dots"),
    ("memcached.servers", "\u00e4" * 60 + ".example:11211", "1 to 63 characters between its dots"),
    ("memcached.servers", "ho/st:11211", "no slash"),
    ("memcached.servers", "a[b:11211", "no slash"),
    ("memcached.servers", "[zz::1]:11211", "an IPv6 address between the brackets"),
    ("memcached.servers", "[fe80::1%a@b]:11211", "an IPv6 address between the brackets"),
    ("memcached.servers", f"/run/{'a' * 103}", "at most 107 bytes: move the socket"),
    ("memcached.servers", "/run/" + "\u00e4" * 52, "at most 107 bytes: move the socket"),
    ("memcached.servers", "/run/a\0b", "a path without a zero byte"),
    (
        "memcached.servers",
        "name=a one:1",
        "must begin with HOST:PORT or the path of a unix socket, not with 'name=a'",
    ),
    ("memcached.servers", "one:1 name=", "names of 1 to 100 characters"),
    ("memcached.servers", f"one:1 name={'n' * 101}", "names of 1 to 100 characters"),
    ("memcached.servers", "one:1 name=\u00e4", "names of 1 to 100 characters"),
    ("memcached.servers", "one:1 weight=0", "weights from 1 to 1000, and one:1 has '0'"),
    ("memcached.servers", "one:1 weight=1001", "weights from 1 to 1000"),
    ("memcached.servers", "one:1 weight=1.5", "weights from 1 to 1000"),
    ("memcached.servers", "one:1 name=a weight=", "weights from 1 to 1000, and a has ''"),
    ("memcached.servers", "one:1 timeout=0", "timeouts from 0.01 to 60 seconds, and one:1 has '0'"),
    ("memcached.servers", "one:1 timeout=61", "timeouts from 0.01 to 60"),
    ("memcached.servers", "one:1 timeout=soon", "timeouts from 0.01 to 60"),
    ("memcached.servers", "one:1 retry_interval=0", "from 0.1 to 86400, or -1"),
    ("memcached.servers", "one:1 retry_interval=-2", "from 0.1 to 86400, or -1"),
    (
        "memcached.servers",
        "one:1 wieght=2",
        "an option 'wieght' for one:1: a server has name, weight, timeout and",
    ),
    ("memcached.servers", "one:1 Weight=2", "an option 'Weight'"),
    ("memcached.servers", "one:1 weight = 2", "HOST:PORT"),
    ("memcached.servers", "one:1 two:2 one:1 name=c", "two servers with the address one:1"),
    ("memcached.servers", "one:1 name=a two:2 name=a", "two servers with the name a"),
    ("memcached.servers", "one:1 two:2 name=one:1", "two servers with the name one:1"),
    ("memcached.retry_interval", "0", "from 0.1 to 86400, or -1 for never"),
    ("memcached.retry_interval", "-1.0", "from 0.1 to 86400, or -1 for never"),
    ("memcached.retry_interval", "nan", "from 0.1 to 86400, or -1 for never"),
    ("memcached.failure_limit", "0", "from 1 to 1000"),
    ("memcached.max_failover_attempts", "0", "from 1 to 100"),
    ("memcached.hash_strategy", "ketama", "one of consistent, standard"),
    ("memcached.rejoin", "never", "one of epoch, flush, manual"),
    ("memcached.state", "", "must be sql, memory, file:"),
    ("memcached.state", "sql:", "must be sql, memory, file:"),
    ("memcached.state", "memory:/x", "must be sql, memory, file:"),
    ("memcached.state", "file:", "with an absolute path"),
    ("memcached.state", "file:mc.state", "with an absolute path"),
    ("memcached.state", "file:/a\0b", "with an absolute path"),
    ("memcached.state", "zookeeper", "with a cluster's name, a slash and a path"),
    ("memcached.state", "zookeeper:main", "with a cluster's name, a slash and a path"),
    ("memcached.state", "zookeeper:main/", "with a cluster's name, a slash and a path"),
    ("memcached.state", "zookeeper:/states", "with a cluster's name, a slash and a path"),
    ("memcached.state", "zookeeper:main/a//b", "with a cluster's name, a slash and a path"),
    ("memcached.state", "zookeeper:main/a b", "with a cluster's name, a slash and a path"),
    ("memcached.state", "zookeeper:main/a/..", "with a cluster's name, a slash and a path"),
    ("memcached.state", "zookeeper:main/./a", "with a cluster's name, a slash and a path"),
    ("memcached.state", "etcd:/x", "must be sql, memory, file:"),
    ("memcached.on_failure", "module", "module:function"),
    ("memcached.on_failure", ":function", "module:function"),
    ("memcached.on_failure", "module:", "module:function"),
    ("memcached.on_failure", "my module:function", "module:function"),
    ("memcached.on_failure", "a.:function", "module:function"),
    ("memcached.on_failure", "module:function()", "module:function"),
    ("memcached.timeout", "0", "from 0.01 to 60"),
    ("memcached.pool_size", "0", "from 1 to 1024"),
    ("lock.backend", "memory", "one of sql, memcached, zookeeper"),
    ("lock.ttl", "2", "from 3 to 3600"),
    ("lock.ttl", "3601", "from 3 to 3600"),
    ("lock.memcached.server", "10.0.0.5", "HOST:PORT"),
    ("lock.memcached.server", "locks..example:11211", "1 to 63 characters between its dots"),
    ("quota.bytes", "0", "a whole number from 1"),
    ("quota.bytes", "5 GB", "a whole number from 1"),
    ("public_url", "sync.example.com", "http:// or https://"),
    ("public_url", "https://sync.example.com/?a", "nothing more"),
    ("trusted_proxies", "proxy.example.com", "does not appear to be an IPv4 or IPv6 network"),
    ("serve.bind", "127.0.0.1", "HOST:PORT"),
    ("serve.bind", "127.0.0.1:0", "HOST:PORT"),
    ("serve.bind", "127.0.0.1:65536", "HOST:PORT"),
    ("serve.bind", "::1:80", "HOST:PORT"),
    ("serve.bind", "a b:80", "HOST:PORT"),
    ("limits.collections", "{", "JSON object of collections"),
    ("limits.collections", "[]", "JSON object of collections"),
    ("limits.collections", '{"no spaces": {"max_post_bytes": 1}}', "no collection name"),
    ("limits.collections", '{"tabs": {}}', "some of max_record_payload_bytes"),
    ("limits.collections", '{"tabs": {"max_post_records": 1}}', "some of max_record_payload_bytes"),
    ("limits.collections", '{"tabs": {"max_post_bytes": 0}}', "above 0"),
    ("limits.collections", '{"tabs": {"max_post_bytes": true}}', "above 0"),
    ("auth.token_cache_size", "1", "a whole number from 2"),
    ("alert", "We move.\nPlease wait.", "one line of printable ASCII"),
    ("alert", "We move\u2026", "one line of printable ASCII"),
    ("purge.grace", str(2**53), "a whole number from 0 to"),
    ("batch.lifetime", str(2**53), "a whole number from 1 to"),
]


@pytest.mark.parametrize(("key", "text", "words"), WRONG)
def test_it_refuses_and_names_the_key(key: str, text: str, words: str) -> None:
    message = refusal({key: text})
    assert message.startswith(key)
    assert words in message
    assert "\n" not in message
    assert len(message) < 400


def test_an_address_prints_as_it_is_written() -> None:
    assert str(parse_address("[fe80::1]:443")) == "[fe80::1]:443"
    assert str(parse_address("localhost:443")) == "localhost:443"


@pytest.mark.parametrize(
    ("bound", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("*:8000", "http://127.0.0.1:8000"),
        ("[::]:8000", "http://[::1]:8000"),
        ("10.1.2.3:80", "http://10.1.2.3:80"),
    ],
)
def test_an_address_that_stands_for_all_is_reached_on_the_loopback(bound: str, url: str) -> None:
    assert parse_address(bound).url == url


# -- sources


def test_the_environment_wins_over_the_ini() -> None:
    settings = read({"lock.timeout": "1", "purge.step": "7"}, {"SYNCSTORE_LOCK__TIMEOUT": "2"})
    assert (settings.lock_timeout, settings.purge_step) == (2.0, 7)


def test_other_variables_of_the_environment_are_none_of_its_business() -> None:
    assert read({}, {"PATH": "/bin", "SYNCSTORE_CONFIG": "x.ini", "LOCK__TIMEOUT": "9"}).lock_timeout == 5.0


def test_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    assert refusal({"lock.timeuot": "1"}) == "unknown setting 'lock.timeuot': is lock.timeout meant?"
    assert refusal({"colour": "red"}) == "unknown setting 'colour'"


def test_an_unknown_variable_is_refused_too() -> None:
    message = refusal({}, {"SYNCSTORE_LOCK_TIMEOUT": "1"})
    assert "SYNCSTORE_LOCK_TIMEOUT" in message
    assert "is lock.timeout meant?" in message


# -- secrets in files of their own


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.write_text("old\nnew\n", encoding="utf-8")
    return path


def test_a_secret_may_stand_in_a_file_beside_the_ini(secret_file: Path) -> None:
    assert read({"auth.secrets_file": "secrets"}, here=secret_file.parent).secrets == ("old", "new")


def test_a_variable_may_name_such_a_file(secret_file: Path) -> None:
    settings = read({}, {"SYNCSTORE_AUTH__SECRETS_FILE": str(secret_file)})
    assert settings.secrets == ("old", "new")


def test_the_database_url_is_a_secret_as_well(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mysql://sync:pw@db/sync\n", encoding="utf-8")
    assert read({"sqlalchemy.url_file": "url"}, here=tmp_path).sqlalchemy_url == "mysql://sync:pw@db/sync"


@pytest.mark.parametrize("ini", [{"auth.secrets": "a"}, {"auth.secrets_file": "no such file"}])
def test_a_secret_of_the_environment_replaces_the_ini_s_in_either_form(
    ini: dict[str, str], secret_file: Path
) -> None:
    assert read(ini, {"SYNCSTORE_AUTH__SECRETS": "b"}).secrets == ("b",)
    assert read(ini, {"SYNCSTORE_AUTH__SECRETS_FILE": str(secret_file)}).secrets == ("old", "new")


@pytest.mark.parametrize("source", ["ini", "environment"])
def test_both_forms_in_one_source_are_refused(source: str, secret_file: Path) -> None:
    ini = {"auth.secrets": "a", "auth.secrets_file": str(secret_file)}
    environment = {"SYNCSTORE_AUTH__SECRETS": "a", "SYNCSTORE_AUTH__SECRETS_FILE": str(secret_file)}
    message = refusal(ini) if source == "ini" else refusal({}, environment)
    assert message == "auth.secrets and auth.secrets_file are both set: keep one"


def test_only_secrets_come_from_files() -> None:
    assert "unknown setting 'lock.timeout_file'" in refusal({"lock.timeout_file": "x"})


def test_a_secret_file_that_is_missing_or_empty_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"geheim\xff")
    for name, words in (
        ("missing", "No such file"),
        ("empty", "is empty"),
        ("binary", "is not UTF-8 text"),
        (".", "directory"),
    ):
        message = refusal({"auth.secrets_file": name}, here=tmp_path)
        assert words in message
        assert "geheim" not in message


def test_no_message_holds_a_secret() -> None:
    secret = "hunter2"
    messages = [
        refusal({"auth.secrets": secret, "auth.master_secrets": secret}),
        refusal({"auth.master_secrets": secret}),
        refusal({"auth.secrets": secret, "lock.timeout": "x"}),
        refusal({"sqlalchemy.url": f"mysql://sync:{secret}@db/sync", "purge.step": "x"}),
    ]
    assert not any(secret in message for message in messages)


# -- combinations

REFUSED_TOGETHER: list[tuple[dict[str, str], str]] = [
    (
        {"cache.provider": "memory", "cache.cached_only": "tabs meta", "cache.write_through": "crypto meta"},
        "meta is in cache.cached_only and in cache.write_through",
    ),
    ({"cache.cached_only": "tabs"}, "cache.cached_only needs a cache"),
    ({"cache.write_through": "meta"}, "cache.write_through needs a cache"),
    ({"cache.provider": "memory", "serve.workers": "2"}, "cache.provider = memory is for one process"),
    (
        {"cache.provider": "memcached", "memcached.state_lease": "5", "memcached.retry_interval": "4"},
        "memcached.retry_interval must not be less than memcached.state_lease",
    ),
    (
        {
            "cache.provider": "memcached",
            "memcached.state_lease": "5",
            "memcached.servers": "one:1 retry_interval=20 two:2 retry_interval=4",
        },
        "memcached.retry_interval must not be less than memcached.state_lease",
    ),
    (
        {"cache.provider": "shmcb:/x(8192)", "memcached.rejoin": "flush"},
        "memcached.rejoin = flush needs a memcached, and cache.provider is shmcb",
    ),
    (
        {"cache.provider": "memcached", "memcached.rejoin": "flush", "cache.cached_only": "tabs"},
        "memcached.rejoin = flush would destroy the collections of cache.cached_only: set epoch, or manual",
    ),
    (
        {"cache.provider": "memcached", "memcached.state": "zookeeper:main/states"},
        "memcached.state: zk.clusters does not name 'main'",
    ),
    (
        {"cache.provider": "memcached", "memcached.state": "memory", "serve.workers": "2"},
        "memcached.state = memory is for one process, and serve.workers (or --workers) is 2",
    ),
    (
        {"auth.secrets": "a", "auth.master_secrets": "bc", "public_url": "http://x"},
        "only one of auth.secrets",
    ),
    ({"auth.secrets": "a", "auth.node_secrets": "f", "public_url": "http://x"}, "only one of auth.secrets"),
    ({"auth.master_secrets": "abc"}, "auth.master_secrets needs public_url or auth.nodes"),
    ({"auth.node_secrets": "file"}, "auth.node_secrets needs public_url or auth.nodes"),
    ({"limits.max_request_bytes": "2621440"}, "must be greater than max_post_bytes"),
    ({"limits.max_record_payload_bytes": "2621441"}, "must not be less than max_record_payload_bytes"),
    ({"limits.max_total_records": "99"}, "less than those of a POST"),
    ({"limits.max_total_bytes": "2621439"}, "less than those of a POST"),
    ({"limits.collections": '{"tabs": {"max_post_bytes": 3000000}}'}, "limits.collections: tabs"),
    (
        {"lock.timeout": "10.5", "database.answer_timeout": "10"},
        "lock.timeout (10.5) must not be greater than database.answer_timeout (10)",
    ),
    (
        {"lock.backend": "memcached", "lock.ttl": "39.5"},
        "lock.ttl (39.5) must be at least 10 more than database.answer_timeout (30)",
    ),
]


@pytest.mark.parametrize(("ini", "words"), REFUSED_TOGETHER)
def test_it_refuses_what_cannot_be_right_together(ini: dict[str, str], words: str) -> None:
    assert words in refusal(ini)


# -- ZooKeeper clusters, whose keys have a name in them

ZK = {"zk.clusters": "main test_2", "zk.main.hosts": "zk1:2181,zk2", "zk.test_2.hosts": "localhost:2182"}


def test_clusters_have_what_their_keys_say_and_else_the_defaults() -> None:
    settings = read(
        ZK
        | {
            "zk.main.session_timeout_ms": "6000",
            "zk.main.op_timeout_ms": "1500",
            "zk.main.connect_timeout_ms": "500",
            "zk.main.chroot": "/sync",
            "zk.main.auth": "digest:me:hunter2",
        }
    )
    main, test = settings.zookeeper
    assert main == Ensemble(
        "main", (Host("zk1"), Host("zk2")), 6.0, 1.5, 0.5, "/sync", Digest("me", "hunter2")
    )
    assert test == Ensemble("test_2", (Host("localhost", 2182),), 4.0, 2.0, 3.0, "", None)
    assert "hunter2" not in repr(settings)
    assert read({}).zookeeper == ()


def test_the_environment_and_files_name_clusters_too(tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("digest:me:hunter2\n", encoding="utf-8")
    environment = {"SYNCSTORE_ZK__MAIN__HOSTS": "other", "SYNCSTORE_ZK__TEST_2__AUTH_FILE": "auth"}
    main, test = read(ZK | {"zk.test_2.auth": "digest:x:y"}, environment, here=tmp_path).zookeeper
    assert main.hosts == (Host("other"),)
    assert test.auth == Digest("me", "hunter2")


@pytest.mark.parametrize(
    ("ini", "words"),
    [
        ({"zk.clusters": "main main"}, "zk.clusters = main main: 'main' is there twice"),
        ({"zk.clusters": "Main"}, "zk.clusters = Main: 'Main' is no name"),
        ({"zk.clusters": "main other"}, "zk.other.hosts must name at least one server"),
        ({"zk.main.hosts": ""}, "zk.main.hosts must name at least one server"),
        ({"zk.main.hosts": "zk1:0"}, "zk.main.hosts = zk1:0: 'zk1:0' has no port from 1 to 65535"),
        ({"zk.main.hosts": "zk1:65536"}, "zk.main.hosts = zk1:65536: 'zk1:65536' has no port"),
        ({"zk.main.session_timeout_ms": "4s"}, "zk.main.session_timeout_ms = 4s: must be a whole number"),
        ({"zk.main.op_timeout_ms": "0"}, "zk.main.op_timeout_ms = 0: must be a whole number"),
        ({"zk.main.connect_timeout_ms": "1.5"}, "zk.main.connect_timeout_ms = 1.5: must be a whole number"),
        ({"zk.main.chroot": "sync"}, "zk.main.chroot = sync: must be a path that begins with /"),
        ({"zk.main.auth": "hunter2"}, "zk.main.auth: must be digest:USER:SECRET"),
        ({"lock.zookeeper.cluster": "other"}, "lock.zookeeper.cluster: zk.clusters does not name 'other'"),
        (
            {"lock.backend": "zookeeper"},
            "lock.backend = zookeeper needs lock.zookeeper.cluster, one of the names in zk.clusters",
        ),
        (
            {"lock.backend": "zookeeper", "lock.zookeeper.cluster": "Main"},
            "lock.zookeeper.cluster: zk.clusters does not name 'Main'",
        ),
        ({"zk.main.hots": "zk1"}, "unknown setting 'zk.main.hots': is zk.main.hosts meant?"),
        ({"zk.other.chroot": "/x"}, "zk.other.chroot: zk.clusters does not name 'other'"),
        ({"zk..hosts": "zk1"}, "unknown setting 'zk..hosts'"),
        ({"zk.<name>.hosts": "zk1"}, "zk.<name>.hosts: zk.clusters does not name '<name>'"),
        ({"zk.main.hosts_file": "x"}, "unknown setting 'zk.main.hosts_file'"),
    ],
)
def test_it_refuses_clusters_and_names_the_key(ini: dict[str, str], words: str) -> None:
    message = refusal({"zk.clusters": "main", "zk.main.hosts": "zk1"} | ini)
    assert words in message
    assert "hunter2" not in message


def test_the_states_of_memcacheds_may_be_in_one_of_the_clusters() -> None:
    settings = read(ZK | {"cache.provider": "memcached", "memcached.state": "zookeeper:test_2/sync/mc.state"})
    assert settings.memcached_state == StateStore("zookeeper", "/sync/mc.state", "test_2")


def test_one_that_never_comes_back_by_itself_has_no_interval_to_compare() -> None:
    settings = read({"cache.provider": "memcached", "memcached.servers": "one:1 retry_interval=-1"})
    assert settings.memcached_servers[0].retry_interval == -1


def test_the_rules_of_memcacheds_matter_only_where_there_are_any() -> None:
    assert read({"memcached.state_lease": "5", "memcached.retry_interval": "4"}).memcached_retry_interval == 4
    assert read({"memcached.state": "memory", "serve.workers": "2"}).workers == 2


def test_the_length_of_a_lease_matters_only_where_there_are_leases() -> None:
    assert read({"lock.ttl": "5"}).lock_ttl == 5.0
    assert read({"lock.backend": "memcached", "lock.ttl": "40"}).lock_ttl == 40.0


def test_the_limits_of_a_collection_replace_the_general_ones() -> None:
    text = '{"big": {"max_record_payload_bytes": 3000000, "max_post_bytes": 3000000, "max_request_bytes": 3000001}}'
    limits = read({"limits.collections": text}).limits
    assert limits.of("big").max_post_bytes == 3_000_000
    assert limits.of("big").max_post_records == limits.max_post_records
    assert limits.of("small").max_post_bytes == limits.max_post_bytes


# -- what stays out of sight, and what is nobody's


def test_secrets_are_not_in_the_text_form() -> None:
    ini = {"auth.secrets": "Avalon", "sqlalchemy.url": "mysql://me:Bretagne@127.0.0.1/sync"}
    text = repr(read({**ini, "tokenserver.metrics_secret": "Camelot"}))
    assert "Settings(" in text
    assert not [word for word in ("Avalon", "Bretagne", "Camelot") if word in text]


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_HTTP",
        "PORT",
        "PORT_8000_TCP",
        "PORT_8000_TCP_ADDR",
        "CONFIG",
    ],
)
def test_what_kubernetes_puts_into_a_container_is_no_setting(name: str) -> None:
    assert read({}, {f"SYNCSTORE_{name}": "tcp://10.0.0.1:8000"}) == read({})


def test_a_key_that_only_begins_like_one_of_those_is_refused() -> None:
    assert "SYNCSTORE_PORTS" in refusal({}, {"SYNCSTORE_PORTS": "8000"})
