"""The judgement of a history: what no correct server could have answered, in words.

The times of writes put them in the one order that the server claims for a user; that order is replayed and compared
with everything that was ever read. A write without an answer, or with a 503, may have happened or not: when its tag
is seen it happened, at the time seen, whole. Of what lives in the cache alone less is promised (see losses).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from syncstore.testing.history.cache import NO_CACHE, CacheLife
from syncstore.testing.history.doubts import Doubts
from syncstore.testing.history.followers import Followers
from syncstore.testing.history.learning import learn
from syncstore.testing.history.looks import Looks
from syncstore.testing.history.losses import Losses
from syncstore.testing.history.order import Story, Write
from syncstore.testing.history.records import READS, Exchange

_MOST_PROBLEMS = 30
_EXPECTED = (200, 202, 304, 404, 412, 503, None)


def problems(
    history: Iterable[Exchange],
    *,
    refused_may_count: bool = True,
    cache: CacheLife = NO_CACHE,
    late: float = 60.0,
) -> list[str]:
    """What no correct server could have answered; empty when all is well.

    With `refused_may_count` False a 503 promises that nothing was written, as it does while no database is killed
    or frozen; but for collections in the `cache` alone, which may take over later what was refused. `late` is how
    many seconds after its answer, or its beginning if there was none, a write in doubt may take effect.
    """
    users: defaultdict[int, list[Exchange]] = defaultdict(list)
    for one in history:
        users[one.sent.uid].append(one)
    found: list[str] = []
    for uid in sorted(users):
        found += _User(users[uid], refused_may_count, cache, late).problems()
        if len(found) > _MOST_PROBLEMS:
            return [*found[:_MOST_PROBLEMS], f"and {len(found) - _MOST_PROBLEMS} more"]
    return found


class _User:
    """The check of one user's exchanges."""

    def __init__(
        self, exchanges: list[Exchange], refused_may_count: bool, cache: CacheLife, late: float
    ) -> None:
        self._found: list[str] = []
        self._exchanges = exchanges
        self._cache = cache

        def may_count(one: Exchange) -> bool:
            return refused_may_count or one.sent.collection in cache.only

        learnt = learn(exchanges, may_count, self._say)
        self._known = learnt.known
        self._doubts = Doubts(learnt.doubtful, late)
        self._story = Story(learnt.known, exchanges)
        self._losses = Losses(cache, self._story, exchanges)

    def problems(self) -> list[str]:
        self._check_statuses()
        self._check_times()
        self._check_real_time()
        self._check_preconditions()
        looks = Looks(self._story, self._doubts, self._losses, self._say)
        for one in self._exchanges:
            if one.status == 200 or (one.status == 404 and one.sent.op == "item"):
                looks.check(one)
        reads = [one for one in self._exchanges if one.sent.op in READS and one.status == 200]
        Followers(self._story, self._doubts, self._losses, self._say).check(reads)
        return self._found

    def _say(self, text: str) -> None:
        self._found.append(text)

    def _check_statuses(self) -> None:
        """Statuses that nothing here asks for, and answers that broke a rule of the protocol by themselves."""
        for one in self._exchanges:
            if one.answer is None:
                continue
            if one.answer.complaint or (one.status not in _EXPECTED and not self._unknown_batch(one)):
                self._say(f"{one.sent}: {one.answer}")
            if one.status == 412 and not (one.sent.unless is not None and one.time > one.sent.unless):
                self._say(f"{one.sent.op} met a 412 at time {one.answer.time}")

    def _unknown_batch(self, one: Exchange) -> bool:
        """Whether a batch may be unknown: when everything was deleted meanwhile, or the cache that kept it lost it."""
        if one.status != 400 or one.sent.op not in ("stage", "commit"):
            return False
        tags = set(one.sent.tags.values())
        began = one.sent.batch_at or min(
            other.sent.at
            for other in self._exchanges
            if other is one or (other.sent.op == "stage" and not tags.isdisjoint(other.sent.tags.values()))
        )
        if one.sent.collection in self._cache.only and self._cache.may_lose(began, one.ended):
            return True
        return any(
            other.sent.op == "delete everything" and other.sent.at < one.ended and other.ended > began
            for other in self._exchanges
        )

    def _check_times(self) -> None:
        """All distinct. A delete that found no collection changes nothing and tells the storage's time."""
        by_time: dict[int, Write] = {}
        idle = []
        for write in self._known:
            if write.removes_collection or (write.sent.op == "delete items" and write.sent.gone):
                idle.append(write)
            elif not write.sure and write.sent.collection in self._cache.only:
                # It was taken over at another time, and its own was nobody's: somebody else may have got it.
                continue
            elif write.time in by_time:
                self._say(f"one time {write.time} for {by_time[write.time].sent} and {write.sent}")
            else:
                by_time[write.time] = write
        for write in idle:
            other = by_time.get(write.time)
            if other is not None and write.sent.collection in ("", other.sent.collection):
                self._say(f"one time {write.time} for {other.sent} and {write.sent}")

    def _check_real_time(self) -> None:
        """What began after an answer has a greater time, and sees what was answered."""
        for write in self._known:
            before = self._story.told.before(write.sent.at)
            no_change = write.deletes and write.time == before
            if write.time <= before and not no_change:
                self._say(f"{write.sent} got {write.time}, though {before} had been told before it began")

    def _check_preconditions(self) -> None:
        """Nothing stands between what X-If-Unmodified-Since had seen and the write."""
        for write in self._known:
            unless = write.sent.unless
            if unless is None:
                continue
            collection = self._story.collection(write.sent.collection)
            item = next(iter(write.sent.tags)) if write.sent.op == "put" else None
            if item is None:
                before = collection.last_write(write.time - 1)
            else:
                before = collection.last(item, write.time - 1)
            if before is None or before.time <= unless or before.deletes:
                continue
            name, ended = collection.name, write.exchange.ended
            if self._doubts.removes(name, item, before.sent.at, ended):
                continue
            if not self._losses.explain(collection, before, write.time - 1, ended):
                self._say(f"{write.sent} passed its precondition over {before.sent} at {before.time}")
