"""The seeding client against a socket that answers word by word."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from bench.client import Connection
from bench.signing import Request, User

REQUEST = Request(User(1, "token", "key"), "GET", "/info/collections")


@contextmanager
def server_saying(pieces: Sequence[bytes]) -> Iterator[str]:
    """The URL of a server that sends `pieces` one by one after the first request, then closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            thread.join(10)


def test_an_answer_in_pieces_is_put_together() -> None:
    with (
        server_saying([b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 4\r\n\r\nbo", b"dy"]) as url,
        Connection(url, 5.0) as connection,
    ):
        answer = connection.send(REQUEST)

    assert (answer.status, answer.body) == (200, b"body")


def test_not_modified_has_no_body() -> None:
    with (
        server_saying([b"HTTP/1.1 304 Not Modified\r\nX-Last-Modified: 1.00\r\n\r\n"]) as url,
        Connection(url, 5.0) as connection,
    ):
        answer = connection.send(REQUEST)

    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_a_server_that_hangs_up_is_an_error(said: bytes) -> None:
    with (
        server_saying([said]) as url,
        Connection(url, 5.0) as connection,
        pytest.raises(ConnectionResetError),
    ):
        connection.send(REQUEST)


def test_an_answer_of_unknown_length_is_an_error() -> None:
    with (
        server_saying([b"HTTP/1.1 200 OK\r\n\r\n"]) as url,
        Connection(url, 5.0) as connection,
        pytest.raises(OSError, match="without a length"),
    ):
        connection.send(REQUEST)
