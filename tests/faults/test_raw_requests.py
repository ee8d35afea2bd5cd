"""Requests that no client library sends, over sockets, against each server that people put in front of the app.

What a server refuses by itself need not have our body; it must be a 4xx or a closed connection all the same.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from syncstore.testing.client import SyncClient, authorization
from syncstore.testing.processes import HOST, ChildProcess
from syncstore.testing.service import SECRET, SyncServer, write_ini
from syncstore.testing.transports import Live

PATIENCE = 20.0  # seconds for an answer that must come
LIMIT = 2_625_536  # limits.max_request_bytes
WAITRESS_LIMIT = 2_691_072  # as in development.ini
WAITRESS = (
    "[server:main]\nuse = egg:waitress#main\nlisten = BIND\nthreads = 4\n"
    f"max_request_body_size = {WAITRESS_LIMIT}\n"
)


class PythonServer(SyncServer):
    """pserve with waitress, or gunicorn, in place of `syncstore serve`."""

    def __init__(self, name: str, database_url: str) -> None:
        super().__init__(database_url, workers=1)
        bind = f"{HOST}:{self.port}"
        settings = {"sqlalchemy.url": database_url, "auth.secrets": SECRET, "migrate": "auto"}
        write_ini(self.directory / "syncstore.ini", settings, WAITRESS.replace("BIND", bind))
        programs = {
            "waitress": ["-m", "pyramid.scripts.pserve", "syncstore.ini"],
            "gunicorn": ["-m", "gunicorn", "--paste", "syncstore.ini", "--bind", bind, "--threads", "4"],
        }
        self.command = [sys.executable, *programs[name]]


SERVERS = ("granian", "waitress", "gunicorn")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncServer]:
    url = f"sqlite:///{tmp_path_factory.mktemp('raw') / 'sync.db'}"
    made = SyncServer(url, workers=1) if request.param == "granian" else PythonServer(request.param, url)
    made.name = request.param
    with made as running:
        yield running


@pytest.fixture
def sync(server: SyncServer) -> Iterator[SyncClient]:
    live = Live(server.url)
    yield SyncClient(random.randrange(1, 2**31), SECRET, live)
    live.close()


@pytest.fixture(autouse=True)
def unharmed(server: SyncServer, sync: SyncClient) -> Iterator[None]:
    """The server goes on, wrote no traceback, and stored nothing of what it refused."""
    sync.put("/storage/col/kept", {"payload": "kept"})
    yield
    assert sync.get("/storage/col").json == ["kept"]
    assert server.alive
    log = server.log.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in log, log[-3000:]


def exchange(server: ChildProcess, *parts: bytes, finish: bool = False) -> tuple[int, bytes]:
    """Send the parts and read one answer: its status and body, (0, b"") when the connection was closed.

    With `finish` a server that waits for more is told after a while that nothing more comes.
    """
    received = b""
    with server.connect(timeout=1.0 if finish else PATIENCE) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # it had enough, and may have said why
            for part in parts:
                connection.sendall(part)
        while not complete(received):
            try:
                more = connection.recv(65536)
            except ConnectionResetError:
                break
            except TimeoutError:
                assert finish, f"no answer within {PATIENCE} s, but {received[:200]!r}"
                finish = False
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(PATIENCE)
                continue
            if not more:
                break
            received += more
    head, _, body = final(received).partition(b"\r\n\r\n")
    if not head:
        return 0, b""
    return int(head.split(b" ", 2)[1]), body


def final(received: bytes) -> bytes:
    """What follows a word of encouragement (RFC 9110, section 15.2.1)."""
    return received.partition(b"\r\n\r\n")[2] if received.startswith(b"HTTP/1.1 100") else received


def complete(received: bytes) -> bool:
    """Whether an answer with a Content-Length is there whole."""
    head, separator, body = final(received).partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return False


def head(sync: SyncClient, method: str, path: str, *headers: str) -> bytes:
    """A signed request up to the end of its headers."""
    target = f"/1.5/{sync.uid}{path}"
    host = sync.transport.host
    signature = authorization(sync.credentials, method, target, host)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Authorization: {signature}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


JSON = "Content-Type: application/json"


@pytest.mark.parametrize("length", [LIMIT + 1, LIMIT * 100, 10**12, 10**17])
def test_a_body_over_the_limit_is_refused_before_it_comes(
    server: SyncServer, sync: SyncClient, length: int
) -> None:
    start = head(sync, "PUT", "/storage/col/new", JSON, f"Content-Length: {length}")
    sent = 1024
    if server.name == "waitress" and length <= WAITRESS_LIMIT:
        sent = length  # waitress reads whatever is within its own limit before it asks the app
    status, body = exchange(server, start, b'{"payload": "'.ljust(sent, b"x"))

    assert status == 413
    assert body == b"17" or (server.name == "waitress" and length > WAITRESS_LIMIT)


def test_who_asks_first_whether_to_send_it_is_told_not_to(server: SyncServer, sync: SyncClient) -> None:
    """But by waitress, which encourages everybody and then reads all, so here the client thinks better of it."""
    length = WAITRESS_LIMIT + 1
    start = head(sync, "PUT", "/storage/col/new", JSON, f"Content-Length: {length}", "Expect: 100-continue")
    status, body = exchange(server, start, finish=server.name == "waitress")

    assert (status, body) == (413, b"17") or (server.name == "waitress" and status in (0, 413))


def test_chunks_over_the_limit_are_refused(server: SyncServer, sync: SyncClient) -> None:
    start = head(sync, "PUT", "/storage/col/new", JSON, "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    status, body = exchange(server, start, *[chunk] * 42, b"0\r\n\r\n")

    assert status == 413
    assert body == b"17" or server.name == "waitress"


def test_an_unsigned_body_over_the_limit_is_refused_without_being_read(
    server: SyncServer, sync: SyncClient
) -> None:
    start = f"PUT /1.5/{sync.uid}/storage/col/new HTTP/1.1\r\nHost: {sync.transport.host}\r\n{JSON}\r\n"
    length = b"Content-Length: %d\r\n\r\n" % (LIMIT * 2)
    status, _ = exchange(server, start.encode() + length, b"x" * 1024)

    assert status in (401, 413)


Row = Callable[[SyncClient], list[bytes]]
PUT = "/storage/col/new"
GOOD_BODY = b'{"payload": "smuggled"}'
REFUSED: dict[str, Row] = {
    "a length that is no number": lambda sync: [head(sync, "PUT", PUT, JSON, "Content-Length: abc"), GOOD_BODY],
    "a negative length": lambda sync: [head(sync, "PUT", PUT, JSON, "Content-Length: -5"), GOOD_BODY],
    "a signed length": lambda sync: [head(sync, "PUT", PUT, JSON, "Content-Length: +23"), GOOD_BODY],
    "two lengths": lambda sync: [
        head(sync, "PUT", PUT, JSON, "Content-Length: 23", "Content-Length: 5"),
        GOOD_BODY,
    ],
    "a length too short": lambda sync: [head(sync, "PUT", PUT, JSON, "Content-Length: 5"), GOOD_BODY],
    "a bad chunk": lambda sync: [
        head(sync, "PUT", PUT, JSON, "Transfer-Encoding: chunked"),
        b"zz\r\n" + GOOD_BODY + b"\r\n0\r\n\r\n",
    ],
    "a chunk of endless size": lambda sync: [
        head(sync, "PUT", PUT, JSON, "Transfer-Encoding: chunked"),
        b"f" * 40 + b"\r\n" + GOOD_BODY,
    ],
    "an unknown coding": lambda sync: [
        head(sync, "PUT", PUT, JSON, "Transfer-Encoding: br", "Content-Length: 23"),
        GOOD_BODY,
    ],
    "a header of 250 KB": lambda sync: [head(sync, "GET", "/storage/none/x", "X-Odd: " + "x" * 250_000)],
    "a header of 250 KB for us": lambda sync: [
        head(sync, "GET", "/storage/none/x", "X-If-Modified-Since: " + "9" * 250_000)
    ],
    "a thousand headers": lambda sync: [
        head(sync, "GET", "/storage/none/x", *(f"X-Odd-{n}: x" for n in range(1000)))
    ],
    "a target of 250 KB": lambda sync: [head(sync, "GET", "/storage/none/" + "x" * 250_000)],
    "a target with bytes that are no UTF-8": lambda sync: [head(sync, "GET", "/storage/none/\xff\xfe")],
    "a query with bytes that are no UTF-8": lambda sync: [head(sync, "GET", "/storage/none/x?ids=\xff\xfe")],
    "a target with NUL": lambda sync: [head(sync, "GET", "/storage/none/\x00")],
    "an escaped NUL": lambda sync: [head(sync, "GET", "/storage/none/%00")],
    "a target with a space": lambda sync: [head(sync, "GET", "/storage/none/a b")],
    "a header with NUL": lambda sync: [head(sync, "GET", "/storage/none/x", "X-Odd: a\x00b")],
    "a header that goes on in the next line": lambda sync: [
        head(sync, "GET", "/storage/none/x", "X-Odd: a\r\n b")
    ],
    "a header without a name": lambda sync: [head(sync, "GET", "/storage/none/x", ": x")],
    "a signature that is no ASCII": lambda sync: [
        f"GET /1.5/{sync.uid}/info/quota HTTP/1.1\r\nHost: {sync.transport.host}\r\n".encode()
        + b'Authorization: Hawk id="\xff\xfe", ts="1", nonce="\xc3\x28", mac="\x80"\r\n\r\n'
    ],
    "two signatures": lambda sync: [
        head(sync, "GET", "/storage/none/x", 'Authorization: Hawk id="a", ts="1", nonce="n", mac="m"')
    ],
    "no host": lambda sync: [f"GET /1.5/{sync.uid}/info/quota HTTP/1.1\r\n\r\n".encode()],
    "an impossible host": lambda sync: [b"GET /1.5/1/info/quota HTTP/1.1\r\nHost: a b:99999\r\n\r\n"],
    "an unknown method": lambda sync: [head(sync, "STORE", "/storage/none/x")],
    "a target that is an authority": lambda sync: [b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n"],
    "a target that is a star": lambda sync: [b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    "another protocol": lambda sync: [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500],
    "another version": lambda sync: [b"GET /1.5/1/info/quota HTTP/9.9\r\nHost: localhost\r\n\r\n"],
    "a line of noise": lambda sync: [bytes(range(256)) * 4 + b"\r\n\r\n"],
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused(server: SyncServer, sync: SyncClient, what: str) -> None:
    status, body = exchange(server, *REFUSED[what](sync), finish=True)

    print(f"{server.name}: {what}: {status or 'closed'} {body[:40]!r}")  # noqa: T201  # the table, with pytest -rA
    # 501 is the servers' own word for a transfer coding that they do not know.
    assert status in (0, 501) or 400 <= status < 500, (status, body)


def test_what_follows_a_length_too_short_is_no_request(server: SyncServer, sync: SyncClient) -> None:
    """A second request hidden in the first one's body is answered as a request of its own, if at all, never obeyed
    in the name of the first."""
    hidden = f"DELETE /1.5/{sync.uid}/storage/col HTTP/1.1\r\nHost: {sync.transport.host}\r\n\r\n".encode()
    start = head(sync, "PUT", "/storage/col/new", JSON, "Content-Length: 1")
    status, _ = exchange(server, start, b"[" + hidden)

    assert status == 400


def test_an_upload_that_breaks_off_stores_nothing(server: SyncServer, sync: SyncClient) -> None:
    start = head(sync, "PUT", "/storage/col/new", JSON, f"Content-Length: {len(GOOD_BODY) + 100}")
    with server.connect(timeout=PATIENCE) as connection:
        connection.sendall(start + GOOD_BODY)
    # In chunks, granian does not tell an end from a break, so what was sent must be no JSON by itself.
    part = GOOD_BODY[:-1]
    start = head(sync, "PUT", "/storage/col/new", JSON, "Transfer-Encoding: chunked")
    with server.connect(timeout=PATIENCE) as connection:
        connection.sendall(start + b"%x\r\n" % len(part) + part + b"\r\n")
    line = b'{"id": "half", "payload": "x"}\n'
    start = head(
        sync, "POST", "/storage/col", "Content-Type: application/newlines", "Transfer-Encoding: chunked"
    )
    with server.connect(timeout=PATIENCE) as connection:
        connection.sendall(start + b"%x\r\n" % len(line) + line + b"\r\n")


def test_deep_json_goes_as_deep_as_the_parser_allows(server: SyncServer, sync: SyncClient) -> None:
    """On the threads of a server, whose stacks may be smaller than that of the main thread."""
    for body in (b"[" * 100_000 + b"]" * 100_000, b'{"payload":' * 100_000, b'[{"id":' + b"[" * 1_000_000):
        for method, path in (("PUT", "/storage/col/new"), ("POST", "/storage/col")):
            start = head(sync, method, path, JSON, f"Content-Length: {len(body)}")
            status, answer = exchange(server, start, body)

            assert status == 400
            assert answer in (b"6", b"8")


def test_logs_of_the_service_stay_on_their_lines(server: SyncServer, sync: SyncClient) -> None:
    exchange(server, head(sync, "GET", "/storage/col?limit=%0Aforged%0D"))
    exchange(server, head(sync, "GET", "/storage/col/x%0Aforged"))

    lines = server.log.read_text(encoding="utf-8", errors="replace").splitlines()
    assert not [line for line in lines if line.startswith("forged")]
