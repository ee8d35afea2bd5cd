"""The doctor and a real nginx with TLS: what is right passes, and each fault is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncstore.databases import token_tables, upgrade
from syncstore.settings import read_settings
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.stand import Stand

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "five-minutes.md"
PASSED_ON = "location / { proxy_pass http://UPSTREAM; proxy_set_header Host $http_host; }"
BARE = "location / { proxy_pass http://UPSTREAM; }"


def block(number: int) -> str:
    """One of the page's configurations of nginx."""
    blocks: list[str] = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return blocks[number]


def behind(stand: Stand, location: str, prefix: str = "") -> str:
    """A server that knows its address, behind this location; the subject of its line."""
    stand.syncstore({"public_url": f"https://localhost:PROXY{prefix}"})
    return f"address {stand.proxy(location)}{prefix}"


def unaware(stand: Stand, location: str, prefix: str = "") -> str:
    """The same for a server that does not know its address: the doctor has to be told `--url`."""
    stand.syncstore()
    return stand.proxy(location) + prefix


# -- what passes


@pytest.mark.parametrize(("number", "prefix"), [(0, ""), (1, "/sync")])
def test_the_lines_of_the_documentation_are_right(stand: Stand, number: int, prefix: str) -> None:
    stand.syncstore({"public_url": f"https://localhost:PROXY{prefix}", "tokenserver.enabled": "true"})
    text = block(number)
    for printed, real in (
        ("listen 443 ssl", f"listen {HOST}:{stand.port} ssl"),
        ("127.0.0.1:8000", stand.upstream),
        ("/etc/ssl/sync.example.com.pem", str(stand.certificate.certificate)),
        ("/etc/ssl/sync.example.com.key", str(stand.certificate.key)),
    ):
        assert printed in text
        text = text.replace(printed, real)
    stand.nginx(text)

    found = stand.doctor()

    assert (found.code, found.faults) == (0, {})
    assert f"token server https://localhost:{stand.port}{prefix}/1.0/sync/1.5" in found.lines
    # fmt: off
    assert [subject.split()[0] for subject in found.lines] == [
        "settings", "secret", "database", "locks", "database", "cache",
        "address", "clock", "query", "escaped", "body", "token",
    ]
    # fmt: on


@pytest.mark.parametrize(
    ("location", "prefix"),
    [
        (BARE, ""),  # public_url says what a Host header would
        ("location /sync/ { proxy_pass http://UPSTREAM/; }", "/sync"),
        ("location /sync/ { proxy_pass http://UPSTREAM; }", "/sync"),
        ("location / { rewrite ^/(.*)$ /$1 break; proxy_pass http://UPSTREAM; }", ""),
    ],
    ids=["no Host", "prefix cut off", "prefix kept", "a rewrite that changes nothing"],
)
def test_what_clients_can_work_with_passes(stand: Stand, location: str, prefix: str) -> None:
    behind(stand, location, prefix)
    found = stand.doctor()
    assert (found.code, found.faults) == (0, {})


def test_without_tls_and_without_a_public_url(stand: Stand) -> None:
    stand.syncstore()
    stand.nginx(
        f"server {{ listen {HOST}:{stand.port}; client_max_body_size 3m; location / {{ "
        f"proxy_pass http://{stand.upstream}; proxy_set_header Host $http_host; }} }}"
    )
    assert stand.doctor("--url", f"http://localhost:{stand.port}").code == 0
    assert stand.doctor().code == 0, "the server's own address"


def test_a_trusted_proxy_may_tell_what_clients_use(stand: Stand) -> None:
    stand.syncstore({"trusted_proxies": HOST})
    url = stand.proxy(PASSED_ON.replace("}", "proxy_set_header X-Forwarded-Proto $scheme; }"))
    assert stand.doctor("--url", url).faults == {}


# -- what the server does not know of its address


def test_https_that_arrives_as_http(stand: Stand) -> None:
    url = unaware(stand, PASSED_ON)
    assert stand.doctor("--url", url).advice(f"address {url}") == (
        "the server takes http for the scheme that clients use, not https: "
        f"set public_url = {url} in the server's settings"
    )


