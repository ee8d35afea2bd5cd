"""Asking a server: every way in which no answer comes, and that none of them takes long."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from syncstore.doctor.client import Client, Unanswered, Why
from syncstore.doctor.views import origin_of
from syncstore.testing.certificates import make_certificate
from syncstore.testing.processes import HOST, free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Weave-Timestamp: 1.00\r\n\r\nhello"


@contextmanager
def serving(answer: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that takes one connection; its address."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with connection if tls is None else tls.wrap_socket(connection, server_side=True) as peer:
                    answer(peer)
            except OSError:
                pass  # the client has left

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"{HOST}:{listener.getsockname()[1]}"
        thread.join(30)


def client(url: str, trust: ssl.SSLContext | None = None, patience: float = 10.0) -> Client:
    return Client(origin_of(url), trust or ssl.create_default_context(), patience=patience)


def why(asking: Client) -> Why:
    with pytest.raises(Unanswered) as caught:
        asking.ask("GET", "/")
    return caught.value.why


def test_an_answer_and_the_request_as_it_was_sent() -> None:
    heard = b""

    def answer(peer: socket.socket) -> None:
        nonlocal heard
        heard = peer.recv(4096)
        peer.sendall(OK)

    with serving(answer) as place:
        reply = client(f"http://{place}/prefix").ask("GET", "/%7Ba%7D?b=%2F+", {"X-Test": "1"})
    assert (reply.status, reply.body, reply.of_syncstore) == (200, b"hello", True)
    assert heard.startswith(b"GET /%7Ba%7D?b=%2F+ HTTP/1.1\r\n")
    assert f"Host: {place}\r\nX-Test: 1\r\n".encode() in heard


def test_a_server_that_says_nothing_is_left() -> None:
    left = threading.Event()

    def answer(_: socket.socket) -> None:
        left.wait(30)

    with serving(answer) as place:
        began = time.monotonic()
        assert why(client(f"http://{place}", patience=0.3)) is Why.SILENT
        assert time.monotonic() - began < 20
        left.set()


def test_a_server_that_says_a_byte_now_and_then_is_left_too() -> None:
    def answer(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            peer.sendall(b"x")
            time.sleep(0.02)

    with serving(answer) as place:
        assert why(client(f"http://{place}", patience=0.5)) is Why.SILENT


@pytest.mark.parametrize("nonsense", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 two hundred\r\n\r\n"])
def test_what_is_no_http(nonsense: bytes) -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(nonsense)

    with serving(answer) as place:
        assert why(client(f"http://{place}")) is Why.BROKEN


def test_an_answer_without_end_is_read_so_far() -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000)

    with serving(answer) as place:
        assert len(client(f"http://{place}").ask("GET", "/").body) == 65_536


def test_a_refusal_of_the_body_is_heard() -> None:
    def answer(peer: socket.socket) -> None:
        peer.recv(100)
        peer.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(65_536):
            pass

    with serving(answer) as place:
        assert client(f"http://{place}").ask("POST", "/", body=b"x" * 1_000_000).status == 413


def test_nobody_and_nowhere() -> None:
    assert why(client(f"http://{HOST}:{free_port()}")) is Why.REFUSED
    assert why(client("http://nowhere.invalid")) is Why.UNKNOWN_NAME
    assert why(client(f"http://{'x' * 64}.invalid")) is Why.UNKNOWN_NAME, "no name can be that long"


# -- TLS


@pytest.mark.parametrize(
    ("names", "starts", "ends", "expected"),
    [
        (["elsewhere.example"], -1, 1, Why.OTHER_NAME),
        ([HOST], -2, -1, Why.EXPIRED),
        ([HOST], 1, 2, Why.NOT_YET_VALID),
    ],
)
def test_certificates_that_are_wrong(
    tmp_path: Path, names: list[str], starts: int, ends: int, expected: Why
) -> None:
    made = make_certificate(tmp_path, names, starts=timedelta(days=starts), ends=timedelta(days=ends))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    trust = ssl.create_default_context(cafile=str(made.certificate))
    with serving(lambda peer: peer.sendall(OK), tls) as place:
        assert why(client(f"https://{place}", trust)) is expected


def test_a_certificate_of_nobody_known(tmp_path: Path) -> None:
    made = make_certificate(tmp_path, [HOST])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    with serving(lambda peer: peer.sendall(OK), tls) as place:
        assert why(client(f"https://{place}")) is Why.UNTRUSTED
    with serving(lambda peer: peer.sendall(OK), tls) as place:
        assert client(f"http://{place}").speaks_tls()


def test_no_tls_where_it_is_expected() -> None:
    with serving(lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as place:
        assert why(client(f"https://{place}")) is Why.NO_TLS
    with serving(lambda peer: peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as place:
        assert not client(f"http://{place}").speaks_tls()
