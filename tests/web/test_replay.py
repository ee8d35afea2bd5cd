"""A session of two real Firefoxes, replayed against the application over each database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from syncstore.testing.api_suite.fixtures import serving
from syncstore.testing.cached_app import cluster_settings, zookeeper_settings
from syncstore.testing.client import SyncClient
from syncstore.testing.replay import Correspondence, Exchange, Model, read_session, replay
from syncstore.testing.servers import MemcachedServer
from syncstore.testing.transports import InProcess
from syncstore.testing.zookeeper_servers import ZooKeeperServer

SECRET = "a-secret-for-the-replay"
RECORDING = Path(__file__).parent.parent / "data" / "firefox-153-session.jsonl"


@pytest.fixture(scope="module")
def session() -> list[Exchange]:
    return read_session(RECORDING)


_uids = itertools.count(1, 3)
_NAMES = "clients crypto forms history meta bookmarks prefs tabs passwords addons addresses creditcards"
CACHES = {
    "no cache": {},
    "as recommended": {"cache.cached_only": "tabs", "cache.write_through": "meta crypto clients"},
    "all cached only": {"cache.cached_only": _NAMES},
    "all written through": {"cache.write_through": _NAMES, "lock.backend": "memcached"},
    "uncached": {"lock.backend": "memcached"},
    "locks in ZooKeeper": {"cache.cached_only": "tabs", "cache.write_through": "meta crypto clients"},
    "locks in ZooKeeper, no cache": {},
    "a file in memory": {"cache.provider": "shmcb:{folder}/cache(8388608)"},
    "in ZooKeeper": {"cache.provider": "zookeeper:main/cache"},
}


ON_SQLITE = ("a file in memory", "in ZooKeeper")


@pytest.fixture(scope="module", params=CACHES)
def transport(
    request: pytest.FixtureRequest,
    database_url: str,
    memcached_server: MemcachedServer,
    zookeeper_server: ZooKeeperServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[InProcess]:
    if request.param in ON_SQLITE and not database_url.startswith("sqlite"):
        pytest.skip("it has nothing to do with the database")
    settings = {"sqlalchemy.url": database_url, "auth.secrets": SECRET, "migrate": "auto"}
    if "locks in ZooKeeper" in request.param:
        settings |= zookeeper_settings(zookeeper_server.hosts)
    if "cache.provider" in CACHES[request.param]:
        folder = tmp_path_factory.mktemp("cache")
        provider = CACHES[request.param]["cache.provider"].format(folder=folder)
        settings |= {**CACHES["as recommended"], "cache.provider": provider}
        settings |= cluster_settings(zookeeper_server.hosts)
    elif "no cache" not in request.param:
        settings |= {
            "cache.provider": "memcached",
            "memcached.servers": memcached_server.address,
            "cache.key_prefix": f"replay{next(_uids)}",
            **CACHES[request.param],
        }
    with serving(settings) as app:
        yield InProcess(app)


@pytest.fixture
def uid() -> int:
    """Users of a test's own: a replay begins with an empty storage."""
    return next(_uids)


def test_every_answer_is_the_recorded_one(transport: InProcess, session: list[Exchange], uid: int) -> None:
    differences = replay(SyncClient(uid, SECRET, transport), session)
    assert not differences, "\n\n".join(differences)


def test_it_goes_the_same_way_beside_another_user_s_data(
    transport: InProcess, session: list[Exchange], uid: int
) -> None:
    """Two users with the same collections and ids, one after the other on one server."""
    for one in (uid + 1, uid + 2):
        differences = replay(SyncClient(one, SECRET, transport), session)
        assert not differences, "\n\n".join(differences)


class TestTheModel:
    """The reference by which the end of a replay is judged must itself fit the recording."""

    def test_it_explains_every_recorded_read(self, session: list[Exchange]) -> None:
        model = Model()
        reads = 0
        for exchange in session:
            model.follow(exchange)
            name = exchange.resource.removeprefix("/storage/")
            if exchange.method != "GET" or exchange.status != 200:
                continue
            if exchange.resource == "/info/collections":
                assert exchange.json == model.times, exchange
                reads += 1
            elif name in model.collections:
                since = Decimal(exchange.parameters.get("newer", "0"))
                items = [item for item in model.collections[name].values() if item["modified"] > since]
                found = {item["id"]: item for item in exchange.json}
                assert found == {item["id"]: item for item in items}, exchange
                reads += 1
        assert reads > 100


class TestCorrespondence:
    """What is sent for the times of the recording."""

    @pytest.fixture
    def known(self) -> Correspondence:
        known = Correspondence()
        known.learn_time(Decimal("100.10"), Decimal("7.00"), changes=True)
        known.learn_time(Decimal("100.20"), Decimal("7.00"), changes=False)
        known.learn_time(Decimal("105.00"), Decimal("7.50"), changes=True)
        return known

    @pytest.mark.parametrize(
        ("recorded", "sent"),
        [
            ("100.1", "7"),
            ("100.10", "7.00"),
            ("105", "7.5"),
            ("104.99", "7.49"),
            ("101.00", "7.00"),
            ("106", "8.5"),
            ("0", "0"),
            ("0.00", "0.00"),
            ("4102405200000", "4102405200000"),
        ],
    )
    def test_times_keep_their_order_and_their_form(
        self, known: Correspondence, recorded: str, sent: str
    ) -> None:
        assert known.sent(recorded) == sent

    def test_a_write_that_is_not_later_is_noticed(self, known: Correspondence) -> None:
        with pytest.raises(ValueError, match="later write"):
            known.learn_time(Decimal("106.00"), Decimal("7.50"), changes=True)


def test_a_difference_names_its_line(transport: InProcess, session: list[Exchange], uid: int) -> None:
    changed = replace(session[7], answer=session[7].answer.replace("ciphertext", "cleartext"))
    (difference,) = replay(SyncClient(uid, SECRET, transport), [*session[:7], changed])
    assert difference.startswith("line 8: GET /storage/crypto/keys")
    assert "+" in difference
    assert "-" in difference