def test_a_host_header_that_is_dropped(stand: Stand) -> None:
    url = unaware(stand, BARE)
    advice = stand.doctor("--url", url).advice(f"address {url}")
    assert "the proxy does not pass on the Host header (it arrives as 127.0.0.1): set public_url" in advice


def test_a_host_header_without_its_port(stand: Stand) -> None:
    url = unaware(stand, PASSED_ON.replace("$http_host", "$host"))
    advice = stand.doctor("--url", url).advice(f"address {url}")
    assert "the proxy does not pass on the port of the Host header: set public_url" in advice


def test_a_prefix_that_is_lost(stand: Stand) -> None:
    url = unaware(stand, "location /sync/ { proxy_pass http://UPSTREAM/; }", "/sync")
    advice = stand.doctor("--url", url).advice(f"address {url}")
    assert "the path prefix /sync is lost on its way to the server: set public_url" in advice


def test_a_prefix_that_the_server_does_not_know(stand: Stand) -> None:
    url = unaware(stand, "location /sync/ { proxy_pass http://UPSTREAM; }", "/sync")
    assert stand.doctor("--url", url).advice(f"address {url}") == (
        f"the server does not know of the path /sync: set public_url = {url} in its settings"
    )


def test_a_server_that_nobody_can_ask_for_its_address(stand: Stand) -> None:
    url = unaware(stand, "location /1.5/ { proxy_pass http://UPSTREAM; }")
    advice = stand.doctor("--url", url).advice(f"address {url}")
    assert "takes http for the scheme" in advice
    assert "the Host header (it arrives as 127.0.0.1)" in advice, "guessed, and proved by a signature for it"


def test_a_server_that_was_not_restarted(stand: Stand) -> None:
    url = unaware(stand, PASSED_ON)
    stand.change(public_url=url)
    assert stand.doctor().advice(f"address {url}") == (
        f"the server that answers takes {url.replace('https', 'http')} for its address: "
        "restart it, with these settings"
    )


def test_a_public_url_that_is_another_one(stand: Stand) -> None:
    stand.syncstore({"public_url": "https://sync.example.com"})
    url = stand.proxy(PASSED_ON)
    assert stand.doctor("--url", url).advice(f"address {url}") == (
        f"the server has public_url = https://sync.example.com: set it to {url}"
    )


# -- what a proxy does to requests


@pytest.mark.parametrize(
    "location",
    ["location /sync { proxy_pass http://UPSTREAM/; }", "location /sync/ { proxy_pass http://UPSTREAM/sync/sync/; }"],
    ids=["a slash too many", "twice"],
)  # fmt: skip
def test_a_prefix_that_is_doubled_or_mangled(stand: Stand, location: str) -> None:
    subject = behind(stand, location, "/sync")
    assert stand.doctor().advice(subject).startswith("the path prefix /sync is lost or doubled on its way")


