"""An operator's say in a group of memcacheds while it runs, in Python: what is there, how it is, in use or not.

The command line has the same (`syncstore cache servers | down | up | check`). All states are shared: what is said
here holds for every process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from syncstore.cache.api import BackendError
from syncstore.cache.memcached.address import Address
from syncstore.cache.memcached.checking import check
from syncstore.cache.memcached.group import Group, Member
from syncstore.cache.memcached.records import Standing, standing
from syncstore.cache.memcached.ring import tag_of
from syncstore.clock import Clock

DOWN, UP, ANSWERING = 0, 1, 2
"""What `get_server_status` says: out of use, in use, in use and answering now."""


class UnknownServer(LookupError):
    """The group has no server at that address."""


class NewServer(NamedTuple):
    """A server that is to join: its weight is part of the group's; times are in seconds."""

    name: str
    address: Address
    timeout: float
    retry_interval: float


class ServerState(NamedTuple):
    """A server as all processes see it. `since` is in milliseconds since the epoch."""

    name: str
    address: str
    standing: Standing | None
    epoch: int
    since: int
    reason: str
    by: str


class Control:
    """The say in one group. `join` makes a member of a server; it opens no connection."""

    def __init__(self, group: Group, join: Callable[[NewServer], Member], clock: Clock) -> None:
        self._group = group
        self._join = join
        self._clock = clock

    def add_server(
        self,
        host: str,
        port: int = 11211,
        *,
        name: str | None = None,
        weight: int = 1,
        timeout: float = 0.25,
        retry_interval: float = 15.0,
        status: bool = True,
    ) -> None:
        """Add a server, which is connected to when it is needed. Raises ValueError.

        With a `status` of false it has its place, and its keys are out of use, until `retry_interval` has passed; for
        good, when that is -1. For pools of values that may be missed (see Group.add).
        """
        address = _address(host, port)
        _check(timeout, retry_interval)
        if not isinstance(weight, int) or weight < 1:
            raise ValueError(f"a weight is a whole number from 1 on, and not {weight}")
        if any(member.cache.address == address for member in self._group.members.values()):
            raise ValueError(f"{address} is in the group already")
        chosen = name or str(address)
        if chosen in self._group.members:
            raise ValueError(f"the group has a server of the name {chosen} already")
        member = self._join(NewServer(chosen, address, timeout, retry_interval))
        if not status:
            # Before anybody uses it; and nobody probes it before its interval has passed.
            self._put_down(member, "added as out of use")
            if retry_interval > 0:
                member.state.take_turn(retry_interval)
        self._group.add(member, weight)

    def set_server_params(
        self,
        host: str,
        port: int = 11211,
        *,
        timeout: float | None = None,
        retry_interval: float | None = None,
        status: bool | None = None,
    ) -> None:
        """Change what is given, and nothing else. A `status` of true brings the server back, as `rejoin` does.

        Timeouts and intervals are this process's. Raises UnknownServer, ValueError, Unavailable.
        """
        member = self._find(host, port)
        _check(0.25 if timeout is None else timeout, 15.0 if retry_interval is None else retry_interval)
        if timeout is not None:
            weight = self._group.weight(member.name)
            address = Address.parse(str(member.cache.address))
            new = self._join(NewServer(member.name, address, timeout, member.retry_interval))
            self._group.add(new, weight)
            member.cache.close()
            member.marks.close()
            member = new
        if retry_interval is not None:
            member = member._replace(retry_interval=retry_interval)
            self._group.add(member, self._group.weight(member.name))
        if status is True:
            self.rejoin(host, port)
        elif status is False:
            self._put_down(member, "put out of use by a program")

    def get_server_status(self, host: str, port: int = 11211) -> int:
        """DOWN, UP or ANSWERING, asked now. Raises UnknownServer, Unavailable."""
        member = self._find(host, port)
        epoch = member.state.current()
        if not epoch or standing(epoch) is not Standing.UP:
            return DOWN
        return ANSWERING if not check(member.cache, self._clock.seconds()) else UP

    def states(self) -> list[ServerState]:
        """All servers, asked now. Raises Unavailable."""
        members = list(self._group.members.values())
        records = self._group.servers.records.read([member.state.row for member in members])
        return [
            ServerState(
                member.name,
                str(member.cache.address),
                standing(record.epoch) if record.epoch else None,
                *record,
            )
            for member, record in zip(members, records, strict=True)
        ]

    def check_state(self, host: str, port: int = 11211) -> bool:
        """Whether the server answers and keeps what it is given. Changes no state. Raises UnknownServer."""
        return not check(self._find(host, port).cache, self._clock.seconds())

    def rejoin(self, host: str, port: int = 11211) -> bool:
        """Bring a server back, waiting until all know of its failure; whether it is in use. Raises UnknownServer."""
        return bring_back(self._find(host, port), self._clock)

    def find_server(self, key: bytes) -> str:
        """The name of the server that a key belongs to, whether that is in use or not."""
        return self._group.placement.find(tag_of(key))

    def get_extended_stats(self) -> Mapping[str, Mapping[str, int | float | str] | None]:
        """The counters of each server by its name; None for one that does not answer."""
        stats: dict[str, Mapping[str, int | float | str] | None] = {}
        for name, member in self._group.members.items():
            try:
                stats[name] = member.cache.status()
            except BackendError:
                stats[name] = None
        return stats

    def _find(self, host: str, port: int) -> Member:
        address = _address(host, port)
        for member in self._group.members.values():
            if member.cache.address == address:
                return member
        raise UnknownServer(f"the group has no server at {address}")

    def _put_down(self, member: Member, reason: str) -> None:
        if member.retry_interval < 0:
            member.state.hold(reason)
        else:
            member.state.look()
            member.state.give_up(reason)


def bring_back(member: Member, clock: Clock, say: Callable[[str], object] = lambda _: None) -> bool:
    """Bring a server back into use as soon as may be; whether it is. Raises Unavailable.

    `say` is told of each wait: until all processes know of the failure, and where others may stand in for the server,
    until they know of its return.
    """
    state = member.state
    state.look()  # which begins what nothing is known of
    state.current()
    for _ in range(3):
        if state.wait:
            say(f"{member.name}: waiting {state.wait:.1f} s, until all servers know")
        while state.wait:
            clock.sleep(state.wait)
        if state.probe(member.cache, held=True):
            return True
        if not state.wait:
            return False
    return False


def _address(host: str, port: int) -> Address:
    if host.startswith(("/", "unix:")):
        return Address.parse(host)
    if not 0 < port < 65536:
        raise ValueError(f"not a port: {port}")
    return Address.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _check(timeout: float, retry_interval: float) -> None:
    if not timeout > 0:
        raise ValueError(f"a timeout is more than 0 seconds, and not {timeout}")
    if not (retry_interval == -1 or retry_interval > 0):
        raise ValueError(
            f"a retry_interval is more than 0 seconds, or -1 for never, and not {retry_interval}"
        )
