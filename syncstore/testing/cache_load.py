"""A load on a stand with a cache, its disturbances, and the judgement of everything that happened."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from syncstore.testing.cache_stand import ONLY, CacheStand
from syncstore.testing.disturbances import Disturbances
from syncstore.testing.history import Conditions, Exchange, problems
from syncstore.testing.history.figures import figures, kind_of
from syncstore.testing.load import Load
from syncstore.testing.load_places import ALL
from syncstore.testing.service import SECRET

_LATE = 10.0
_REFUSAL = re.compile(r"503 \w+ '[^']*': (.*)")
_CHANGING = re.compile(r"unix:\S+|\d+|'[^']*'")


class CacheLoad:
    """Clients on all servers of a stand, with collections of every kind. `folder` is for their histories.

    `disturb` makes faults, by `seed` where chance decides. With `commits_get_lost` the database is tormented, too: a
    503 may have written then, and ordinary reads may get one. `uids` are users whom nobody else has.
    """

    def __init__(
        self,
        stand: CacheStand,
        folder: Path,
        *,
        seed: int = 0,
        writers: int = 3,
        commits_get_lost: bool = False,
        uids: Sequence[int] = (),
    ) -> None:
        self.stand = stand
        self.disturb = Disturbances(stand, seed)
        self._commits_get_lost = commits_get_lost
        self._folder = folder
        self._history: list[Exchange] | None = None
        users = uids or random.sample(range(1, 2**31), 3)
        self._load = Load(stand.urls, SECRET, users, folder, writers=writers, places=ALL, wipes=True)

    def run(self, seconds: float, disturb: Callable[[], None] | None = None, *, every: float = 1.0) -> None:
        """Go on for so many seconds (see Load.run)."""
        self._load.run(seconds, disturb, every=every)

    @property
    def history(self) -> list[Exchange]:
        """All that was asked and told. Ends the load."""
        if self._history is None:
            self._history = self._load.history()
            self.disturb.count_hits()
        return self._history

    def problems(self) -> list[str]:
        """All that was wrong, in words. Ends the load."""
        history = self.history
        given = Conditions(self._commits_get_lost, self.stand.life(self.disturb.losses), _LATE)
        given.write(self._folder)
        found = problems(
            history, refused_may_count=given.refused_may_count, cache=given.cache, late=given.late
        )
        if not self._commits_get_lost:
            found += [
                f"{one.sent} was refused, though SQL could answer"
                for one in history
                if one.status == 503 and kind_of(one, ONLY) == "ordinary read"
            ]
        for server in self.stand.servers:
            log = server.log.read_text(encoding="utf-8", errors="replace")
            if "Traceback" in log:
                found.append(log[log.index("Traceback") :][:4000])
        return found + self.stand.disagreements(self._load.uids, [place.name for place in ALL])

    def figures(self) -> str:
        """Numbers for people."""
        lines = figures(self.history, (one.kind for one in self.disturb.episodes), ONLY)
        lines.append(f"memcached: {dict(self.disturb.hits)}")
        reasons: Counter[str] = Counter()
        for server in self.stand.servers:
            log = server.log.read_text(encoding="utf-8", errors="replace")
            reasons.update(_CHANGING.sub("#", reason) for reason in _REFUSAL.findall(log))
        lines += [f"503, {count} times: {reason}" for reason, count in reasons.most_common()]
        return "\n".join(lines)

    def close(self) -> None:
        """Kill what still runs."""
        self._load.close()

    def __enter__(self) -> Self:
        self._load.await_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
