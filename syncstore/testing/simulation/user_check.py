"""The rules of the checker, applied to one user: versions, writes, reads (see checker)."""

from __future__ import annotations

from collections.abc import Sequence

from syncstore.errors import LockTimeout, PreconditionFailed
from syncstore.storage.api import Page, Totals
from syncstore.storage.durable import Being
from syncstore.testing.simulation.cached_only_check import CachedOnlyCheck, read_time
from syncstore.testing.simulation.chains import WRITES, Content
from syncstore.testing.simulation.client import Client
from syncstore.testing.simulation.database import Version
from syncstore.testing.simulation.exchanges import PAGES, Exchange, Say
from syncstore.testing.simulation.matching import Items, Sight, fits, fits_item, fits_time, sight
from syncstore.testing.simulation.memcached import Loss
from syncstore.testing.simulation.sql_state import UserState


class UserCheck:
    """One user's versions and exchanges."""

    def __init__(
        self,
        say: Say,
        versions: Sequence[Version],
        exchanges: Sequence[Exchange],
        cached_only: frozenset[str],
        losses: Sequence[Loss],
        *,
        faultless: bool,
        quota: int | None,
    ) -> None:
        self._say = say
        self._versions = versions
        self._exchanges = exchanges
        self._cached_only = cached_only
        self._losses = losses
        self._faultless = faultless
        self._quota = quota
        self._own: dict[int, list[int]] = {}
        for number, version in enumerate(versions):
            if isinstance(version.request, Exchange):
                self._own.setdefault(version.request.number, []).append(number)
        self._by_mark = {version.state.mark: number for number, version in enumerate(versions)}
        # what cached-only collections may have held, by collection and version
        self._contents: dict[str, list[Sequence[Content]]] = {}

    def run(self) -> None:
        """All rules but that of clients' copies."""
        self._check_versions()
        for name in self._cached_only:
            self._contents[name] = CachedOnlyCheck(
                self._say, name, self._versions, self._exchanges, self._losses
            ).run()
        for exchange in self._exchanges:
            self._check_outcome(exchange)
            if exchange.outcome == "ok" or (
                exchange.outcome == "missing" and exchange.request.kind == "item"
            ):
                self._check_answer(exchange)
        self._check_batches()

    # -- versions

    def _check_versions(self) -> None:
        before = 0
        batches: set[str] = set()
        for number, version in enumerate(self._versions):
            if not number:
                continue
            exchange = version.request
            if version.state.mark <= before:
                self._say("time not greater", f"{version.state.mark} was committed after {before}")
            before = version.state.mark
            if not isinstance(exchange, Exchange):
                self._say("write of nobody", f"{version.change}")
                continue
            if not _asked_for(exchange, version):
                self._say("another write than asked for", f"{version.change}", exchange)
            if version.change[0] == "commit":
                if version.change[2] in batches:
                    self._say("batch applied twice", f"{version.change}", exchange)
                batches.add(version.change[2])

            if self._quota is not None and number:
                self._check_quota(self._quota, self._versions[number - 1].state, version)

    def _check_quota(self, quota: int, before: UserState, version: Version) -> None:
        """Nobody grows beyond the quota.

        But what a writer left in the cache without its time is taken over even so: it fitted when he stored it, and
        what was acknowledged before is in it.
        """
        exchange = version.request
        if (
            version.change[0] == "keep"
            and isinstance(exchange, Exchange)
            and exchange.answer != version.state.mark
        ):
            return
        now = version.state.mark * 10
        used = version.state.used(now)
        if used > quota and used > before.used(now):
            self._say("over quota", f"{used} of {quota} bytes after {version.change}")

    # -- outcomes

    def _window(self, exchange: Exchange) -> range:
        return range(exchange.first_version, exchange.last_version + 1)

    def _check_outcome(self, exchange: Exchange) -> None:
        outcome, kind = exchange.outcome, exchange.request.kind
        if outcome == "crash":
            self._say("crash", f"{exchange.error!r}", exchange)
        elif outcome == "unavailable" and self._faultless and not isinstance(exchange.error, LockTimeout):
            self._say("503 without a fault", "", exchange)
        elif outcome == "unavailable" and exchange.quiet:
            self._say("never heals", "", exchange)
        elif outcome == "no batch":
            self._check_batch(exchange)
        own = self._own.get(exchange.number, [])
        writes = [number for number in own if self._versions[number].change[0] != "keep"]
        if len(writes) > 1 or (writes and not exchange.unclear and outcome != "ok"):
            self._say("written, but refused" if outcome != "ok" else "written twice", f"{writes}", exchange)
        if kind in WRITES or kind in ("delete collection", "wipe"):
            self._check_write(exchange, own)

    def _check_write(self, exchange: Exchange, own: Sequence[int]) -> None:
        base: Sequence[int] = self._window(exchange)
        if exchange.outcome == "ok":
            number = self._by_mark.get(exchange.answer, -1)
            if number in base and self._found_nothing(exchange, number):
                base = [number]
            elif number in own and number > exchange.first_version:
                base = [number - 1]
            else:
                self._say("acknowledged, not committed", "", exchange)
                return
        elif exchange.outcome == "refused":
            self._check_refusal(exchange)
        if exchange.before and not any(self._saw(exchange, one) for one in base):
            states = [self._versions[one].state for one in base]
            self._say(
                "a work saw what was not there", f"{exchange.before} in {list(base)}: {states}", exchange
            )

    def _found_nothing(self, exchange: Exchange, number: int) -> bool:
        """Whether nothing was there to be deleted: then the answer is the storage's time, as it was."""
        if exchange.request.kind not in ("delete items", "delete collection"):
            return False
        return (
            exchange.before["collection"]
            == 0
            == self._time(self._versions[number].state, exchange.request.collection)
        )

    def _check_refusal(self, exchange: Exchange) -> None:
        error = exchange.error
        assert isinstance(error, PreconditionFailed)
        if exchange.unless is None or error.modified <= exchange.unless:
            self._say("refused without a reason", "", exchange)

    def _saw(self, exchange: Exchange, number: int) -> bool:
        """Whether a unit of work may have begun on this version."""
        state, name = self._versions[number].state, exchange.request.collection
        for what, told in exchange.before.items():
            if what == "storage":
                if told != state.mark:
                    return False
            elif what == "collection":
                if told != self._time(state, name):
                    return False
            elif not any(
                fits_time(items, what[1:], told, exchange, state.mark) for items in self._items(number, name)
            ):
                return False
        return True

    def _check_batch(self, exchange: Exchange) -> None:
        """A batch may be unknown when it was committed, perhaps, or wiped, or lost with the cache."""
        name, batch = exchange.request.collection, exchange.batch
        opened = next(
            (one for one in self._exchanges if one.batch == batch and one.request.kind == "open"), None
        )
        if batch is None or opened is None:
            return
        since = opened.first_step
        ended = any(
            (one.request.kind == "commit" and one.batch == batch and (one.unclear or one.outcome == "ok"))
            or one.request.kind == "wipe"
            for one in self._exchanges
            if one is not exchange and one.last_step >= since and one.first_step <= exchange.last_step
        )
        lost = name in self._cached_only and any(loss.step >= since for loss in self._losses)
        if not ended and not lost:
            self._say("a batch vanished", "", exchange)

    def _check_batches(self) -> None:
        """No batch is committed twice with success, nor after a wipe that came after it was opened."""
        opened = {one.batch: one for one in self._exchanges if one.request.kind == "open"}
        wipes = [number for number, one in enumerate(self._versions) if one.change == ("wipe",)]
        committed: set[str | None] = set()
        for exchange in self._exchanges:
            if exchange.request.kind != "commit" or exchange.outcome != "ok":
                continue
            if exchange.batch in committed:
                self._say("batch applied twice", "", exchange)
            committed.add(exchange.batch)
            until = self._by_mark.get(exchange.answer, 0)
            if any(opened[exchange.batch].last_version < wipe < until for wipe in wipes):
                self._say("batch from before a wipe", "", exchange)

    # -- answers

    def _check_answer(self, exchange: Exchange) -> None:
        kind = exchange.request.kind
        if kind in ("times", "counts", "usage"):
            self._check_totals(exchange, exchange.answer)
        elif kind == "modified":
            name = exchange.request.collection
            times = [self._read_time(self._versions[one].state, name) for one in self._window(exchange)]
            if exchange.answer not in times:
                self._say("stale or never committed", f"not one of {times}", exchange)
        elif kind in PAGES:
            self._check_page(exchange, exchange.answer)
        elif kind == "item":
            name = exchange.request.collection
            if not any(
                fits_item(items, exchange, self._versions[one].state.mark)
                for one in self._window(exchange)
                for items in self._items(one, name)
            ):
                self._say("an item of no state", self._told(exchange), exchange)

    def _check_totals(self, exchange: Exchange, found: Totals) -> None:
        number = self._by_mark.get(found.modified)
        if number is None or number not in self._window(exchange):
            marks = [self._versions[one].state.mark for one in self._window(exchange)]
            rule = "never committed" if number is None else "stale"
            self._say(rule, f"{found.modified} is not one of {marks}", exchange)
            return
        state = self._versions[number].state
        if exchange.request.kind == "times":
            expected = self._times(state)
            if dict(found.collections) != expected:
                self._say("times of two states", f"not {expected}", exchange)
            return
        which = exchange.request.kind == "usage"
        when = sight(exchange, state.mark)
        names = {*state.collections, *self._cached_only, *found.collections}
        for name in sorted(names):
            told = found.collections.get(name, 0)
            least, most = self._total(number, name, when, size=which)
            if not least <= told <= most:
                self._say("a wrong total", f"{name} has between {least} and {most}", exchange)

    def _total(self, number: int, name: str, when: Sight, *, size: bool) -> tuple[int, int]:
        state = self._versions[number].state
        lows, highs = [], []
        for items in self._items(number, name):
            lows.append(
                sum(len(item.payload) if size else 1 for item in items.values() if when.must_see(item))
            )
            highs.append(
                sum(len(item.payload) if size else 1 for item in items.values() if when.may_see(item))
            )
        if name in self._cached_only:
            kept = state.kept.get(name)
            highs.append(0 if kept is None else kept.bytes if size else kept.items)
        return min(lows, default=0), max(highs, default=0)

    def _check_page(self, exchange: Exchange, found: Page) -> None:
        name = exchange.request.collection
        window = self._window(exchange)
        same_time = [
            one for one in window if self._read_time(self._versions[one].state, name) == found.modified
        ]
        if not same_time:
            times = [self._read_time(self._versions[one].state, name) for one in window]
            everywhere = [self._read_time(version.state, name) for version in self._versions]
            rule = "stale" if found.modified in everywhere else "never committed"
            self._say(rule, f"{found.modified} is not one of {times}", exchange)
        elif name not in self._cached_only and not any(
            fits(self._versions[one].state.items(name), exchange) is not None for one in same_time
        ):
            self._say("wrong items", f"of {self._versions[same_time[0]].state.items(name)}", exchange)

    def _told(self, exchange: Exchange) -> str:
        name = exchange.request.collection
        return "; ".join(str(items) for one in self._window(exchange) for items in self._items(one, name))

    # -- clients

    def copies(self, client: Client, *, clocks_jump: bool) -> None:
        """What a client that reads only news has, is what is there.

        But a clock that is set back brings to life again what had expired, at the times of before.
        """
        last = len(self._versions) - 1
        for name, copy in client.copies.items():
            polls = [
                one
                for one in client.exchanges
                if one.quiet and one.request.kind == "news" and one.request.collection == name
            ]
            if not polls or polls[-1].outcome != "ok":
                continue
            when = sight(polls[-1], self._versions[last].state.mark)
            if not any(
                all(
                    item.id in copy
                    and copy[item.id].payload == item.payload
                    and copy[item.id].sortindex == item.sortindex
                    for item in items.values()
                    if when.must_see(item) and not (clocks_jump and item.expires is not None)
                )
                for items in self._items(last, name)
            ):
                there = list(self._items(last, name))
                self._say("a client missed a change", f"{client.name} has {copy} of {name}, which is {there}")

    # -- what a version has

    def _items(self, number: int, name: str) -> Sequence[Items]:
        if name in self._cached_only:
            return [content.items for content in self._contents[name][number]]
        return [self._versions[number].state.items(name)]

    def _times(self, state: UserState) -> dict[str, int]:
        times = {name: found.modified for name, found in state.collections.items()}
        for name in self._cached_only:
            time = self._time(state, name)
            if time:
                times[name] = time
        return times

    def _time(self, state: UserState, name: str) -> int:
        """The time of a collection that exists, else 0."""
        if name not in self._cached_only:
            return state.modified(name)
        kept = state.kept.get(name)
        return kept.time if kept is not None and kept.being is Being.LIVE else 0

    def _read_time(self, state: UserState, name: str) -> int:
        """The time that a read of a collection tells: of a lost one that of its loss."""
        return read_time(state, name) if name in self._cached_only else state.modified(name)


def _asked_for(exchange: Exchange, version: Version) -> bool:
    """Whether the change that was committed is the one that the request asked for."""
    change, request = version.change, exchange.request
    kind, name = request.kind, request.collection
    match change[0]:
        case "put":
            return kind in ("put", "put item") and change[1:] == (name, request.changes)
        case "delete":
            return kind in ("delete item", "delete items") and (change[1], set(change[2])) == (
                name,
                set(request.ids),
            )
        case "delete collection":
            return kind == "delete collection" and change[1:] == (name,)
        case "wipe":
            return kind == "wipe"
        case "commit":
            return kind == "commit" and change[1:] == (name, exchange.batch, request.changes)
    return bool(change[0] == "keep")
