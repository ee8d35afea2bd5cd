"""Holds every answer of a history to what the database knows was committed when.

The rules: an answer is one committed state, no older than what was committed when its request began; times grow and
belong to one write each; what was acknowledged was committed, once, and what was refused was not; a unit of work
sees the state that it follows; items that live in the cache alone are lost only when the cache lost them, and then
their collection says so under a new time; and in the end everything heals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from syncstore.testing.simulation.client import Client
from syncstore.testing.simulation.exchanges import Exchange
from syncstore.testing.simulation.installation import Installation
from syncstore.testing.simulation.scheduler import Stuck
from syncstore.testing.simulation.user_check import UserCheck


class Violation(NamedTuple):
    """A broken rule, by a name to count it under, and the facts."""

    rule: str
    text: str
    step: int = 0


def check(
    installation: Installation, clients: Sequence[Client], stuck: Stuck | None, reads_at_last: int
) -> list[Violation]:
    """All that was wrong with a history that has ended."""
    if stuck is not None:
        return [Violation("stuck", str(stuck), installation.world.steps)]
    found: list[Violation] = []

    def say(rule: str, text: str, exchange: Exchange | None = None) -> None:
        step = installation.world.steps if exchange is None else exchange.last_step
        found.append(Violation(rule, text if exchange is None else f"{text}: {exchange}", step))

    by_user: dict[int, list[Exchange]] = {}
    for exchange in installation.exchanges:
        by_user.setdefault(exchange.uid, []).append(exchange)
    clocks_jump = any(fault.kind == "clock jump" for fault in installation.plan.faults)
    for uid, exchanges in by_user.items():
        check = UserCheck(
            say,
            installation.database.row(uid).versions,
            exchanges,
            installation.configuration.cached_only,
            sorted(loss for server in installation.servers for loss in server.losses),
            # To take over from another group is a failure of all its servers.
            faultless=not installation.plan.faults and installation.configuration.groups == 1,
            quota=installation.plan.quota,
        )
        check.run()
        for client in clients:
            if client.uid == uid:
                check.copies(client, clocks_jump=clocks_jump)
    if reads_at_last and installation.configuration.heals and not found:
        rows = [installation.database.row(uid) for uid in by_user]
        if all(row.exists for row in rows):
            say("not healed", f"times are asked of SQL still, {reads_at_last} times")
    return sorted(found, key=lambda violation: violation.step)
