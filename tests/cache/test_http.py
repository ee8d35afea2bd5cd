"""The provider `http` keeps the contract over a mount of each provider."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from uuid import uuid4

import pytest

from syncstore.cache import making
from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    NotFound,
    NotSupported,
    Provider,
    Token,
    TooLarge,
)
from syncstore.cache.http.keys import key_of, longest, path_of
from syncstore.cache.http.provider import HttpProvider, Place
from syncstore.cache.memory import MemoryProvider
from syncstore.clock import Clock, SystemClock
from syncstore.errors import ConfigError
from syncstore.testing.cache_conformance import CacheConformance, OpenCache, OpenCaches
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.shmap_stand import PREFIX, mounted, served
from syncstore.web.shmap import Rules
from syncstore.web.shmap_deadline import Deadline
from syncstore.zookeeper.clusters import Clusters
from syncstore.zookeeper.ensemble import Ensemble, parse_hosts

PROVIDERS = {
    "memory": "memory",
    "dbm": "dbm:{folder}/cache.db",
    "shmcb": "shmcb:{folder}/cache(16777216)",
    "sql": "sql:sqlite:///{folder}/cache.sqlite timeout=20",
    "redis": "redis:{redis} timeout=20",
    "zookeeper": "zookeeper:main/{path} timeout=20",
}
"""As settings have them; those that `{redis}` and `zookeeper` name are running."""


def none(name: str) -> Any:
    raise ConfigError(f"there is no {name} in this test")


def made(
    text: str, folder: Path, clock: Clock, cluster: Callable[[str], Any] = none, **places: str
) -> Provider:
    """The cache of a setting, for a mount."""
    description = making.Description.parse(text.format(folder=folder, **places))
    options = making.Options(description.options)
    surroundings = making.Surroundings("test", clock, folder, options, cluster, none, "sqlite://")
    return making.make(description, surroundings)


@contextmanager
def made_somewhere(
    mount: str, folder: Path, clock: Clock, request: pytest.FixtureRequest
) -> Iterator[Provider]:
    """The cache of one of PROVIDERS, with the server that it needs. Skips the test where that is missing."""
    with ExitStack() as opened:
        cluster: Callable[[str], Any] = none
        places = {"redis": "", "path": uuid4().hex}
        if mount == "redis":
            places["redis"] = request.getfixturevalue("redis_server").address
        if mount == "zookeeper":
            hosts = request.getfixturevalue("zookeeper_server").hosts
            clusters = Clusters([Ensemble("main", parse_hosts(hosts))])
            opened.callback(clusters.close)
            cluster = clusters.__getitem__
        provider = made(PROVIDERS[mount], folder, clock, cluster, **places)
        opened.callback(provider.close)
        yield provider


class Last:
    """Stands for what it was told last."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)


@pytest.mark.parametrize(
    "mount",
    [mount if mount == "memory" else pytest.param(mount, marks=pytest.mark.soak) for mount in PROVIDERS],
)
class TestConformance(CacheConformance):
    @pytest.fixture
    def open_cache(
        self, mount: str, clock: SteppableClock, tmp_path: Path, request: pytest.FixtureRequest
    ) -> Iterator[OpenCache]:
        theirs: Any = Last(clock)  # of whose clocks there is one for each test

        def open_one(clock: Clock) -> Provider:
            theirs.of = clock
            return HttpProvider(place, clock, timeout=20)

        with (
            made_somewhere(mount, tmp_path, theirs, request) as behind,
            served(mounted(behind, theirs)) as port,
            OpenCaches(open_one) as open_cache,
        ):
            place = Place(False, HOST, port, PREFIX)
            yield open_cache

    @pytest.fixture
    def open_unreachable_cache(self) -> Iterator[OpenCache]:
        place = Place(False, HOST, free_port(), PREFIX)
        with OpenCaches(lambda clock: HttpProvider(place, clock)) as open_cache:
            yield open_cache


# -- keys


