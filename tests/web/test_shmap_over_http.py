"""shmap behind each server that people put in front of it: requests that no client library sends, and many at once."""

from __future__ import annotations

import http.client
import json
import random
import socket
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress

import pytest

from syncstore.testing.cache_conformance.rooms import Child
from syncstore.testing.processes import HOST, ChildProcess
from syncstore.testing.service import SECRET, SyncServer, write_ini

PATIENCE = 20.0
LIMIT = 100_000
SETTINGS = {
    "socache.objects": "shmcb:objects(8000000)",
    "shmap.mounts": "/map objects",
    "shmap.permission": "public",
    "shmap.max_body": str(LIMIT),
    "shmap.list": "true",
}
WAITRESS = (
    "[server:main]\nuse = egg:waitress#main\nlisten = BIND\nthreads = 4\nmax_request_body_size = 200000\n"
)


class PythonServer(SyncServer):
    """pserve with waitress, or gunicorn, in place of `syncstore serve`."""

    def __init__(self, name: str, database_url: str) -> None:
        super().__init__(database_url, workers=1)
        bind = f"{HOST}:{self.port}"
        settings = {"sqlalchemy.url": database_url, "auth.secrets": SECRET, "migrate": "auto", **SETTINGS}
        write_ini(self.directory / "syncstore.ini", settings, WAITRESS.replace("BIND", bind))
        programs = {
            "waitress": ["-m", "pyramid.scripts.pserve", "syncstore.ini"],
            "gunicorn": ["-m", "gunicorn", "--paste", "syncstore.ini", "--bind", bind, "--threads", "4"],
        }
        self.command = [sys.executable, *programs[name]]


