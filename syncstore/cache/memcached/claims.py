"""Whose a memcached is: a marker on the server says which group of processes uses it for one installation.

Processes that do not share the states of the servers, or do not agree where users are placed, do not tell each other
of their writes. So each group keeps a marker on every server that it uses, and refuses one where another group's
marker lives. A group's marker names the hosts that serve with it: a host takes its name away when its last process
ends, and one that died is forgotten after LIFE.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Final

import msgspec

from syncstore.cache.api import (
    ABSENT,
    BackendError,
    BackendUnavailable,
    Conflict,
    Expect,
    Item,
    NotFound,
    Provider,
)
from syncstore.clock import Clock

LIFE: Final = 30.0
"""Seconds after which a marker is gone that nobody renews."""

RENEWAL: Final = 10.0
"""Seconds between two renewals."""

_KEY = b"group"
# Many processes may start at once: each changes the marker, and only one at a time can.
_ATTEMPTS = 20
_PAUSE = 0.02  # seconds at most between two attempts
# Seconds that a marker is there for longer than its last host: one that has expired is in the way for a moment.
_SPARE = 5.0


class Marker(msgspec.Struct, frozen=True):
    """What stands on a server: the group, and until when each of its hosts is known to be alive, in milliseconds."""

    group: str
    hosts: Mapping[str, int]


class Taken(Exception):
    """Another group uses the server: from these hosts."""

    def __init__(self, hosts: list[str]) -> None:
        super().__init__(", ".join(hosts))
        self.hosts = hosts


class Claims:
    """This host's claims for one group, which `description` tells from any other."""

    def __init__(self, description: str, host: str, clock: Clock) -> None:
        self._group = hashlib.sha256(description.encode()).hexdigest()[:16]
        self._host = host
        self._clock = clock

    def claim(self, server: Provider) -> None:
        """Say, or say again, that the server is the group's, for LIFE from now.

        Raises Taken, and BackendUnavailable when it is not known whether it was said.
        """
        for _ in range(_ATTEMPTS):
            item, marker = self._look(server)
            now = self._clock.now_ms()
            living = {host: until for host, until in marker.hosts.items() if now < until}
            if marker.group != self._group:
                if living:
                    raise Taken(sorted(living))
                living = {}
            living[self._host] = now + int(LIFE * 1000)
            if self._put(server, item, Marker(self._group, living)):
                return
            self._step_aside()
        raise BackendUnavailable("others change the group's marker all the time")

    def withdraw(self, server: Provider) -> None:
        """Say that no process of this host uses the server any more. Raises nothing: the marker ends by itself."""
        try:
            for _ in range(_ATTEMPTS):
                item, marker = self._look(server)
                if item is None or marker.group != self._group or self._host not in marker.hosts:
                    return
                rest = {host: until for host, until in marker.hosts.items() if host != self._host}
                if self._put(server, item, Marker(self._group, rest)):
                    return
                self._step_aside()
        except BackendError:
            return

    def _step_aside(self) -> None:
        """Let others change the marker, each in his own moment."""
        self._clock.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - spreads load

    def _look(self, server: Provider) -> tuple[Item | None, Marker]:
        try:
            item = server.retrieve(_KEY)
        except NotFound:
            return None, Marker("", {})
        except BackendUnavailable:
            raise
        except BackendError as error:
            raise BackendUnavailable(str(error)) from error
        try:
            return item, msgspec.json.decode(item.value, type=Marker)
        except msgspec.DecodeError:
            return item, Marker("", {})

    def _put(self, server: Provider, item: Item | None, marker: Marker) -> bool:
        expect: Expect = ABSENT if item is None else item.token
        try:
            if marker.hosts:
                ends = self._clock.seconds() + LIFE + _SPARE
                server.store(_KEY, msgspec.json.encode(marker), ends, expect=expect)
            elif item is not None:
                server.remove(_KEY, expect=item.token)
        except (Conflict, NotFound):
            return False
        except BackendUnavailable:
            raise
        except BackendError as error:
            raise BackendUnavailable(str(error)) from error
        return True
