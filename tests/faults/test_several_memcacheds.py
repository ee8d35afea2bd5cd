"""Several memcacheds, of which some are dead, frozen, or out of one server's reach: nobody reads the past, what is in
SQL goes on, and what lives in one cache alone waits there for its return.

The long forms are soaks.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from syncstore.app import make_app
from syncstore.bso import Change
from syncstore.cache.memcached.records import Standing, standing
from syncstore.cache.memcached.ring import Placed, Ring
from syncstore.clock import SystemClock
from syncstore.errors import ConfigError
from syncstore.testing.api_suite.fixtures import SECRET, serving
from syncstore.testing.cache_load import CacheLoad
from syncstore.testing.cache_stand import CacheStand, in_time, visitor
from syncstore.testing.client import SyncClient
from syncstore.testing.memcached_pools import PoolStand
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST
from syncstore.testing.record_stores import open_sql_records
from syncstore.testing.sql_store import open_sql_store
from syncstore.testing.transports import InProcess
from syncstore.testing.waiting import await_that
from syncstore.testing.zookeeper_servers import ZooKeeperServer

DATABASE = "postgresql"
NAMES = ("a", "b", "c")
LEASE = 0.3
TIMEOUT = 0.25
ORDINARY = ("log", "meta")
FAILOVER = pytest.mark.parametrize(
    "failover", ["false", pytest.param("true", marks=pytest.mark.soak)], ids=["alone", "with stand-ins"]
)

Open = Callable[..., Callable[[int], SyncClient]]


def soak(*values: object) -> Any:
    """The long form of a check."""
    return pytest.param(*values, marks=[pytest.mark.soak, pytest.mark.timeout(300)], id="long")


@pytest.fixture(scope="module")
def _memcacheds() -> Iterator[PoolStand]:
    stand = started(lambda: PoolStand(NAMES))
    yield stand
    stand.close()


@pytest.fixture
def memcacheds(_memcacheds: PoolStand) -> PoolStand:
    """Three, alive, awake and empty when the test begins."""
    return _memcacheds.start()


@pytest.fixture
def settings(one_database_url: str, memcacheds: PoolStand) -> dict[str, str]:
    """Those of an app over them, with keys that no other has."""
    servers = " ".join(f"{HOST}:{server.port} name={name}" for name, server in memcacheds.servers.items())
    return {
        "sqlalchemy.url": one_database_url,
        "auth.secrets": SECRET,
        "migrate": "auto",
        "cache.provider": "memcached",
        "cache.key_prefix": f"t{random.randrange(10**9)}",
        "cache.cached_only": "tabs",
        "cache.write_through": "meta",
        "memcached.servers": servers,
        "memcached.timeout": str(TIMEOUT),
        "memcached.connect_timeout": str(TIMEOUT),
        "memcached.state_lease": str(LEASE),
        "memcached.retry_interval": str(LEASE),
    }


@pytest.fixture
def open_app(settings: dict[str, str]) -> Iterator[Open]:
    """Opens apps with more settings, closed at the end of the test: each gives clients of users."""
    with ExitStack() as apps:

        def open_one(more: Mapping[str, str] | None = None) -> Callable[[int], SyncClient]:
            transport = InProcess(apps.enter_context(serving({**settings, **(more or {})})))
            return lambda uid: SyncClient(uid, SECRET, transport)

        yield open_one


def users_of(name: str, count: int, names: Sequence[str] = NAMES) -> list[int]:
    """So many users, whom nobody else has, and whose home is the memcached of this name."""
    ring = Ring([Placed(name) for name in names])
    users: set[int] = set()
    while len(users) < count:
        uid = random.randrange(1, 2**31)
        if ring.find(b"%d" % uid) == name:
            users.add(uid)
    return sorted(users)


# -- out of reach for one server only (5.4.3)


@pytest.mark.parametrize("state", ["sql", "zookeeper"])
@pytest.mark.parametrize("seconds", [pytest.param(0.5, id="short"), soak(10.0)])
def test_nobody_reads_the_past_when_one_server_alone_cannot_reach_a_memcached(
    one_database_url: str, tmp_path: Path, request: pytest.FixtureRequest, state: str, seconds: float
) -> None:
    """Writes of the one that is cut off are seen by the other, which still reaches the memcached, at once."""
    more = {}
    if state == "zookeeper":
        zookeeper: ZooKeeperServer = request.getfixturevalue("zookeeper_server")
        more = {
            "memcached.state": "zookeeper:main/states",
            "zk.clusters": "main",
            "zk.main.hosts": zookeeper.hosts,
            "zk.main.chroot": f"/several{random.randrange(10**9)}",
        }
    stand = CacheStand(one_database_url, servers=2, workers=1, memcacheds=3, more=more)
    uids = [users_of(name, 1, stand.names)[0] for name in stand.names]
    with stand, CacheLoad(stand, tmp_path) as load:
        load.run(seconds)
        write_in_turns(stand, uids, ("log", "meta", "tabs"))
        for memcached in range(3):
            with load.disturb.cut_off(0, memcached):
                write_in_turns(stand, uids, ORDINARY)
                load.run(seconds)
            write_in_turns(stand, uids, ("log", "meta", "tabs"))
        load.run(seconds)

        assert load.problems() == []
        assert load.disturb.hits["get_hits"], "the cache is not in use"


def write_in_turns(stand: CacheStand, uids: list[int], collections: tuple[str, ...]) -> None:
    """What is written through either of two servers is read through the other at once."""
    for uid in uids:
        with visitor(stand.servers[0], uid) as far, visitor(stand.servers[1], uid) as near:
            for number, (writer, reader) in enumerate([(far, near), (near, far), (far, near)]):
                for name in collections:
                    path = f"/storage/{name}/turns"
                    written = in_time(writer.put, path, {"payload": f"{number}"})
                    read = in_time(reader.get, path)
                    assert (read.json["payload"], read.modified) == (f"{number}", written.modified)
                    assert reader.get("/info/collections").json[name] == written.modified


# -- all are dead (5.4.11)


@FAILOVER
def test_without_any_memcached_all_goes_on_but_what_lives_there_alone(
    open_app: Open, memcacheds: PoolStand, failover: str
) -> None:
    user = open_app({"memcached.allow_failover": failover})
    users = [user(uid) for name in NAMES for uid in users_of(name, 4)]
    for sync in users:
        in_time(sync.put, "/storage/tabs/a", {"payload": "before"})
        put_everywhere(sync, "before")
    for server in memcacheds.servers.values():
        server.kill9()

    for round_ in range(2):
        for sync in users:
            expected = "before" if not round_ else "0"
            for name in ORDINARY:
                assert payloads(sync, name) == [expected]
            assert set(ORDINARY) <= sync.get("/info/collections").json.keys()
            put_everywhere(sync, f"{round_}")
            assert [payloads(sync, name) for name in ORDINARY] == [[f"{round_}"]] * 2
            assert sync.get("/storage/tabs?full=1").status == 503
            assert sync.put("/storage/tabs/b", {"payload": "nowhere"}).status == 503

    for server in memcacheds.servers.values():
        server.start()
    for sync in users:
        lost = in_time(sync.get, "/storage/tabs?full=1")
        assert lost.json == []
        put_everywhere(sync, "after")
        assert [payloads(sync, name) for name in ORDINARY] == [["after"]] * 2


def put_everywhere(sync: SyncClient, payload: str) -> None:
    for name in ORDINARY:
        assert sync.put(f"/storage/{name}/a", {"payload": payload}).status == 200


def payloads(sync: SyncClient, collection: str) -> list[str]:
    reply = sync.get(f"/storage/{collection}?full=1")
    assert reply.status == 200
    return [item["payload"] for item in reply.json]


# -- one is dead (5.4.12)


@FAILOVER
@pytest.mark.parametrize("trouble", ["kill9", "freeze"])
def test_a_thousand_requests_with_one_memcached_away_are_all_answered(
    open_app: Open, memcacheds: PoolStand, failover: str, trouble: str
) -> None:
    """Also while it goes and comes."""
    user = open_app({"memcached.allow_failover": failover})
    users = {uid: user(uid) for name in NAMES for uid in users_of(name, 10)}
    draw, server = random.Random(3), memcacheds.servers["a"]
    written: dict[tuple[int, str], str] = {}
    for number in range(1000):
        if number == 300:
            getattr(server, trouble)()
        if number == 700:
            server.start() if trouble == "kill9" else server.thaw()
        uid, name = draw.choice(list(users)), draw.choice(ORDINARY)
        if draw.random() < 0.4:
            assert users[uid].put(f"/storage/{name}/a", {"payload": f"{number}"}).status == 200
            written[uid, name] = f"{number}"
        else:
            known = written.get((uid, name))
            assert payloads(users[uid], name) == ([] if known is None else [known])
            assert (name in users[uid].get("/info/collections").json) == (known is not None)


# -- what lives in one alone (5.4.13)


@FAILOVER
@pytest.mark.parametrize(("seconds", "count"), [pytest.param(3 * LEASE, 20, id="short"), soak(20.0, 100)])
def test_what_lives_in_a_frozen_memcached_is_all_there_when_it_returns(
    open_app: Open, memcacheds: PoolStand, failover: str, seconds: float, count: int
) -> None:
    user = open_app({"memcached.allow_failover": failover})
    users = [user(uid) for uid in users_of("a", count)]
    others = [user(uid) for name in ("b", "c") for uid in users_of(name, 3)]
    for sync in (*users, *others):
        in_time(sync.put, "/storage/tabs/a", {"payload": f"of {sync.uid}" * 50, "sortindex": 7})
        in_time(sync.post, "/storage/tabs", [{"id": f"b{number}", "payload": "x"} for number in range(3)])
    before = {sync.uid: told(sync) for sync in (*users, *others)}
    server = memcacheds.servers["a"]
    server.freeze()
    end = time.monotonic() + seconds
    refused = 0
    while time.monotonic() < end or not refused:
        for sync in users:
            reply = sync.get("/storage/tabs?full=1")
            assert reply.status == 503 or told(sync) == before[sync.uid]
            refused += reply.status == 503
            assert sync.put("/storage/tabs/late", {"payload": "nowhere"}).status == 503
            assert sync.put("/storage/meta/a", {"payload": "meanwhile"}).status == 200
        for sync in others:
            assert told(sync) == before[sync.uid]
    server.thaw()
    for sync in users:
        in_time(sync.get, "/storage/tabs")
        assert told(sync) == before[sync.uid]
        assert payloads(sync, "meta") == ["meanwhile"]


def told(sync: SyncClient) -> tuple[bytes, str | None]:
    """What a client is told of its tabs, byte for byte."""
    reply = sync.get("/storage/tabs?full=1&sort=index")
    assert reply.status == 200
    return reply.body, reply.get("X-Last-Modified")


def test_a_return_that_would_empty_what_lives_there_alone_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"rejoin = flush would destroy"):
        make_app({**settings, "memcached.rejoin": "flush"})
    with serving({**settings, "memcached.rejoin": "flush", "cache.cached_only": ""}):
        pass


# -- what a failure is (5.4.14)


@FAILOVER
def test_isolated_timeouts_of_reads_are_none_and_one_write_without_a_mark_is(
    open_app: Open, settings: dict[str, str], memcacheds: PoolStand, failover: str
) -> None:
    sync = open_app({"memcached.allow_failover": failover})(users_of("a", 1)[0])
    server = memcacheds.servers["a"]
    with open_sql_records(settings["sqlalchemy.url"]) as records:

        def epoch() -> int:
            return records.read([f"{settings['cache.key_prefix']}@a"])[0].epoch

        await_that(lambda: standing(epoch()) is Standing.UP, what="it is in use")
        put_everywhere(sync, "before")
        assert payloads(sync, "meta") == ["before"]
        before = epoch()
        for _ in range(2):
            server.freeze()
            assert payloads(sync, "meta") == ["before"]
            server.thaw()
            time.sleep(1.1)  # for a second it is left alone
            assert payloads(sync, "meta") == ["before"]
        assert epoch() == before

        server.freeze()
        assert sync.put("/storage/meta/a", {"payload": "after"}).status == 200
        assert standing(epoch()) is not Standing.UP
        (record,) = records.read([f"{settings['cache.key_prefix']}@a"])
        assert record.reason
        assert payloads(sync, "meta") == ["after"]


# -- states that are not shared (5.4.15)


def test_two_apps_with_states_of_their_own_do_not_serve_together(
    open_app: Open, settings: dict[str, str], tmp_path: Path
) -> None:
    one = open_app({"memcached.state": f"file:{tmp_path / 'one'}"})(users_of("a", 1)[0])
    in_time(one.put, "/storage/tabs/a", {"payload": "of the first"})
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"used for this database by servers .* same settings"):
        make_app({**settings, "memcached.state": f"file:{tmp_path / 'other'}"})
    assert time.monotonic() - began < 2 + 2
    assert [item["payload"] for item in one.get("/storage/tabs?full=1").json] == ["of the first"]
    assert one.put("/storage/meta/a", {"payload": "x"}).status == 200
    with serving({**settings, "memcached.state": f"file:{tmp_path / 'one'}"}):
        pass


@pytest.mark.parametrize("lost", [False, True])
def test_when_the_file_of_states_is_lost_no_value_from_before_is_served(
    settings: dict[str, str], tmp_path: Path, lost: bool
) -> None:
    """Somebody has written to SQL meanwhile, past the cache: with the file in its place nobody could know."""
    states = tmp_path / "states"
    of_file = {**settings, "memcached.state": f"file:{states}"}
    uids = [users_of(name, 1)[0] for name in NAMES]
    store = open_sql_store(settings["sqlalchemy.url"], SystemClock())

    def is_cached(sync: SyncClient, uid: int) -> bool:
        """Whether the cache answers, as it does once it has all of the user's times: else SQL would."""
        put_everywhere(sync, "before")
        in_time(sync.get, "/storage/tabs")
        assert payloads(sync, "meta") == ["before"]
        with store.storage.lock_for_write(uid, "meta", ["a"], create=True) as work:
            work.put([Change("a", "after")])
        return payloads(sync, "meta") == ["before"]

    with closing(store.database), serving(of_file) as app:
        for uid in uids:
            sync = SyncClient(uid, SECRET, InProcess(app))
            in_time(sync.put, "/storage/tabs/a", {"payload": "before"})
            await_that(lambda sync=sync, uid=uid: is_cached(sync, uid))  # type: ignore[misc]  # its own user
    if lost:
        states.unlink()
    with serving(of_file) as app:
        for uid in uids:
            sync = SyncClient(uid, SECRET, InProcess(app))
            in_time(sync.get, "/storage/tabs")  # its memcached is in use
            assert payloads(sync, "meta") == ["after" if lost else "before"]
