"""Markers on a real memcached: a group has a server for itself, as long as its hosts are alive."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from syncstore.cache.api import BackendUnavailable, Conflict, Expect, StorageFull, Token
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.claims import LIFE, Claims, Marker, Taken
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.cache.memory import MemoryProvider
from syncstore.testing.clocks import SteppableClock
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import MemcachedServer

_numbers = itertools.count(1)


@pytest.fixture
def clock() -> SteppableClock:
    return SteppableClock()


@pytest.fixture
def marks(memcached_server: MemcachedServer, clock: SteppableClock) -> Iterator[MemcachedProvider]:
    """The way to the markers of an installation of this test's own."""
    address = Address.parse(memcached_server.address)
    prefix = b"claims%d:" % next(_numbers)
    with_patience = MemcachedProvider(address, clock, prefix=prefix, timeout=20.0, connect_timeout=20.0)
    yield with_patience
    with_patience.close()


Host = Callable[[str], Claims]


@pytest.fixture
def ours(clock: SteppableClock) -> Host:
    return lambda host: Claims("our group", host, clock)


@pytest.fixture
def theirs(clock: SteppableClock) -> Host:
    return lambda host: Claims("their group", host, clock)


def hosts(marks: MemcachedProvider) -> set[str]:
    return set(msgspec.json.decode(marks.retrieve(b"group").value, type=Marker).hosts)


def is_free(marks: MemcachedProvider) -> bool:
    return marks.fetch([b"group"]) == [None]


# -- whose it is


def test_all_hosts_of_a_group_may_claim_a_server(marks: MemcachedProvider, ours: Host) -> None:
    for _ in range(2):
        for host in ("web1", "web2", "web3"):
            ours(host).claim(marks)
    assert hosts(marks) == {"web1", "web2", "web3"}


def test_another_group_is_refused_and_told_who_has_it(
    marks: MemcachedProvider, ours: Host, theirs: Host
) -> None:
    for host in ("web2", "web1"):
        ours(host).claim(marks)
    with pytest.raises(Taken, match=r"^web1, web2$") as refused:
        theirs("web3").claim(marks)
    assert refused.value.hosts == ["web1", "web2"]
    assert hosts(marks) == {"web1", "web2"}


def test_the_same_host_with_other_settings_is_another_group(
    marks: MemcachedProvider, ours: Host, theirs: Host
) -> None:
    ours("web1").claim(marks)
    with pytest.raises(Taken, match="web1"):
        theirs("web1").claim(marks)


def test_another_server_is_not_concerned(
    marks: MemcachedProvider, ours: Host, theirs: Host, clock: SteppableClock
) -> None:
    ours("web1").claim(marks)
    theirs("web2").claim(MemoryProvider(clock))


# -- how long


def test_the_entry_of_a_host_that_died_ends_and_those_of_the_others_stay(
    marks: MemcachedProvider, ours: Host, theirs: Host, clock: SteppableClock
) -> None:
    ours("web1").claim(marks)
    clock.step(LIFE / 2)
    ours("web2").claim(marks)
    assert hosts(marks) == {"web1", "web2"}
    clock.step(LIFE / 2)
    with pytest.raises(Taken) as refused:
        theirs("web3").claim(marks)
    assert refused.value.hosts == ["web2"], "web1 did not renew it"
    ours("web2").claim(marks)
    assert hosts(marks) == {"web2"}


def test_when_no_host_of_a_group_is_alive_another_has_the_server(
    marks: MemcachedProvider, ours: Host, theirs: Host, clock: SteppableClock
) -> None:
    ours("web1").claim(marks)
    clock.step(LIFE - 0.001)
    with pytest.raises(Taken):
        theirs("web2").claim(marks)
    clock.step(0.001)
    theirs("web2").claim(marks)
    assert hosts(marks) == {"web2"}
    with pytest.raises(Taken, match="web2"):
        ours("web1").claim(marks)


def test_a_marker_ends_by_itself_in_memcached_too(clock: SteppableClock, ours: Host) -> None:
    memory = MemoryProvider(clock)
    ours("web1").claim(memory)
    clock.step(LIFE + 10)
    assert memory.fetch([b"group"]) == [None]


