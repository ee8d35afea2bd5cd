"""Names of nodes and what stands in them."""

from __future__ import annotations

import itertools

import pytest

from syncstore.cache.api import BackendUnavailable, Token
from syncstore.cache.of_several import MAX_KEY
from syncstore.cache.zookeeper.places import BUCKETS, Places, decode, encode
from syncstore.zookeeper.nodes import Node, Stat, check_path

STAT = Stat(7, 9, 7, 2, 0, 10, 0, 1_700_000_000_000)
ODD = [
    b".",
    b"..",
    b"...",
    b"/",
    b"a/b",
    b"\0",
    b"\xff\xfe",
    b"%2F",
    b"%",
    b"zookeeper",
    b" ",
    "ключ".encode(),
]


@pytest.fixture
def places() -> Places:
    return Places("/sync/cache", "objects")


def test_every_key_has_a_node_of_its_own_that_zookeeper_takes(places: Places) -> None:
    short = [bytes(pair) for pair in itertools.product(range(256), repeat=2)]
    keys = [*(bytes([byte]) for byte in range(256)), *short, *ODD, b"\xff" * MAX_KEY]
    nodes = set()
    for key in dict.fromkeys(keys):
        bucket, node = places.of(key)
        check_path(node)
        nodes.add(node)
        assert places.key_of(bucket, node.removeprefix(f"{bucket}/")) == key
    assert len(nodes) == len(set(keys))


def test_a_person_can_read_them(places: Places) -> None:
    assert places.root == "/sync/cache/objects"
    assert places.of(b"/map/a b.txt").node == "/sync/cache/objects/7d/%2Fmap%2Fa%20b%2Etxt"
    assert places.of(b"Az_-~09").node.endswith("/Az_-~09")


def test_the_buckets_are_all_used(places: Places) -> None:
    buckets = [places.of(b"key%d" % number).bucket for number in range(10_000)]
    assert set(buckets) == {f"{places.root}/{name}" for name in BUCKETS}
    assert max(buckets.count(bucket) for bucket in set(buckets)) < 80


@pytest.mark.parametrize("name", ["a%2fb", "a%zz", "a.b", "%61", "", "a" * 251])
def test_what_is_not_named_by_us_is_no_key(places: Places, name: str) -> None:
    for bucket in (places.bucket(number) for number in range(256)):
        assert places.key_of(bucket, name) is None


def test_a_key_in_another_bucket_is_no_key(places: Places) -> None:
    bucket, node = places.of(b"key")
    found = [places.key_of(places.bucket(number), "key") for number in range(256)]
    assert found.count(b"key") == 1
    assert places.key_of(bucket, "key") == b"key"
    assert node == f"{bucket}/key"


@pytest.mark.parametrize("expires", [0.0, 1_700_000_000.123456, 1e11])
@pytest.mark.parametrize("value", [b"", b"\0", b"x" * 1000])
def test_what_is_stored_is_found(value: bytes, expires: float) -> None:
    state = decode("/a", Node(encode(value, expires), STAT))
    assert state == (Token((7, 1_700_000_000_000), 2), expires, value)
    assert state.live(1_700_000_000.0)
    assert not expires or not state.live(expires)


@pytest.mark.parametrize("data", [b"", b"\1", b"\1" + bytes(7), b"\2" + bytes(8), b"{}"])
def test_what_it_cannot_read_is_a_fault_and_names_the_node(data: bytes) -> None:
    with pytest.raises(BackendUnavailable, match="/a/b holds no value of a cache: remove it"):
        decode("/a/b", Node(data, STAT))


def test_a_path_may_not_be_endless() -> None:
    with pytest.raises(ValueError, match="path"):
        Places("/" + "x" * 1000, "objects")