@pytest.fixture(scope="module", params=["granian", "waitress", "gunicorn"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    url = f"sqlite:///{tmp_path_factory.mktemp('shmap') / 'sync.db'}"
    made = SyncServer(url, SETTINGS) if request.param == "granian" else PythonServer(request.param, url)
    made.name = request.param
    with made as running:
        yield running


@pytest.fixture(autouse=True)
def unharmed(server: SyncServer) -> Iterator[None]:
    """Nothing of what was refused is stored, and the server has no fault to tell of."""
    before = keys(server)
    yield
    assert {key for key in keys(server) - before if "refused" in key} == set()
    assert server.alive
    log = server.log.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in log, log[-3000:]


def keys(server: SyncServer) -> set[str]:
    status, body = ask(server, "GET", "/map?keys&limit=10000")
    assert status == 200
    return {row["key"] for row in json.loads(body)["keys"]}


def ask(server: SyncServer, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    """One request by the client of Python."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)
    try:
        connection.request(method, target, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def exchange(
    server: ChildProcess, *parts: bytes, finish: bool = False, until_end: bool = False
) -> tuple[int, bytes]:
    """Send the parts; the status and body of the answer, 0 for none.

    With `finish` the server is told that nothing more comes, with `until_end` it must then hang up.
    """
    received = b""
    with server.connect(timeout=PATIENCE) as connection:
        with suppress(OSError):  # it had enough, and may have said why
            for part in parts:
                connection.sendall(part)
            if finish:
                connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while until_end or not complete(received):
                more = connection.recv(65536)
                if not more:
                    break
                received += more
    head, _, body = received.partition(b"\r\n\r\n")
    return (int(head.split(b" ", 2)[1]), body) if head else (0, b"")


def complete(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if separator and line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return bool(separator) and b" 204 " in head[:20]


def head(method: str, target: bytes, *headers: str) -> bytes:
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: localhost"]
    return b"\r\n".join([*lines, *(header.encode("latin-1") for header in headers)]) + b"\r\n\r\n"


@pytest.mark.parametrize("length", [LIMIT + 1, LIMIT * 100, 10**12])
def test_a_body_over_the_limit_is_refused_before_it_comes(server: SyncServer, length: int) -> None:
    sent = (
        length if server.name == "waitress" and length < 200_000 else 1024
    )  # it reads what it allows itself
    start = head("PUT", b"/map/refused", f"Content-Length: {length}")
    status, body = exchange(server, start, b"x" * sent, until_end=server.name == "granian")
    assert status == 413
    assert b"error" in body or server.name == "waitress"
    assert ask(server, "GET", "/map/refused")[0] == 404


def test_chunks_over_the_limit_are_refused(server: SyncServer) -> None:
    start = head("PUT", b"/map/refused", "Transfer-Encoding: chunked")
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    status, _ = exchange(server, start, *[chunk] * 8, b"0\r\n\r\n")
    assert status == 413


def test_chunks_are_a_value_where_the_server_tells_their_length(server: SyncServer) -> None:
    """waitress does; granian shows a part as if it were all."""
    start = head("PUT", b"/map/chunks", "Transfer-Encoding: chunked")
    status, _ = exchange(server, start, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    if server.name == "waitress":
        assert status == 201
        assert ask(server, "GET", "/map/chunks") == (200, b"abcde")
    else:
        assert status == 411


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (["Content-Length: 100"], b"short"),
        (["Transfer-Encoding: chunked"], b"5\r\nshort\r\n"),
        (["Transfer-Encoding: chunked"], b"50\r\nshort"),
        (["Transfer-Encoding: chunked"], b"zz\r\nshort\r\n0\r\n\r\n"),
        (["Content-Length: -5"], b"short"),
        (["Content-Length: x"], b"short"),
        (["Content-Length: 5", "Content-Length: 3"], b"short"),
    ],
    ids=["length", "chunks", "chunk", "no chunk", "negative", "no number", "two lengths"],
)
@pytest.mark.parametrize("finish", [True, False], ids=["waiting", "gone"])
def test_a_body_that_is_not_whole_is_not_stored(
    server: SyncServer, headers: list[str], body: bytes, finish: bool
) -> None:
    start = head("PUT", b"/map/refused", *headers)
    if finish:
        status, _ = exchange(server, start, body, finish=True)
        assert status == 0 or 400 <= status < 500
    else:
        with server.connect(timeout=PATIENCE) as connection:
            connection.sendall(start + body)
    assert ask(server, "GET", "/map/refused")[0] == 404


def test_who_asks_first_whether_to_send_too_much_is_told_not_to(server: SyncServer) -> None:
    if server.name != "granian":
        pytest.skip("it encourages everybody")
    start = head("PUT", b"/map/refused", f"Content-Length: {LIMIT + 1}", "Expect: 100-continue")
    assert exchange(server, start)[0] == 413


KEYS = {
    b"/map/a%2Fb": "/map/a/b",
    b"/map//x": "/map//x",
    b"/map/..%2f..%2fetc": "/map/../../etc",
    b"/map/x/../y": "/map/x/../y",
    b"/map/%01": "/map/%01",
    b"/map/%FF%fe": "/map/%FF%FE",
    b"/map/%F0%9F%98%80": "/map/%F0%9F%98%80",
    b"/map/%2525": "/map/%2525",
    b"/map/" + b"k" * 220: "/map/" + "k" * 220,
    b"http://localhost/map/absolute": "/map/absolute",
}


@pytest.mark.parametrize("target", KEYS)
def test_a_key_is_the_path_of_the_request_line_decoded_once(server: SyncServer, target: bytes) -> None:
    body = b"of " + target
    start = head("PUT", target, f"Content-Length: {len(body)}")
    assert exchange(server, start + body)[0] in (201, 204)
    assert KEYS[target] in keys(server)
    assert exchange(server, head("GET", target)) == (200, body)
    assert exchange(server, head("DELETE", target))[0] == 204
    assert KEYS[target] not in keys(server)


@pytest.mark.parametrize("target", [b"/map/%00refused", b"/map/refused?x", b"/map/", b"/map/refused\xff"])
def test_what_is_no_key_is_refused(server: SyncServer, target: bytes) -> None:
    status, _ = exchange(server, head("PUT", target, "Content-Length: 1") + b"x")
    if target.endswith(b"\xff") and status in (201, 204):
        pytest.skip("this server takes the byte as it is, and so it is part of the key")
    assert status == 400


def test_a_connection_serves_on_after_any_answer(server: SyncServer) -> None:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=PATIENCE)
    connection.request("PUT", "/map/on", b"value")
    answer = connection.getresponse()
    answer.read()
    tag = answer.headers["ETag"]
    local = connection.sock.getsockname()
    for method, body, headers, status in (
        ("GET", None, {"If-None-Match": tag}, 304),
        ("HEAD", None, {}, 200),
        ("GET", None, {}, 200),
        ("PUT", b"x" * 1000, {"If-Match": '"none"'}, 412),
        ("PUT", b"x" * 1000, {"X-Shmap-Expires": "soon"}, 400),
        ("PUT", b"x" * 1000, {"Content-Encoding": "gzip"}, 415),
        ("PATCH", b"x" * 1000, {}, 405),
        ("OPTIONS", None, {}, 204),
        ("DELETE", None, {}, 204),
        ("DELETE", None, {}, 404),
    ):
        connection.request(method, "/map/on", body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
        if server.name != "waitress":  # which hangs up after answers without a body
            assert connection.sock is not None
            assert connection.sock.getsockname() == local
    connection.close()


def test_tags_in_several_headers_are_one_list(server: SyncServer) -> None:
    status, _ = exchange(server, head("PUT", b"/map/list", "Content-Length: 0"))
    assert status in (201, 204)
    start = head("PUT", b"/map/list", 'If-Match: "x"', "If-Match: *x", "Content-Length: 1")
    assert exchange(server, start + b"x")[0] == 400
    start = head("PUT", b"/map/list", 'If-Match: "x"', 'If-Match: "y"', "Content-Length: 1")
    assert exchange(server, start + b"x")[0] == 412


# -- many at once


def whole(key: str, rng: random.Random) -> bytes:
    """A value that tells whether it is whole, and whose it is."""
    body = f"{key} ".encode() + rng.randbytes(rng.choice((0, 10, 1000, 20_000)))
    return zlib.crc32(body).to_bytes(4, "big") + body


def is_whole(key: str, value: bytes) -> bool:
    return zlib.crc32(value[4:]).to_bytes(4, "big") == value[:4] and value[4:].startswith(f"{key} ".encode())


def use(port: int, seconds: float, seed: int) -> None:
    rng = random.Random(seed)
    connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    end = time.monotonic() + seconds
    turns = 0
    while time.monotonic() < end:
        key = f"/map/shared-{rng.randrange(20)}"
        method = rng.choice(("PUT", "GET", "GET", "DELETE"))
        connection.request(method, key, whole(key, rng) if method == "PUT" else None)
        answer = connection.getresponse()
        value = answer.read()
        expected = {"PUT": (201, 204), "GET": (200, 404), "DELETE": (204, 404)}[method]
        assert answer.status in expected, (method, answer.status, value[:200])
        assert answer.status != 200 or is_whole(key, value)
        turns += 1
    connection.close()
    assert turns > 10


@pytest.mark.parametrize(
    ("processes", "seconds"),
    [(4, 3.0), pytest.param(8, 20.0, marks=[pytest.mark.soak])],
    ids=["short", "long"],
)
def test_many_processes_see_whole_values_of_their_keys(
    server: SyncServer, processes: int, seconds: float
) -> None:
    """Check 1.4.7."""
    if server.name != "granian":
        pytest.skip("one server is enough")
    port = server.port
    children = [
        Child(lambda n=n: use(port, seconds, n))  # type: ignore[misc]  # each lambda has its n
        for n in range(processes)
    ]
    assert [child.join() for child in children] == [""] * processes
