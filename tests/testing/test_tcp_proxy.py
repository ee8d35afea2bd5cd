"""The TCP proxy passes everything on, but for what it is told to spoil."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncstore.testing.processes import HOST
from syncstore.testing.tcp_proxy import SILENT, WELL, Fault, TcpProxy

PATIENCE = 10.0


class Echo:
    """A server that sends everything back, in capitals."""

    def __init__(self) -> None:
        self.received = bytearray()
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._echo, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.received += data
                    connection.sendall(data.upper())
            except OSError:
                pass

    def close(self) -> None:
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[TcpProxy]:
    with TcpProxy(echo.port) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), PATIENCE)


def read(client: socket.socket, size: int) -> bytes:
    """As many bytes, or what there was before the end."""
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def say(client: socket.socket, words: bytes) -> bytes:
    client.sendall(words)
    return read(client, len(words))


def silent(client: socket.socket, seconds: float = 0.1) -> bool:
    client.settimeout(seconds)
    try:
        return not client.recv(1) and False
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)


def test_it_passes_on_what_it_gets(proxy: TcpProxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert say(one, b"abc") == b"ABC"
        assert say(other, b"def") == b"DEF"
        assert say(one, b"x" * 300_000) == b"X" * 300_000
    assert proxy.accepted == 2
    assert proxy.requests.startswith(b"abcdefxxx")
    assert len(proxy.requests) == 300_006


def test_it_closes_when_either_side_does(echo: Echo, proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert say(client, b"a") == b"A"
        assert proxy.connections == 1
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_it_delays(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.fault = Fault(delay=0.1)
        began = time.monotonic()
        assert say(client, b"abc") == b"ABC"
        assert time.monotonic() - began >= 0.2
        proxy.fault = WELL
        assert say(client, b"def") == b"DEF"


def test_it_swallows_both_ways(echo: Echo, proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert say(client, b"a") == b"A"
        proxy.fault = SILENT
        client.sendall(b"bcd")
        assert silent(client)
        with connect(proxy) as later:  # it is accepted, and no more
            later.sendall(b"efg")
            assert silent(later)
        assert echo.received == b"a"
        proxy.fault = WELL
        assert say(client, b"h") == b"H"


def test_it_swallows_replies_alone(echo: Echo, proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.fault = Fault(swallow_replies=True)
        client.sendall(b"abc")
        assert silent(client)
        assert echo.received == b"abc"


def test_it_dribbles(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.fault = Fault(dribble=0.02)
        client.sendall(b"abcdef")
        whole = client.recv(100)
        assert len(whole) < 6
        assert whole + read(client, 6 - len(whole)) == b"ABCDEF"


@pytest.mark.parametrize("bytes_before", [0, 1, 5])
def test_it_cuts_in_the_middle_of_a_reply(echo: Echo, proxy: TcpProxy, bytes_before: int) -> None:
    with connect(proxy) as client:
        assert say(client, b"before") == b"BEFORE"
        proxy.fault = Fault(cut_after=bytes_before)
        client.sendall(b"abcdef")
        assert read(client, 100) == b"ABCDEF"[:bytes_before]
    assert echo.received == b"beforeabcdef"


def test_it_cuts_in_the_middle_of_a_request(echo: Echo, proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.fault = Fault(requests_cut_after=3)
        client.sendall(b"abcdef")
        assert len(read(client, 100)) <= 3
    proxy.close()
    assert b"abc".startswith(echo.received)


@pytest.mark.parametrize("reset", [False, True])
def test_it_cuts_what_is_open(echo: Echo, reset: bool) -> None:
    with TcpProxy(echo.port, reset=reset) as proxy, connect(proxy) as one, connect(proxy) as other:
        assert (say(one, b"a"), say(other, b"b")) == (b"A", b"B")
        proxy.cut()
        for client in (one, other):
            if reset:
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            else:
                assert client.recv(1) == b""
        assert proxy.connections == 0
        with connect(proxy) as later:
            assert say(later, b"c") == b"C"


def test_it_refuses_and_comes_back(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert say(client, b"abc") == b"ABC"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert say(client, b"abc") == b"ABC"
        proxy.accept()
        with connect(proxy) as later:
            assert say(later, b"def") == b"DEF"


def test_a_server_that_is_away_is_a_connection_that_ends(echo: Echo, proxy: TcpProxy) -> None:
    echo.close()
    with connect(proxy) as client:
        assert client.recv(1) == b""


def test_it_closes_while_it_delays(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert say(client, b"a") == b"A"
        proxy.fault = Fault(delay=1000)
        client.sendall(b"abc")
        while not proxy.requests.endswith(b"abc"):
            pass
        proxy.close()
        assert client.recv(1) == b""


def test_it_listens_on_a_unix_socket(echo: Echo, tmp_path: Path) -> None:
    with TcpProxy(echo.port, path=tmp_path / "socket", keep=False) as proxy:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(proxy.address)
            client.sendall(b"hello")
            assert client.recv(100) == b"HELLO"
        proxy.refuse()
        with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
            client.connect(proxy.address)
        proxy.accept()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(proxy.address)
        assert proxy.requests == b""
