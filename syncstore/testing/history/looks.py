"""The rules of what is read: of a collection, of one item, and of the times of all collections.

Whatever has a time up to X-Last-Modified is in the answer, and nothing else; and no answer is older than what
anybody had been told before it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from syncstore.testing.history.doubts import Doubts
from syncstore.testing.history.losses import Losses
from syncstore.testing.history.order import Collection, Story, Write
from syncstore.testing.history.records import READS, Exchange


class Looks:
    """The check of one user's answered looks, against all that is known of the user."""

    def __init__(self, story: Story, doubts: Doubts, losses: Losses, say: Callable[[str], None]) -> None:
        self._story = story
        self._doubts = doubts
        self._losses = losses
        self._say = say

    def check(self, look: Exchange) -> None:
        """One answer of 200, or of 404 to the question for an item."""
        assert look.answer is not None
        if look.sent.op == "info":
            self._check_info(look)
        elif look.sent.op == "item":
            self._check_item(look)
        elif look.sent.op in READS:
            self._check_read(look)

    # -- a collection

    def _check_read(self, read: Exchange) -> None:
        assert read.answer is not None
        answer, time = read.answer, read.time
        collection = self._story.collection(read.sent.collection)
        if time == 0:
            before = collection.told_alive.before(read.sent.at)
            if answer.items:
                self._say(f"{read.sent} has items of a collection without a time")
            if before and not self._may_be_gone(collection, None, before, read):
                self._say(f"{read.sent} finds no collection, though it had the time {before}")
            return
        newer = read.sent.newer or 0
        own = time not in collection.written and self._losses.changes(collection.name, read.ended)
        # To delete what was lost changes nothing: the answer is the storage's time, and the loss keeps its own.
        before = (collection.told_alive if own else collection.told).before(read.sent.at)
        if before > time:
            self._say(f"{read.sent} says {time}, though {before} had been told before it began")
        self._check_known(collection, time, read)
        for item, (modified, tag) in answer.items.items():
            if not newer < modified <= time:
                self._say(f"{read.sent} at {time} has {item} of {modified}")
            last = collection.last(item, time)
            if last is None or last.sent.tags.get(item) != tag:
                self._say(f"{read.sent} at {time} has {item} as {tag} and not as {last and last.sent}")
        for item in collection.by_item:
            last = collection.last(item, time)
            if last is None or item not in last.sent.tags or last.time <= newer or item in answer.items:
                continue
            if not self._may_be_missing(collection, item, last, time, read):
                self._say(f"{read.sent} at {time} lacks {item} of {last.sent} at {last.time}")

    def _check_known(self, collection: Collection, time: int, look: Exchange) -> None:
        """A time is that of a write, or of one that nobody answered, or of what the server did by itself."""
        name, sent = collection.name, look.sent
        if time in collection.times or self._doubts.changes(name, 0.0, look.ended):
            return
        if not self._losses.changes(name, look.ended):
            self._say(f"{sent} says {time} of {name}, which is the time of no write")

    def _may_be_gone(self, collection: Collection, item: str | None, after: int, look: Exchange) -> bool:
        """Whether somebody may have deleted the item, or the collection, after a time and before the answer."""
        if collection.removed(item, after, look.ended):
            return True
        last = collection.last_write(after)
        since = 0.0 if last is None else last.sent.at
        return self._doubts.removes(collection.name, item, since, look.ended)

    def _may_be_missing(
        self, collection: Collection, item: str | None, write: Write, time: int | None, look: Exchange
    ) -> bool:
        if self._doubts.removes(collection.name, item, write.sent.at, look.ended):
            return True
        return self._losses.explain(collection, write, time, look.ended)

    # -- an item

    def _check_item(self, look: Exchange) -> None:
        assert look.answer is not None
        collection, item = self._story.collection(look.sent.collection), look.sent.item
        told = max(collection.told.before(look.sent.at), collection.acknowledged(item, look.sent.at))
        last = collection.last(item, told)
        if look.status == 404:
            if last is None or item not in last.sent.tags or collection.removed(item, last.time, look.ended):
                return
            if not self._may_be_missing(collection, item, last, None, look):
                self._say(f"{look.sent} does not find {item} of {last.sent} at {last.time}")
            return
        modified, tag = look.answer.items[item]
        if look.answer.time != modified:
            self._say(f"{look.sent} has {item} of {modified} under the time {look.answer.time}")
        shown = collection.last(item, modified)
        if shown is None or shown.time != modified or shown.sent.tags.get(item) != tag:
            self._say(f"{look.sent} has {item} as {tag} and not as {shown and shown.sent}")
        elif last is not None and modified < last.time:
            self._say(f"{look.sent} has {item} of {modified}, though {last.time} had been told before")

    # -- all collections

    def _check_info(self, look: Exchange) -> None:
        """The times of all collections are those of one moment: the storage's time says which."""
        assert look.answer is not None
        storage = look.time
        before = self._story.told.before(look.sent.at)
        if before > storage:
            self._say(f"{look.sent} says {storage}, though {before} had been told before it began")
        listed = {name: time for name, (time, _) in look.answer.items.items()}
        for name in {*self._story.collections, *listed}:
            self._check_listed(look, self._story.collection(name), listed.get(name), storage)

    def _check_listed(self, look: Exchange, collection: Collection, time: int | None, storage: int) -> None:
        if time is None:
            last = collection.last_effective(storage)
            if last is None or last.removes_collection:
                return
            if not self._may_be_missing(collection, None, last, storage, look):
                self._say(f"{look.sent} at {storage} does not list {collection.name} of {last.time}")
            return
        if time > storage:
            self._say(f"{look.sent} at {storage} lists {collection.name} of {time}")
        self._check_known(collection, time, look)
        last = collection.last_sure(storage)
        if last is not None and (time < last.time or (last.removes_collection and time == last.time)):
            self._say(f"{look.sent} at {storage} lists {collection.name} of {time} and not of {last.time}")