@pytest.mark.parametrize(
    ("location", "subject", "words"),
    [
        (
            "location / { proxy_pass http://UPSTREAM$uri$is_args$args; }",
            "escaped path",
            "the proxy decodes or re-encodes the path of requests: let it pass on path and query as they came",
        ),
        (
            "location / { set $path $request_uri; if ($path ~ ^([^?]*)) { set $path $1; } "
            "rewrite ^ $path break; proxy_pass http://UPSTREAM; }",
            "escaped path",
            "the proxy encodes the escaped path of requests again",
        ),
        (
            "location / { rewrite ^ $request_uri break; proxy_pass http://UPSTREAM; }",
            "query",
            "the proxy changes the query of requests",
        ),
        (
            "location / { rewrite ^ $uri? break; proxy_pass http://UPSTREAM; }",
            "query",
            "the proxy drops the query of requests",
        ),
        (
            "location / { proxy_pass http://UPSTREAM; client_max_body_size 1m; }",
            "body of 2625536 bytes",
            "the proxy refuses it (413): raise its limit (nginx: client_max_body_size 3m)",
        ),
    ],
    ids=["decoded", "encoded again", "query into the path", "query dropped", "small bodies"],
)
def test_requests_that_arrive_as_others(stand: Stand, location: str, subject: str, words: str) -> None:
    behind(stand, location)
    # Not the only fault everywhere: what a rewrite with variables escapes differs between versions of nginx.
    assert stand.doctor().faults[subject].startswith(words)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (
            "location / { proxy_pass http://UPSTREAM; proxy_set_header Authorization ''; }",
            "the proxy drops or changes the Authorization header",
        ),
        ("location / { return 401; }", "the proxy asks for a password of its own"),
        ("location / { return 403; }", "the proxy forbids it (403)"),
        ("location / { return 301 https://other.example$request_uri; }", "it redirects to https://other.example/1.5/"),
        ("location / { proxy_pass http://127.0.0.1:1; }", "the proxy has nobody behind it (502): start syncstore"),
        (
            "location / { return 200 '<title>My cloud</title>'; default_type text/html; }",
            "the web page 'My cloud' answers there (200)",
        ),
        ("location /sync/ { proxy_pass http://UPSTREAM; }", "the web page '404 Not Found' answers there (404)"),
        ("location / { return 200 hello; }", "another program answers there (200)"),
    ],
    ids=["header", "password", "forbidden", "redirect", "nobody", "a web page", "prefix", "another"],
)  # fmt: skip
def test_what_is_not_let_through(stand: Stand, location: str, words: str) -> None:
    subject = behind(stand, location)
    assert stand.doctor().advice(subject).startswith(words)


# -- who signs


def test_another_secret(stand: Stand) -> None:
    subject = behind(stand, PASSED_ON)
    stand.change(auth__secrets="another-secret-of-the-tests")
    assert (
        stand.doctor().advice(subject).startswith("the server has another signing secret than these settings")
    )


def test_a_refusal_that_cannot_be_looked_into(stand: Stand) -> None:
    subject = behind(stand, PASSED_ON)
    stand.change(auth__secrets="another-secret-of-the-tests", serve__bind=f"{HOST}:{free_port()}")
    assert "restart the server, so that it has the secret" in stand.doctor().advice(subject)


def test_a_node_without_a_secret(stand: Stand, tmp_path: Path) -> None:
    subject = behind(stand, PASSED_ON)
    (tmp_path / "nodes").write_text("https://elsewhere,1:secret\n")
    ini = {key: value for key, value in stand.ini.items() if key != "auth.secrets"}
    stand.write({**ini, "auth.node_secrets": "nodes"})
    assert stand.doctor().advice(subject).startswith("there is no signing secret for this node")


# -- TLS


def test_a_certificate_that_is_not_trusted(stand: Stand) -> None:
    subject = behind(stand, PASSED_ON)
    advice = stand.doctor(trusting=False).advice(subject)
    assert "is not trusted (self-signed certificate)" in advice
    assert "--ca FILE" in advice


def test_https_where_the_proxy_speaks_http(stand: Stand) -> None:
    stand.syncstore()
    stand.nginx(f"server {{ listen {HOST}:{stand.port}; }}")
    url = f"https://localhost:{stand.port}"
    assert "does not speak TLS" in stand.doctor("--url", url).advice(f"address {url}")


def test_http_where_the_proxy_speaks_https(stand: Stand) -> None:
    stand.syncstore()
    url = stand.proxy(PASSED_ON).replace("https", "http")
    stand.change(public_url=url)
    assert stand.doctor().advice(f"address {url}").endswith("speaks TLS: begin public_url with https://")


def test_a_port_where_nobody_listens(stand: Stand) -> None:
    stand.syncstore()
    url = f"https://localhost:{free_port()}"
    assert stand.doctor("--url", url).advice(f"address {url}").startswith("nobody listens at localhost:")


def test_a_token_server_that_is_not_served(stand: Stand) -> None:
    behind(stand, PASSED_ON)
    stand.change(tokenserver__enabled="true")
    settings = read_settings(stand.ini, {}, Path())
    upgrade(token_tables(settings), settings)
    assert stand.doctor().advice(f"token server https://localhost:{stand.port}/1.0/sync/1.5") == (
        "the server that answers has none: restart it, with these settings"
    )
