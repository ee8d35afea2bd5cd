"""Signatures through real servers, which differ in what they tell of the raw request target."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

import pytest

from syncstore.auth.hawk import sign
from syncstore.auth.tokens import derive_key, make_token
from syncstore.testing.processes import ChildProcess, free_port

Servers = dict[str, ChildProcess]

SECRET = "a secret of the tests"

APPLICATION = f"""
from syncstore.auth.authenticator import Authenticator
from syncstore.auth.origin import ClientOrigin
from syncstore.auth.secrets import FixedSecrets
from syncstore.clock import SystemClock
from syncstore.errors import InvalidRequest, Unauthorized

authenticator = Authenticator(FixedSecrets([{SECRET!r}]), ClientOrigin(), SystemClock())

def app(environ, start_response):
    status, body = "200 OK", b"welcome"
    try:
        authenticator.authenticate(environ, 7)
    except Unauthorized as error:
        status, body = "401 Unauthorized", error.reason.encode()
    except InvalidRequest as error:
        status, body = "400 Bad Request", error.reason.encode()
    start_response(status, [("Content-Length", str(len(body))), ("Content-Type", "text/plain")])
    return [body]
"""

COMMANDS = {
    "waitress": ["--listen=127.0.0.1:{port}", "--threads=1", "application:app"],
    "gunicorn": ["--bind=127.0.0.1:{port}", "--workers=1", "application:app"],
    "granian": ["--interface=wsgi", "--host=127.0.0.1", "--port={port}", "--workers=1", "application:app"],
}
TELL_THE_RAW_TARGET = ("waitress", "gunicorn")

ITEMS = [
    "abc",
    "a/b",
    "a+b=",
    "{6820f3ca}",
    "a|b",
    "!~*'()",
    "a b",
    "50%",
    "a?b#c",
    "caf\u00e9",
    "a;b@c,d&e$f:g",
]
QUOTINGS = {
    "WebOb": "/~!$&'()*+,;=:@",
    "encodeURIComponent": "!~*'()",
    "Python": "",
    "browser": "/~!$&'()*+,;=:@[]|",
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """All of them at once, since they are slow to start and cheap to keep."""
    with ExitStack() as stack:
        started: Servers = {}
        for name, options in COMMANDS.items():
            port = free_port()
            command = [sys.executable, "-m", name, *(option.format(port=port) for option in options)]
            # the same packages as here, and the application beside its log
            environment = {"PYTHONPATH": os.pathsep.join([".", *filter(None, sys.path)])}
            server = stack.enter_context(_Server(name, command, port, environment=environment))
            started[name] = server
        yield started


class _Server(ChildProcess):
    def __enter__(self) -> _Server:
        (self.directory / "application.py").write_text(APPLICATION)
        super().__enter__()
        return self


def ask(
    server: ChildProcess, target: str, *, signed_target: str | None = None, host: str | None = None
) -> str:
    """Status and body of the answer to a GET of exactly this target."""
    node = f"http://127.0.0.1:{server.port}"
    token = make_token({"uid": 7, "node": node, "expires": 4_000_000_000}, SECRET)
    header = sign("GET", node + (signed_target or target), token, derive_key(token, SECRET), ts=1)
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {host or f'127.0.0.1:{server.port}'}\r\n"
        f"Authorization: {header}\r\nConnection: close\r\n\r\n"
    )
    with server.connect(timeout=20) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while received := connection.recv(65536):
            answer += received
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split()[1].decode() + " " + body.decode()


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("quoting", QUOTINGS)
def test_an_unusual_id_verifies_however_it_is_written(servers: Servers, name: str, quoting: str) -> None:
    for item in ITEMS:
        target = f"/1.5/7/storage/bookmarks/{quote(item, safe=QUOTINGS[quoting])}?ids=a%2Cb&x={{}}"

        assert (item, ask(servers[name], target)) == (item, "200 welcome")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_signature_of_another_target_does_not(servers: Servers, name: str) -> None:
    answer = ask(servers[name], "/1.5/7/storage/c/a%2Fb", signed_target="/1.5/7/storage/c/a%2Fc")

    assert answer == "401 invalid request signature"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_query_is_signed_verbatim(servers: Servers, name: str) -> None:
    assert ask(servers[name], "/1.5/7/x?batch=MTUz==&commit=true&q=%7e~%2f/{}|+") == "200 welcome"


@pytest.mark.parametrize("name", TELL_THE_RAW_TARGET)
@pytest.mark.parametrize("tail", ["?", "/%7e%2f", "/a%2fb", "//x//", "/a/../b", "/%c3%A9"])
def test_the_raw_target_is_signed_as_it_stands(servers: Servers, name: str, tail: str) -> None:
    assert ask(servers[name], f"/1.5/7/storage/c{tail}") == "200 welcome"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_target_in_absolute_form_verifies(servers: Servers, name: str) -> None:
    server, path = servers[name], "/1.5/7/storage/c/a%20b?full=1"

    assert ask(server, f"http://127.0.0.1:{server.port}{path}", signed_target=path) == "200 welcome"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_invalid_port_in_the_host_header_is_400(servers: Servers, name: str) -> None:
    assert ask(servers[name], "/1.5/7/x", host="127.0.0.1:0").startswith("400 ")
