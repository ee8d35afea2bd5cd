"""The rule of clients that poll with `newer`: they end with what a full read shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from syncstore.testing.history.doubts import Doubts
from syncstore.testing.history.losses import Losses
from syncstore.testing.history.order import Collection, Story
from syncstore.testing.history.records import Exchange


class Followers:
    """The check of one user's followed collections, from which no items are deleted one by one."""

    def __init__(self, story: Story, doubts: Doubts, losses: Losses, say: Callable[[str], None]) -> None:
        self._story = story
        self._doubts = doubts
        self._losses = losses
        self._say = say

    def check(self, reads: Iterable[Exchange]) -> None:
        """All answered reads of the user: one follower polls each collection."""
        reads = list(reads)
        for name in sorted({one.sent.collection for one in reads if one.sent.op == "follow"}):
            self._check_one(
                self._story.collection(name), [one for one in reads if one.sent.collection == name]
            )

    def _check_one(self, collection: Collection, reads: list[Exchange]) -> None:
        name = collection.name
        polls = sorted((one for one in reads if one.sent.op == "follow"), key=lambda one: one.sent.at)
        full = max(
            (one for one in reads if one.sent.op == "read" and one.sent.newer is None),
            key=lambda one: one.sent.at,
            default=None,
        )
        merged: dict[str, tuple[int, str]] = {}
        reached = 0
        for poll in polls:
            assert poll.answer is not None
            if poll.sent.newer != reached:
                self._say(f"{poll.sent} did not go on from {reached}")
            merged |= poll.answer.items
            reached = poll.time
        if full is None or full.answer is None or full.sent.at < polls[-1].sent.at:
            self._say(f"nobody read {name} whole at the end")
            return
        for item, shown in full.answer.items.items():
            if shown[0] <= reached and merged.get(item) != shown:
                self._say(f"a follower of {name} has {merged.get(item)} for {item}, which is {shown}")
        for item in sorted(merged.keys() - full.answer.items.keys()):
            if not self._may_be_gone(collection, item, merged[item][0], full):
                self._say(f"a follower of {name} has {item}, which is not there")

    def _may_be_gone(self, collection: Collection, item: str, modified: int, full: Exchange) -> bool:
        """The follower is not told of deletions and losses of the whole collection; but there must have been one."""
        write = collection.last(item, modified)
        if write is None or collection.removed(None, modified, full.ended):
            return True
        return self._doubts.removes(collection.name, None, write.sent.at, full.ended) or self._losses.explain(
            collection, write, full.time or None, full.ended
        )
