"""Two servers on one database, of which one cannot reach the memcached that the other uses: nobody reads the past."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.testing.cache_load import CacheLoad
from syncstore.testing.cache_stand import CacheStand, in_time, visitor
from syncstore.testing.client import SyncClient

DATABASE = "mysql"
ROUNDS = 4


@pytest.fixture(scope="module")
def stand(one_database_url: str) -> Iterator[CacheStand]:
    with CacheStand(one_database_url, servers=2, workers=1) as running:
        yield running


@pytest.fixture
def load(stand: CacheStand, tmp_path: Path) -> Iterator[CacheLoad]:
    with CacheLoad(stand, tmp_path) as made:
        yield made


@pytest.fixture
def near(stand: CacheStand) -> Iterator[SyncClient]:
    """A user of the server that reaches memcached."""
    with visitor(stand.servers[1]) as client:
        yield client


@pytest.fixture
def far(stand: CacheStand, near: SyncClient) -> Iterator[SyncClient]:
    """The same user on the one that will be cut off."""
    with visitor(stand.servers[0], near.uid) as client:
        yield client


def test_what_one_server_writes_the_other_reads_while_it_is_cut_off(
    load: CacheLoad, near: SyncClient, far: SyncClient
) -> None:
    load.run(0.5)
    write_in_turns(near, far)
    with load.disturb.cut_off(0):
        write_in_turns(near, far)
        load.run(0.5)
        assert far.get("/storage/tabs?full=1").status == 503
    write_in_turns(near, far, ("log", "meta", "tabs"))
    load.run(0.3)

    assert load.problems() == []


def test_a_server_that_gets_no_answers_is_not_behind(
    load: CacheLoad, near: SyncClient, far: SyncClient
) -> None:
    """Its commands may arrive, so that memcached does what nobody knows to have been done."""
    for fault in ("silent", "replies swallowed"):
        with load.disturb.network(fault, 0):
            write_in_turns(near, far)
            load.run(0.4)
        write_in_turns(near, far)
    load.run(0.3)

    assert load.problems() == []


def write_in_turns(
    one: SyncClient, other: SyncClient, collections: tuple[str, ...] = ("log", "meta", "work")
) -> None:
    """What is written through either of two servers is read through the other at once, and listed."""
    writer, reader = one, other
    for number in range(ROUNDS):
        for name in collections:
            path = f"/storage/{name}/a"
            written = in_time(writer.put, path, {"payload": f"{number}"})
            read = in_time(reader.get, path)
            assert (read.json["payload"], read.modified) == (f"{number}", written.modified)
            assert reader.get("/info/collections").json[name] == written.modified
        writer, reader = reader, writer
