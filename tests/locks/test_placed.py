"""Locks on several memcacheds: each user's at his home, wherever the others are, and never anywhere else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.provider import MemcachedProvider
from syncstore.clock import SystemClock
from syncstore.errors import LockLost, LockTimeout, LockUnavailable
from syncstore.locks.api import WHOLE_STORAGE, Locks
from syncstore.locks.memcached import MemcachedLocks
from syncstore.locks.placed import PlacedLocks
from syncstore.testing.cache_locks import open_placed_locks
from syncstore.testing.lock_conformance import LockConformance
from syncstore.testing.lock_holder import OpenLocks
from syncstore.testing.plugin import started
from syncstore.testing.processes import HOST, free_port
from syncstore.testing.servers import MemcachedServer

EVEN, ODD = 8, 7
CLOCK = SystemClock()
_numbers = itertools.count(1)


@pytest.mark.soak
class TestOnSeveral(LockConformance):
    """Every rule of locks, with leases as in test_memcached_server.py.

    A soak, since it is each server's locks that keep the rules, which are proved there.
    """

    freed_after_death = freed_after_pause = 5.0 + 2.5

    @pytest.fixture
    def open_locks(self, memcached_server: MemcachedServer) -> Iterator[OpenLocks]:
        with started(MemcachedServer) as two, started(MemcachedServer) as three:
            addresses = (memcached_server.address, two.address, three.address)
            yield partial(open_placed_locks, addresses, ttl=5.0)

    @pytest.fixture
    def open_unreachable_locks(self) -> OpenLocks:
        return partial(open_placed_locks, [f"{HOST}:{free_port()}" for _ in range(3)])


class Homes:
    """Two homes, those of users with even and odd numbers; one of them may be away."""

    def __init__(self, even: str, odd: str) -> None:
        self._prefix = f"placed{next(_numbers)}"
        self._addresses = {"even": even, "odd": odd}
        self._opened: list[MemcachedLocks] = []

    def alone(self, name: str) -> MemcachedLocks:
        """The locks of one server, as somebody knows them who has but that."""
        provider = MemcachedProvider(
            Address.parse(self._addresses[name]),
            CLOCK,
            prefix=f"{self._prefix}-{name}:".encode(),
            timeout=5.0,
            connect_timeout=5.0,
        )
        self._opened.append(MemcachedLocks(provider, CLOCK, ttl=60.0, shared_reads=True))
        return self._opened[-1]

    def placed(self) -> PlacedLocks:
        even, odd = self.alone("even"), self.alone("odd")
        return PlacedLocks([even, odd], lambda uid: odd if uid % 2 else even)

    def close(self) -> None:
        for locks in self._opened:
            locks.close()


OpenHomes = Callable[[str, str], Homes]


@pytest.fixture
def open_homes() -> Iterator[OpenHomes]:
    opened: list[Homes] = []

    def open_them(even: str, odd: str) -> Homes:
        opened.append(Homes(even, odd))
        return opened[-1]

    yield open_them
    for homes in opened:
        homes.close()


@pytest.fixture
def homes(memcached_server: MemcachedServer, open_homes: OpenHomes) -> Homes:
    return open_homes(memcached_server.address, memcached_server.address)


def test_a_user_s_locks_are_at_his_home(homes: Homes) -> None:
    locks = homes.placed()
    for uid, home, other in ((EVEN, "even", "odd"), (ODD, "odd", "even")):
        grant = locks.acquire((uid, "tabs"), "write", 1)
        with pytest.raises(LockTimeout):
            homes.alone(home).acquire((uid, "tabs"), "write", 0)
        homes.alone(other).acquire((uid, "tabs"), "write", 0).release()
        grant.release()
        homes.alone(home).acquire((uid, "tabs"), "write", 0).release()


def test_all_who_agree_on_homes_keep_each_other_out(homes: Homes) -> None:
    one, two = (Locks(homes.placed(), CLOCK, 0.05) for _ in range(2))
    for uid in (EVEN, ODD):
        with one.write(uid, "tabs"):
            with pytest.raises(LockTimeout), two.write(uid, "tabs"):
                pass
            with two.write(uid, "forms"):
                pass
        with two.write(uid, "tabs"):
            pass


def test_while_a_home_is_away_its_users_have_no_locks_and_the_others_have_theirs(
    memcached_server: MemcachedServer, open_homes: OpenHomes
) -> None:
    locks = open_homes(memcached_server.address, f"{HOST}:{free_port()}").placed()
    with pytest.raises(LockUnavailable):
        locks.acquire((ODD, "tabs"), "write", 1)
    locks.acquire((EVEN, "tabs"), "write", 1).release()


def test_locks_are_forgotten_at_the_homes_of_their_users(homes: Homes) -> None:
    locks = homes.placed()
    keys = [(uid, name) for uid in (EVEN, ODD) for name in (WHOLE_STORAGE, "tabs")]
    grants = [locks.acquire(key, "write", 1) for key in keys]
    assert locks.forget([*keys, (EVEN, "forms")]) == len(keys)
    for grant in grants:
        with pytest.raises(LockLost):
            grant.release()


def test_there_is_nothing_to_sweep(homes: Homes) -> None:
    locks = homes.placed()
    assert (locks.name, list(locks.sweep())) == ("memcached", [])


def test_all_connections_are_closed(homes: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[MemcachedLocks] = []
    monkeypatch.setattr(MemcachedLocks, "close", lambda locks: closed.append(locks))
    homes.placed().close()
    assert len(set(closed)) == 2
