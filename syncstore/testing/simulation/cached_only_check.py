"""The rules of the checker for a collection that lives in the cache alone: what it held, and whether reads fit."""

from __future__ import annotations

from collections.abc import Sequence

from syncstore.storage.durable import Being
from syncstore.testing.simulation.chains import NOTHING, WRITES, Chains, Content, consistent, distinct
from syncstore.testing.simulation.database import Version
from syncstore.testing.simulation.exchanges import PAGES, Exchange, Say
from syncstore.testing.simulation.matching import fits
from syncstore.testing.simulation.memcached import Loss
from syncstore.testing.simulation.sql_state import UserState


class CachedOnlyCheck:
    """What one cached-only collection may have held at each version, and whether its reads fit that."""

    def __init__(
        self,
        say: Say,
        name: str,
        versions: Sequence[Version],
        exchanges: Sequence[Exchange],
        losses: Sequence[Loss],
    ) -> None:
        self._say = say
        self._name = name
        self._versions = versions
        self._chains = Chains(name, exchanges, losses)
        self._pages: dict[int, list[Exchange]] = {}
        for one in exchanges:
            if one.outcome == "ok" and one.request.kind in PAGES and one.request.collection == name:
                self._pages.setdefault(one.answer.modified, []).append(one)

    def run(self) -> list[Sequence[Content]]:
        """The contents at each version."""
        contents: Sequence[Content] = NOTHING
        found: list[Sequence[Content]] = []
        before = None
        since = 0  # the step from which on a loss concerns the present items
        for version in self._versions:
            kept = version.state.kept.get(self._name)
            if kept != before:
                if kept is None or kept.being is not Being.LIVE:
                    if kept is not None:
                        self._check_gone(version, kept.being, since)
                    contents = NOTHING
                else:
                    lower = 0 if before is None else before.time
                    was_live = before is not None and before.being is Being.LIVE
                    contents = self._derive(version, contents, since if was_live else None, lower)
                since = version.request.first_step if isinstance(version.request, Exchange) else version.step
                contents = self._narrow(contents, read_time(version.state, self._name))
                before = kept
            elif not found:
                contents = self._narrow(contents, 0)
            found.append(contents)
        return found

    def _check_gone(self, version: Version, being: Being, since: int) -> None:
        exchange = version.request
        if not isinstance(exchange, Exchange):
            return
        if being is Being.DELETED:
            if exchange.request.kind not in ("delete collection", "wipe"):
                self._say("deleted by nobody", "", exchange)
        elif not self._chains.lost(since, version.step):
            self._say("given up for lost, though the cache did not lose it", "", exchange)

    def _derive(
        self, version: Version, before: Sequence[Content], since: int | None, lower: int
    ) -> Sequence[Content]:
        exchange = version.request
        if not isinstance(exchange, Exchange):
            return before
        time = version.state.mark
        found: list[Content] = []
        acknowledged = exchange.outcome == "ok" and exchange.request.kind in WRITES
        own = exchange.request.collection == self._name and exchange.request.kind in WRITES
        if own and (exchange.unclear or (acknowledged and exchange.answer == time)):
            found += self._chains.after_write(before, exchange, time)
        if since is not None and not (own and acknowledged and exchange.answer == time):
            found += self._chains.after_mending(before, lower, since, version)
        fitting = distinct(content for content in found if consistent(content, version, self._name))
        if not fitting:
            self._say(
                "contents that nobody wrote",
                f"{self._name} has {version.state.kept[self._name]}, which none of {[one.items for one in found]} is",
                exchange,
            )
            return before
        return fitting

    def _narrow(self, contents: Sequence[Content], time: int) -> Sequence[Content]:
        """Only what fits all that was read of the collection at this time."""
        for exchange in self._pages.get(time, ()):
            fitting = []
            for one in contents:
                items = fits(one.items, exchange)
                if items is not None:
                    fitting.append(Content(items, one.taken_over))
            if not fitting:
                self._say("wrong items", f"none of {[one.items for one in contents]}", exchange)
                return contents
            contents = fitting
        return contents


def read_time(state: UserState, name: str) -> int:
    """The time that a read of a cached-only collection tells."""
    kept = state.kept.get(name)
    return kept.time if kept is not None and kept.being is not Being.DELETED else 0
