"""Addresses of memcacheds, as people write them."""

from __future__ import annotations

import pytest

from syncstore.cache.memcached.address import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:11211", Address("10.0.0.1", 11211)),
        ("10.0.0.1", Address("10.0.0.1", 11211)),
        ("cache.example.org:1", Address("cache.example.org", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[fe80::1%eth0]", Address("fe80::1%eth0", 11211)),
        ("[fe80::1%eth0.7]:1", Address("fe80::1%eth0.7", 1)),
        ("/run/memcached.sock", Address("", 0, "/run/memcached.sock")),
        ("unix:/run/memcached.sock", Address("", 0, "/run/memcached.sock")),
    ],
)
def test_it_reads_hosts_and_paths(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":11211",
        "host:",
        "host:0",
        "host:65536",
        "host:1a",
        "host:-1",
        "host :1",
        "::1",
        "::1:11211",
        "[::1",
        "[host]:1",
        "host/path",
        "unix:",
        "unix:host:1",
        "unix:run/memcached.sock",
        "/" + "x" * 107,
        "/a\0b",
        "host:1 host:2",
        "http://host:1",
    ],
)
def test_it_refuses_anything_else(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        Address.parse(text)