@pytest.mark.parametrize(
    "key",
    [b"a", b"a/b", b"..", b".", b"...", b"\0", b"\0\0", b"a\0", b"\0a", b"\x01", b"\x01\x02", b"\xff", b"%00", b"/",
     b"x" * 253, b"x" * 254, b"x" * 255, b"\0" * 600, b"x" * 254 + b"\0", b"x" * 508 + b"\0" + b"y" * 254,
     bytes(range(256)) * 3],
    ids=range(21),
)  # fmt: skip
def test_a_key_is_a_path_without_slash_zero_byte_and_dots_and_comes_back(key: bytes) -> None:
    path = path_of(key)
    assert "/" not in path
    assert "%00" not in path or b"%00" in key
    assert path not in (".", "..")
    assert key_of(f"/map/{path}", b"/map/") == key


def test_no_path_is_longer_than_there_is_room_for() -> None:
    for room in (1, 2, 3, 100, 245, 255, 256, 257, 258, 509, 510, 511, 512, 1000):
        longest_key = longest(room)
        for filling in (b"\0", b"\x01", b"x\0", b"\x01" * 300 + b"\0"):
            key = (filling * (longest_key // len(filling) + 1))[:longest_key]
            assert len(unquote_to_bytes(path_of(key))) <= max(room, 2)


def test_a_path_that_is_no_key_of_ours_is_none() -> None:
    assert key_of("/other/a", b"/map/") is None
    assert key_of("/map/%01%09abc", b"/map/") is None


# -- what is no answer of a mount's


class Peer:
    """A server that answers each request with the next of some bytes, and notes what it was sent."""

    def __init__(self, *answers: bytes, hang_up: bool = False) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._answers = list(answers)
        self._hang_up = hang_up
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            with connection:
                while (request := self._request(connection)) and self._answers:
                    self.requests.append(request)
                    connection.sendall(self._answers.pop(0))
                    if self._hang_up:
                        break

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        came = b""
        while b"\r\n\r\n" not in came:
            try:
                more = connection.recv(65536)
            except OSError:
                return b""
            if not more:
                return b""
            came += more
        head, _, body = came.partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or b"0")
        while len(body) < length:
            body += connection.recv(65536)
        return came

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Some Reason", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


ABOUT = (
    b"HTTP/1.1 204 No Content\r\nX-Shmap: ok\r\nX-Shmap-Max-Key: 250\r\nX-Shmap-Max-Value: 100000\r\n"
    b"X-Shmap-Ttl-Step: 0\r\nX-Shmap-Features: cas,iterate\r\nX-Shmap-Key-Prefix: /map/\r\n\r\n"
)
GOOD = answer(200, b"value", X_Shmap="ok", ETag='"abc.1"')

NO_ANSWERS = {
    "a proxy's 404": answer(404, b"<html>no such page</html>"),
    "a page": answer(200, b"<html>log in</html>", ETag='"abc.1"'),
    "another word": answer(404, X_Shmap="ok"),
    "another status": answer(200, X_Shmap="not-found"),
    "an unknown word": answer(200, b"", X_Shmap="fine", ETag='"abc.1"'),
    "no tag": answer(200, b"value", X_Shmap="ok"),
    "a tag of others": answer(200, b"value", X_Shmap="ok", ETag='W/"abc.1"'),
    "no time": answer(200, b"value", X_Shmap="ok", ETag='"abc.1"', X_Shmap_Expires_At="soon"),
    "a status without a body": b"HTTP/1.1 204 No Content\r\nX-Shmap: ok\r\nETag: \"abc.1\"\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\nX-Shmap: ok\r\nETag: \"abc.1\"\r\n\r\nvalue",
    "chunks": b"HTTP/1.1 200 OK\r\nX-Shmap: ok\r\nETag: \"abc.1\"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "too long": b"HTTP/1.1 200 OK\r\nX-Shmap: ok\r\nETag: \"abc.1\"\r\nContent-Length: 100001\r\n\r\n",
    "an endless length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "an endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    "noise": bytes(range(256)) + b"\r\n\r\n",
    "an answer that breaks off": answer(200, b"value", X_Shmap="ok", ETag='"abc.1"')[:-1],
    "a wrong secret": answer(403, X_Shmap="forbidden"),
    "no secret": answer(401, X_Shmap="unauthorized"),
    "unavailable": answer(503, X_Shmap="unavailable"),
    "a proxy's 502": answer(502),
    "a redirection": answer(302, Location="http://elsewhere/"),
}  # fmt: skip


@contextmanager
def http(port: int, **more: Any) -> Iterator[HttpProvider]:
    cache = HttpProvider(Place(False, HOST, port, PREFIX), SystemClock(), **{"timeout": 5.0, **more})
    try:
        yield cache
    finally:
        cache.close()


@pytest.mark.parametrize("what", NO_ANSWERS)
def test_what_is_no_answer_of_a_mount_is_neither_a_miss_nor_a_hit(what: str) -> None:
    with (
        Peer(ABOUT, NO_ANSWERS[what], hang_up=True) as peer,
        http(peer.port) as cache,
        pytest.raises(BackendUnavailable),
    ):
        cache.retrieve(b"a")


@pytest.mark.parametrize("what", ["a proxy's 404", "a page", "a status without a body", "no secret", "noise"])
def test_nor_is_it_one_of_options(what: str) -> None:
    with (
        Peer(NO_ANSWERS[what], hang_up=True) as peer,
        http(peer.port) as cache,
        pytest.raises(BackendUnavailable),
    ):
        cache.limits  # noqa: B018 - asks


def test_a_wrong_path_on_the_right_node_is_unavailable() -> None:
    clock = SystemClock()
    with served(mounted(MemoryProvider(clock), clock)) as port:
        wrong = HttpProvider(Place(False, HOST, port, "/mapp"), clock)
        with pytest.raises(BackendUnavailable, match="answered 404"):
            wrong.retrieve(b"a")
        wrong.close()


def test_an_encouragement_before_an_answer_is_passed_over() -> None:
    with Peer(ABOUT, b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD) as peer, http(peer.port) as cache:
        assert cache.retrieve(b"a") == (b"value", Token("abc", 1), 0.0)


# -- connections


def test_one_connection_serves_many_requests() -> None:
    with Peer(ABOUT, *[GOOD] * 5) as peer, http(peer.port) as cache:
        for _ in range(5):
            cache.retrieve(b"a")
        assert peer.connections == 1


def test_a_get_on_a_connection_that_has_ended_is_sent_once_more() -> None:
    with Peer(ABOUT, GOOD, GOOD, hang_up=True) as peer, http(peer.port) as cache:
        for _ in range(2):
            assert cache.retrieve(b"a").value == b"value"
        assert len(peer.requests) == 3


class EndsUnnoticed(Peer):
    """Hangs up only when the second request has come on a connection, so that nobody sees it before."""

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                if request := self._request(connection):
                    self.requests.append(request)
                    connection.sendall(self._answers.pop(0))
                if request := self._request(connection):
                    self.requests.append(request)


def test_only_what_may_be_done_twice_is_sent_twice() -> None:
    put = answer(201, X_Shmap="ok", ETag='"abc.1"')
    with EndsUnnoticed(ABOUT, GOOD, put) as peer, http(peer.port) as cache:
        assert cache.retrieve(b"a").value == b"value"  # sent on the first connection, then on a second
        assert [request[:3] for request in peer.requests] == [b"OPT", b"GET", b"GET"]
        for change in (
            lambda: cache.store(b"a", b"x"),
            lambda: cache.store(b"a", b"x", expect=ABSENT),
            lambda: cache.remove(b"a", expect=Token("abc", 1)),
        ):
            before = len(peer.requests)
            with pytest.raises(BackendUnavailable, match="closed without an answer"):
                change()
            assert len(peer.requests) == before + 1
            cache._connections.close()
            with suppress(BackendUnavailable):
                peer._answers.insert(0, GOOD)
                cache.retrieve(b"a")  # so that there is a connection that will end


def test_a_server_that_sends_a_byte_now_and_then_is_not_waited_for() -> None:
    """The time is that of the whole answer."""

    class Dripping(Peer):
        def _serve(self) -> None:
            connection, _ = self._listener.accept()
            with connection, suppress(OSError):
                self._request(connection)
                for byte in ABOUT:
                    connection.sendall(bytes([byte]))
                    if done.wait(0.05):
                        return

    done = threading.Event()
    with Dripping() as peer, http(peer.port, timeout=0.3) as cache:
        began = time.monotonic()
        with pytest.raises(BackendUnavailable):
            cache.retrieve(b"a")
        assert time.monotonic() - began < 5
        done.set()


# -- over a mount


def test_a_mount_s_secret_is_sent() -> None:
    clock = SystemClock()
    with served(mounted(MemoryProvider(clock), clock, secrets=("a-secret-of-mounts",))) as port:
        with http(port, token="a-secret-of-mounts") as cache:
            cache.store(b"a", b"x")
            assert cache.retrieve(b"a").value == b"x"
        for token in ("", "another"):
            with http(port, token=token) as cache, pytest.raises(BackendUnavailable, match=r"40[13]"):
                cache.retrieve(b"a")


def test_keys_are_those_that_curl_would_name() -> None:
    clock = SystemClock()
    behind = MemoryProvider(clock)
    with served(mounted(behind, clock)) as port, http(port) as cache:
        cache.store("schlüssel/a b".encode(), b"x")
        assert behind.retrieve("/map/schlüssel/a b".encode()).value == b"x"


def test_all_keys_are_listed_over_several_pages() -> None:
    clock = SystemClock()
    behind = MemoryProvider(clock)
    with served(mounted(behind, clock)) as port, http(port) as cache:
        names = {b"%d\0%%/?&" % number for number in range(450)}
        for name in names:
            cache.store(name, name)
        behind.store(b"of nobody here", b"x")
        assert {key: item.value for key, item in cache.iterate()} == {name: name for name in names}


def test_a_mount_that_does_not_list_says_so() -> None:
    clock = SystemClock()
    with served(mounted(MemoryProvider(clock), clock, rules=Rules())) as port, http(port) as cache:
        assert not cache.features.iterable
        with pytest.raises(NotSupported):
            cache.iterate()


def test_its_status_is_the_mount_s() -> None:
    clock = SystemClock()
    with served(mounted(MemoryProvider(clock), clock)) as port, http(port) as cache:
        cache.store(b"a", b"x")
        facts: Mapping[str, Any] = cache.status()
        assert (facts["mounted"], facts["items"]) == ("memory", 1)


def test_a_limit_that_was_lowered_meanwhile_is_a_refusal() -> None:
    clock = SystemClock()
    large, small = MemoryProvider(clock), MemoryProvider(clock, max_value=10)
    behind: Any = Last(large)
    with served(mounted(behind, clock, deadline=Deadline(5))) as port, http(port) as cache:
        assert cache.limits.max_value == large.limits.max_value
        behind.of = small
        with pytest.raises(TooLarge):
            cache.store(b"a", b"x" * 11)
        with pytest.raises(NotFound):
            cache.retrieve(b"a")


def test_a_node_may_be_a_node_of_another_node() -> None:
    clock = SystemClock()
    behind = MemoryProvider(clock)
    with (
        served(mounted(behind, clock)) as far,
        http(far) as between,
        served(mounted(between, clock)) as near,
        http(near) as cache,
    ):
        token = cache.store(b"\0a", b"x", clock.seconds() + 100, expect=ABSENT)
        assert cache.store(b"\0a", b"y", expect=token) != token
        assert cache.retrieve(b"\0a").value == b"y"
        assert len(list(behind.iterate())) == 1
