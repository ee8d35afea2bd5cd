"""The thread that looks after a group's servers: it keeps their markers, and brings back those that answer again."""

from __future__ import annotations

import logging
import random
import threading
from collections import defaultdict
from typing import Final

from syncstore.cache.api import BackendError
from syncstore.cache.memcached.claims import LIFE, RENEWAL, Claims, Taken
from syncstore.cache.memcached.group import Group, Member
from syncstore.clock import Clock
from syncstore.errors import ConfigError, SyncError

log = logging.getLogger(__name__)

_SAFETY: Final = 5.0  # seconds before a marker's end from which it is not relied on
_AGAIN: Final = 1.0  # seconds until a renewal that failed is tried again


class Keeper:
    """Looks after the servers of one process's group.

    Each process has one. Whichever is first brings a server back for all, since the state is changed by
    compare-and-set; and while one has a server's turn to be probed, the others do not try.
    """

    def __init__(self, group: Group, claims: Claims, clock: Clock, *, flush: bool) -> None:
        self._group = group
        self._claims = claims
        self._clock = clock
        self._flush = flush
        self._probe_from = defaultdict[str, float](_at_once)
        self._claim_from = defaultdict[str, float](_at_once)
        self._turn_until = defaultdict[str, float](_at_once)
        for member in group.members.values():
            member.state.claimed(float("-inf"))
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def claim_all(self) -> None:
        """Say of all servers that they are the group's, before anything is read from them.

        Raises ConfigError when one of them is another group's. One that does not answer is declared failed.
        """
        for member in self._group.members.values():
            try:
                self._claim(member)
            except Taken as error:
                raise ConfigError(_taken(member, error)) from error
            except BackendError as error:
                member.state.give_up(f"it does not answer when a server starts: {error}")

    def start(self) -> None:
        """Begin. Servers that have failed are probed as soon as may be."""
        self._thread = threading.Thread(target=self._run, name="syncstore-cache-keeper", daemon=True)
        self._thread.start()

    def stop(self, *, last: bool) -> None:
        """End. The `last` process of this host takes its markers away."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        if last:
            for member in self._group.members.values():
                self._claims.withdraw(member.marks)

    def look_after_all(self) -> float:
        """See to each server once, as the thread does again and again; the seconds until something is due."""
        for member in self._group.members.values():
            if self._stop.is_set():
                break
            try:
                self._look_after(member)
            except Exception:
                # The edge of the thread: a fault that ended it would leave a server out of use for good.
                log.exception("the cache %s could not be looked after", member.name)
        return self._pause()

    def _run(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = self.look_after_all()

    def _pause(self) -> float:
        """Seconds until something is due; at most a second, since who learns late of a failure makes writers wait."""
        now = self._clock.monotonic()
        due = [
            (self._probe_from if member.state.failed else self._claim_from)[name]
            for name, member in self._group.members.items()
            if not member.state.failed or self._may_return(member)
        ]
        most = min(1.0, self._group.servers.rules.lease)
        return min(max(min(due, default=now + most) - now, 0.01), most)

    def _look_after(self, member: Member) -> None:
        state = member.state
        state.look()  # also where no requests come
        now = self._clock.monotonic()
        if not state.failed:
            self._probe_from[member.name] = now + self._interval(member)
            if now >= self._claim_from[member.name]:
                self._renew(member)
        elif self._may_return(member) and now >= self._probe_from[member.name]:
            self._probe(member)

    # -- markers

    def _claim(self, member: Member) -> None:
        """Say that the server is ours. Raises Taken, BackendUnavailable."""
        asked = self._clock.monotonic()
        self._claim_from[member.name] = asked + _AGAIN
        self._claims.claim(member.marks)
        member.state.refuse("")
        member.state.claimed(asked + LIFE - _SAFETY)
        self._claim_from[member.name] = asked + RENEWAL * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load

    def _renew(self, member: Member) -> None:
        """Say it again; a server that cannot be told is declared failed before the marker ends."""
        try:
            self._claim(member)
        except Taken as error:
            member.state.refuse(_taken(member, error))
        except BackendError as error:
            if member.state.claimed_for < RENEWAL:
                member.state.give_up(f"its marker cannot be renewed: {error}")

    # -- coming back

    @staticmethod
    def _may_return(member: Member) -> bool:
        """Whether a failed server may be brought back without an operator.

        One that never failed may, whatever `retry_interval` is: where states begin anew all servers begin out of use.
        """
        return (member.retry_interval >= 0 or not member.state.proven) and not member.state.held

    def _probe(self, member: Member) -> None:
        """Try whether a failed server answers, unless it is too early or another process's turn."""
        state, now = member.state, self._clock.monotonic()
        wait = state.wait
        self._probe_from[member.name] = now + (wait or self._interval(member))
        try:
            if wait or not self._take_turn(member, now):
                return
            self._claim(member)
            if self._flush:
                member.cache.flush()
            if not state.probe(member.cache) and state.wait:
                self._probe_from[member.name] = now + state.wait  # the second step of its return
        except Taken as error:
            state.refuse(_taken(member, error))
        except (BackendError, SyncError):
            return

    def _take_turn(self, member: Member, now: float) -> bool:
        """Be the one who probes: whoever has begun a return also ends it. Raises Unavailable."""
        seconds = max(member.retry_interval, self._group.servers.rules.lease) * 0.9
        if now >= self._turn_until[member.name]:
            if not member.state.take_turn(seconds):
                return False
            self._turn_until[member.name] = now + seconds
        return True

    def _interval(self, member: Member) -> float:
        # Not all processes at the same moment: one is enough.
        return max(member.retry_interval, 0.0) * random.uniform(1.0, 1.3)  # noqa: S311 - spreads load


def _at_once() -> float:
    return float("-inf")


def _taken(member: Member, error: Taken) -> str:
    return (
        f"the memcached {member.name} is used for this database by servers that were started with other settings of "
        f"memcached.* or cache.key_prefix, on {error}: stop all servers, then start them with the same settings"
    )
