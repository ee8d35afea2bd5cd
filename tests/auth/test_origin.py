"""The client's view of the server, from the request, from public_url and from trusted proxies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncstore.auth.origin import ClientOrigin, canonical_node, split_authority
from syncstore.errors import ConfigError, InvalidRequest


def environ(host: str | None = "localhost:5000", scheme: str = "http", **more: str) -> dict[str, Any]:
    made = {
        "wsgi.url_scheme": scheme,
        "SERVER_NAME": "server",
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": "127.0.0.1",
    }
    return made | ({} if host is None else {"HTTP_HOST": host}) | more


@pytest.mark.parametrize(
    ("host", "scheme", "prefix", "node", "lines"),
    [
        ("localhost:5000", "http", "", "http://localhost:5000", "localhost\n5000\n"),
        ("sync.example.com", "https", "", "https://sync.example.com", "sync.example.com\n443\n"),
        ("sync.example.com:443", "https", "", "https://sync.example.com", "sync.example.com\n443\n"),
        ("sync.example.com:80", "http", "", "http://sync.example.com", "sync.example.com\n80\n"),
        ("sync.example.com:80", "https", "", "https://sync.example.com:80", "sync.example.com\n80\n"),
        ("sync.example.com:443", "http", "", "http://sync.example.com:443", "sync.example.com\n443\n"),
        ("SYNC.Example.com", "http", "", "http://sync.example.com", "sync.example.com\n80\n"),
        ("example.com", "https", "/ff", "https://example.com/ff", "example.com\n443\n"),
        ("example.com", "https", "/ff/", "https://example.com/ff", "example.com\n443\n"),
        ("example.com", "https", "/a b", "https://example.com/a%20b", "example.com\n443\n"),
        ("example.com:", "http", "", "http://example.com", "example.com\n80\n"),
        ("[::1]:8000", "http", "", "http://[::1]:8000", "[::1]\n8000\n"),
        ("[::1]", "http", "", "http://[::1]", "[::1]\n80\n"),
        (None, "http", "", "http://server:8080", "server\n8080\n"),
    ],
)
def test_it_is_that_of_the_request(host: str | None, scheme: str, prefix: str, node: str, lines: str) -> None:
    origins = ClientOrigin()

    for _ in range(2):  # found anew, and known from before
        origin = origins.of(environ(host, scheme, SCRIPT_NAME=prefix))
        assert (origin.node, origin.signed_lines) == (node, lines)


@pytest.mark.parametrize(
    "host",
    ["h:x", "h:0", "h:65536", "h:-1", "h:1:2", "h:99999999", "", ":80", "a b", "a/b", "a@b", "::1", "[::1",
     "h\n", "é", "h:\u0661", "[x]", "h: 80", "a" * 256],
)  # fmt: skip
def test_a_host_header_that_names_none_is_an_invalid_request(host: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ClientOrigin().of(environ(host))
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("public_url", "node", "prefix", "lines"),
    [
        ("https://sync.example.com", "https://sync.example.com", "", "sync.example.com\n443\n"),
        ("https://sync.example.com/", "https://sync.example.com", "", "sync.example.com\n443\n"),
        ("https://sync.example.com:443/ff/", "https://sync.example.com/ff", "/ff", "sync.example.com\n443\n"),
        (
            "HTTP://Sync.Example.com:8000/a/b",
            "http://sync.example.com:8000/a/b",
            "/a/b",
            "sync.example.com\n8000\n",
        ),
    ],
)
def test_public_url_fixes_everything(public_url: str, node: str, prefix: str, lines: str) -> None:
    asked = environ("internal:x", "http", SCRIPT_NAME="/internal", HTTP_X_FORWARDED_HOST="evil")
    origin = ClientOrigin(public_url, ["127.0.0.1"]).of(asked)

    assert (origin.node, origin.prefix, origin.signed_lines) == (node, prefix, lines)


@pytest.mark.parametrize(
    "public_url",
    ["", "sync.example.com", "ftp://h", "https://", "https:///x", "https://h:0", "https://h:x", "https://u@h",
     "https://h/a?b", "https://h/a#b", "https://h//a", "https://h/a b"],
)  # fmt: skip
def test_a_public_url_that_is_none_is_refused(public_url: str) -> None:
    with pytest.raises(ConfigError, match="public_url"):
        ClientOrigin(public_url)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("http://localhost:80", "http://localhost"),
        ("HTTPS://Sync.Example.com:443/FF", "https://sync.example.com/FF"),
        ("https://sync.example.com:80", "https://sync.example.com:80"),
        ("https://sync.example.com/", "https://sync.example.com/"),
        ("not a url", "not a url"),
        ("http://h:99999", "http://h:99999"),
        ("", ""),
    ],
)
def test_a_node_name_has_one_canonical_form(name: str, canonical: str) -> None:
    assert canonical_node(name) == canonical
    assert canonical_node(canonical) == canonical


FORWARDED = [
    ({"HTTP_X_FORWARDED_PROTO": "https"}, "https://localhost:5000"),
    ({"HTTP_X_FORWARDED_HOST": "sync.example.com"}, "http://sync.example.com"),
    ({"HTTP_X_FORWARDED_PROTO": "HTTPS", "HTTP_X_FORWARDED_HOST": "sync.example.com:8443"},
     "https://sync.example.com:8443"),
    ({"HTTP_X_FORWARDED_PROTO": "https, http", "HTTP_X_FORWARDED_HOST": "a.example , b"}, "https://a.example"),
    ({"HTTP_X_FORWARDED_PROTO": "", "HTTP_X_FORWARDED_HOST": ""}, "http://localhost:5000"),
    ({"HTTP_FORWARDED": "for=1.2.3.4;proto=https;host=sync.example.com"}, "https://sync.example.com"),
    ({"HTTP_FORWARDED": 'For="[::1]:80"; Host="h:81" ;PROTO=http, for=x;host=y'}, "http://h:81"),
    ({"HTTP_FORWARDED": "for=unknown"}, "http://localhost:5000"),
    ({"HTTP_FORWARDED": "proto=https", "HTTP_X_FORWARDED_PROTO": "http", "HTTP_X_FORWARDED_HOST": "h"}, "https://h"),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "node"), FORWARDED)
@pytest.mark.parametrize(
    ("proxies", "peer"),
    [
        (["127.0.0.1"], "127.0.0.1"),
        (["10.0.0.0/8", "192.168.0.0/16"], "192.168.7.7"),
        (["::1"], "::1"),
        (["fd00::/8"], "fd12::1"),
        (["127.0.0.0/8"], "::ffff:127.0.0.1"),
    ],
)
def test_a_trusted_proxy_is_believed(
    headers: dict[str, str], node: str, proxies: list[str], peer: str
) -> None:
    origins = ClientOrigin(trusted_proxies=proxies)

    for _ in range(2):
        assert origins.of(environ(**headers, REMOTE_ADDR=peer)).node == node


@pytest.mark.parametrize(("headers", "node"), FORWARDED)
@pytest.mark.parametrize(
    ("proxies", "peer"),
    [
        ([], "127.0.0.1"),
        (["10.0.0.0/8"], "127.0.0.1"),
        (["10.0.0.0/8"], ""),
        (["::1"], "127.0.0.1"),
        (["::/0"], "x"),
    ],
)
def test_nobody_else_is_believed(headers: dict[str, str], node: str, proxies: list[str], peer: str) -> None:
    origin = ClientOrigin(trusted_proxies=proxies).of(environ(**headers, REMOTE_ADDR=peer))

    assert origin.node == "http://localhost:5000"


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_X_FORWARDED_PROTO": "gopher"},
        {"HTTP_X_FORWARDED_HOST": "h:x"},
        {"HTTP_FORWARDED": "proto"},
        {"HTTP_FORWARDED": 'host="h'},
        {"HTTP_FORWARDED": "host=a/b"},
        {"HTTP_FORWARDED": "proto=https;"},
    ],
)
def test_nonsense_of_a_trusted_proxy_is_an_invalid_request(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        ClientOrigin(trusted_proxies=["127.0.0.1"]).of(environ(**headers))


@pytest.mark.parametrize("proxy", ["", "localhost", "10.0.0.1/8", "10.0.0.0/33"])
def test_a_proxy_that_is_no_address_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigError, match="trusted_proxies"):
        ClientOrigin(trusted_proxies=[proxy])


def test_names_of_strangers_do_not_fill_the_memory() -> None:
    origins = ClientOrigin(trusted_proxies=["10.0.0.0/8"])
    for number in range(1000):
        origins.of(environ(f"h{number}", REMOTE_ADDR=f"192.168.{number // 250}.{number % 250}"))

    assert len(origins._known) <= 256
    assert len(origins._trusted) <= 256


@given(
    text=st.text(max_size=60),
    header=st.sampled_from(["HTTP_HOST", "HTTP_FORWARDED", "HTTP_X_FORWARDED_HOST"]),
)
def test_no_header_makes_it_fail_otherwise(text: str, header: str) -> None:
    try:
        origin = ClientOrigin(trusted_proxies=["127.0.0.1"]).of(environ() | {header: text})
    except InvalidRequest:
        return
    assert split_authority(origin.node.removeprefix("http://").removeprefix("https://"), origin.scheme) == (
        origin.host,
        origin.port,
    )
