"""The nginx of tests: a proxy that starts with any configuration, and says what is wrong with one that is none."""

from __future__ import annotations

import http.client

import pytest

from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, StartFailed, free_port
from syncstore.testing.servers import NginxServer


def test_it_serves_what_it_is_told_and_comes_back_on_its_port() -> None:
    port = free_port()
    with started(
        lambda: NginxServer(f"server {{ listen {HOST}:{port}; return 200 hello; }}", port)
    ) as server:
        server.restart()
        connection = http.client.HTTPConnection(HOST, port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        connection.close()
        directory = server.directory
    assert not directory.exists()


def test_a_configuration_that_is_none_is_told() -> None:
    with pytest.raises(StartFailed, match='unknown directive "serve"'):
        started(lambda: NginxServer("serve it;", free_port()))
