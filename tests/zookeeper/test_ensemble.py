"""A cluster's description is strict, and its words say what each text must be."""

from __future__ import annotations

import pytest

from syncstore.zookeeper.ensemble import (
    Digest,
    Ensemble,
    Host,
    parse_auth,
    parse_chroot,
    parse_hosts,
    parse_names,
)


def test_hosts_are_separated_by_commas_and_have_a_default_port() -> None:
    hosts = parse_hosts("zk1:2182, zk2,[::1]:2183,[::1]")
    assert hosts == (Host("zk1", 2182), Host("zk2", 2181), Host("::1", 2183), Host("::1", 2181))
    assert str(hosts[2]) == "[::1]:2183"
    assert parse_hosts(" ") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (",", "not HOST:PORT"),
        ("zk1:2181,", "not HOST:PORT"),
        ("zk1:", "no port"),
        ("zk1:0", "no port"),
        ("zk1:65536", "no port"),
        ("zk1:٣", "no port"),
        ("zk1:2181/sync", "no port"),
        ("zk 1", "not HOST:PORT"),
        ("::1:2181", "not HOST:PORT"),
        ("zk1,zk1:2181", "twice"),
        ("zk1..example.com", "not HOST:PORT"),
        (".", "not HOST:PORT"),
        ("a" * 64 + ".example.com", "not HOST:PORT"),
    ],
)
def test_it_refuses_hosts(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_hosts(text)


@pytest.mark.parametrize("text", ["Main", "a-b", "a__b", "_a", "a_", "1a", "a.b", "é", "a" * 33])
def test_it_refuses_names(text: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        parse_names(f"main {text}")


def test_names_are_separated_by_spaces_and_each_is_there_once() -> None:
    assert parse_names("main_cluster  test2") == ("main_cluster", "test2")
    assert parse_names("") == ()
    with pytest.raises(ValueError, match="'main' is there twice"):
        parse_names("main test main")


@pytest.mark.parametrize(
    "text", ["sync", "/sync/", "//sync", "/a/../b", "/a/./b", "/a b", "/é", "/zookeeper/x"]
)
def test_it_refuses_a_chroot(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a path|belongs to ZooKeeper"):
        parse_chroot(text)


def test_a_chroot_is_a_path_or_nothing() -> None:
    assert parse_chroot("/sync/storage-1") == "/sync/storage-1"
    assert parse_chroot("") == parse_chroot("/") == ""


@pytest.mark.parametrize(
    "text", ["me:secret", "sasl:me:secret", "digest:me", "digest::secret", "digest:me:sec ret"]
)
def test_it_refuses_an_auth_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match="must be digest:USER:SECRET") as caught:
        parse_auth(text)
    assert "secret" not in str(caught.value)


def test_an_auth_is_a_user_and_a_secret_that_is_not_shown() -> None:
    auth = parse_auth("digest:me:my:secret")
    assert auth == Digest("me", "my:secret")
    assert "secret" not in repr(Ensemble("main", parse_hosts("zk1"), auth=auth)).replace("secret=", "")
    assert parse_auth(" ") is None
