"""Eight processes over three memcacheds, one of which is killed, frozen or cut off every five seconds: `SOAK_SECONDS`.

Nothing acknowledged is lost, nobody reads the past, no request for an ordinary collection is refused, and whoever's
memcached is well finds what he found before.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from syncstore.cache.memcached.ring import Placed, Ring
from syncstore.testing.cache_load import CacheLoad
from syncstore.testing.cache_stand import ONLY, CacheStand
from syncstore.testing.history.figures import refusals

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
SEED = int(os.environ.get("SOAK_SEED", random.randrange(1, 2**31)))
DATABASE = "postgresql"
CALM = 15.0
EVERY = 5.0
MEMCACHEDS = 3
LESS = 0.05
"""By how much of all look-ups the share of hits may differ: by chance, or as others are asked for meanwhile."""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3 * SECONDS + 600)]


class Hits:
    """The hits and misses of each memcached, as far as they were asked for."""

    def __init__(self) -> None:
        self.hits = self.misses = 0

    def add(self, before: Counter[str], after: Counter[str]) -> None:
        self.hits += after["get_hits"] - before["get_hits"]
        self.misses += after["get_misses"] - before["get_misses"]

    @property
    def share(self) -> float:
        return self.hits / (self.hits + self.misses)


@pytest.mark.parametrize("failover", ["false", "true"], ids=["alone", "with stand-ins"])
def test_nobody_notices_but_users_of_the_memcached_that_is_away(
    one_database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], failover: str
) -> None:
    stand = CacheStand(
        one_database_url,
        servers=2,
        workers=4,
        memcacheds=MEMCACHEDS,
        more={"memcached.allow_failover": failover},
    )
    with stand, CacheLoad(stand, tmp_path, seed=SEED, writers=6, uids=users_of_each(stand.names)) as load:
        draw, calm, healthy = random.Random(SEED), Hits(), Hits()

        def disturb() -> None:
            away = draw.randrange(MEMCACHEDS)
            others = [number for number in range(MEMCACHEDS) if number != away]
            before = [load.disturb.counters(number) for number in others]
            with trouble(load, draw, away):
                load.run(EVERY * draw.uniform(0.2, 0.6), every=EVERY)
            for number, then in zip(others, before, strict=True):
                healthy.add(then, load.disturb.counters(number))

        before = [load.disturb.counters(number) for number in range(MEMCACHEDS)]
        load.run(CALM)
        for number, then in enumerate(before):
            calm.add(then, load.disturb.counters(number))
        load.run(SECONDS, disturb, every=EVERY / 2)
        found = load.problems()
        refused = refusals(load.history, ONLY)
        with capsys.disabled():
            print(f"\nseed {SEED}\n{load.figures()}")  # noqa: T201 - what a soak is run for
            print(f"hits: {calm.share:.3f} without faults, {healthy.share:.3f} of those that were well")  # noqa: T201
        assert found == []
        assert {kind for kind in refused if kind.startswith("ordinary")} == set()
        assert [one.status for one in load.history if (one.status or 0) >= 500 and one.status != 503] == []
        assert abs(healthy.share - calm.share) < LESS


def trouble(load: CacheLoad, draw: random.Random, away: int) -> AbstractContextManager[object]:
    """Something is wrong with a memcached: for all, or for one of the servers."""
    ends = ExitStack()
    match draw.randrange(3):
        case 0:
            ends.enter_context(load.disturb.killed_memcached(away))
        case 1:
            ends.enter_context(load.disturb.frozen_memcached(away))
        case _:
            ends.enter_context(load.disturb.cut_off(draw.randrange(2), away))
    return ends


def users_of_each(names: list[str]) -> list[int]:
    """Two users of each memcached."""
    ring = Ring([Placed(name) for name in names])
    homes: Counter[str] = Counter()
    users: list[int] = []
    while len(users) < 2 * len(names):
        uid = random.randrange(1, 2**31)
        home = ring.find(b"%d" % uid)
        if homes[home] < 2:
            homes[home] += 1
            users.append(uid)
    return users