# -- leaving


def test_a_host_that_leaves_takes_its_name_away_and_the_last_one_the_marker(
    marks: MemcachedProvider, ours: Host, theirs: Host
) -> None:
    for host in ("web1", "web2"):
        ours(host).claim(marks)
    ours("web1").withdraw(marks)
    assert hosts(marks) == {"web2"}
    ours("web2").withdraw(marks)
    assert is_free(marks)
    theirs("web3").claim(marks)


def test_who_has_no_claim_takes_nothing_away(marks: MemcachedProvider, ours: Host, theirs: Host) -> None:
    ours("web1").withdraw(marks)
    assert is_free(marks)
    ours("web1").claim(marks)
    ours("web2").withdraw(marks)
    theirs("web1").withdraw(marks)
    assert hosts(marks) == {"web1"}


# -- at once


@pytest.mark.parametrize("several", [16])
def test_many_who_claim_at_once_all_get_it(marks: MemcachedProvider, ours: Host, several: int) -> None:
    together = threading.Barrier(several)

    def claim(number: int) -> None:
        together.wait(20)
        for _ in range(5):
            ours(f"web{number}").claim(marks)

    with ThreadPoolExecutor(several) as threads:
        list(threads.map(claim, range(several)))
    assert hosts(marks) == {f"web{number}" for number in range(several)}


def test_a_marker_that_is_not_changed_by_anybody_else_is_changed_at_once(
    marks: MemcachedProvider, ours: Host, clock: SteppableClock
) -> None:
    ours("web1").claim(marks)
    ours("web2").claim(marks)
    ours("web1").withdraw(marks)
    assert clock.slept == 0


def test_of_two_groups_that_claim_at_once_one_has_it(
    marks: MemcachedProvider, ours: Host, theirs: Host
) -> None:
    together = threading.Barrier(8)

    def claim(number: int) -> str:
        group, name = ((ours, "ours"), (theirs, "theirs"))[number % 2]
        together.wait(20)
        try:
            group(f"web{number}").claim(marks)
        except Taken:
            return ""
        return name

    with ThreadPoolExecutor(8) as threads:
        had = set(threads.map(claim, range(8))) - {""}
    assert len(had) == 1


def test_many_who_leave_at_once_leave_nothing(marks: MemcachedProvider, ours: Host) -> None:
    several = 8
    for number in range(several):
        ours(f"web{number}").claim(marks)
    together = threading.Barrier(several)

    def withdraw(number: int) -> None:
        together.wait(20)
        ours(f"web{number}").withdraw(marks)

    with ThreadPoolExecutor(several) as threads:
        list(threads.map(withdraw, range(several)))
    assert is_free(marks)


# -- what may be in the way


@pytest.mark.parametrize("found", [b"", b"{}", b'{"group":"x","hosts":[]}', b"\xff", b"[1]"])
def test_what_is_no_marker_is_replaced(marks: MemcachedProvider, ours: Host, found: bytes) -> None:
    marks.store(b"group", found)
    ours("web1").claim(marks)
    assert hosts(marks) == {"web1"}


def test_a_server_that_is_away_is_not_known_to_be_claimed(clock: SteppableClock, ours: Host) -> None:
    away = MemcachedProvider(Address.parse(f"{HOST}:{free_port()}"), clock)
    with pytest.raises(BackendUnavailable):
        ours("web1").claim(away)
    ours("web1").withdraw(away)
    away.close()


class Awkward(MemoryProvider):
    """Refuses every change with an error."""

    def __init__(self, clock: SteppableClock, error: Exception) -> None:
        super().__init__(clock)
        self.error = error

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        raise self.error


@pytest.mark.parametrize("error", [StorageFull("no room"), Conflict("others"), BackendUnavailable("silent")])
def test_what_cannot_be_written_is_not_claimed(clock: SteppableClock, ours: Host, error: Exception) -> None:
    with pytest.raises(BackendUnavailable):
        ours("web1").claim(Awkward(clock, error))
