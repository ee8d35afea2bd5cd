"""What clients did and what they were told, and whether a correct server could have answered so.

Every request leaves two records: one before it goes out and one with its answer, each written at once, so that a
client killed at any moment leaves a history that still says what it had asked. Payloads carry a tag that no
other request uses. The times of writes put them in the one order that the server claims for a user; `problems`
replays that order and compares it with everything that was ever read. A write without an answer, or with a 503,
may have happened or not: when its tag is seen it happened, at the time seen, whole.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

Op = Literal["put", "post", "commit", "delete items", "delete collection", "stage", "read", "follow"]
_READS = ("read", "follow")
_MOST_PROBLEMS = 30


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A request about to go out. `at` is in seconds of the monotonic clock, which all processes share.

    `tags` maps the items written to their payloads' tags, a commit's with all that was staged; `gone` lists the
    items to delete. `unless` is X-If-Unmodified-Since and `newer` the parameter, in ticks.
    """

    number: int
    at: float
    uid: int
    op: Op
    collection: str
    tags: dict[str, str] = {}
    gone: list[str] = []
    unless: int | None = None
    newer: int | None = None


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """The answer to request `number`. `time` is X-Last-Modified in ticks; `items` of a read are id: (time, tag)."""

    number: int
    at: float
    status: int
    time: int | None = None
    items: dict[str, tuple[int, str]] = {}
    complaint: str = ""


@dataclass(frozen=True)
class Exchange:
    """A request and its answer, None when none came."""

    sent: Sent
    answer: Answered | None

    @property
    def status(self) -> int | None:
        """The answer's status."""
        return None if self.answer is None else self.answer.status

    @property
    def seconds(self) -> float:
        """How long the answer took; 0 when none came."""
        return 0.0 if self.answer is None else self.answer.at - self.sent.at


def payload_of(tag: str) -> str:
    """The payload that a tag stands for: its last part says how long it is."""
    return tag + "." * int(tag.rpartition("-")[2])


def tag_of(payload: str) -> str:
    """The tag of a payload; one that was damaged comes back whole and matches nothing."""
    tag = payload.rstrip(".")
    return tag if tag.rpartition("-")[2].isdigit() and payload_of(tag) == payload else payload


class Recorder:
    """Appends the records of one client to its file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, record: Sent | Answered) -> None:
        """One line, handed to the kernel at once: it survives the death of the process."""
        os.write(self._file, msgspec.json.encode(record) + b"\n")


def read_history(paths: Iterable[Path]) -> list[Exchange]:
    """The exchanges in the files of several clients. A line that its writer's death cut off is no record."""
    decoder = msgspec.json.Decoder(Sent | Answered)
    exchanges = []
    for path in paths:
        sent: dict[int, Sent] = {}
        answers: dict[int, Answered] = {}
        for line in path.read_bytes().split(b"\n")[:-1]:
            record = decoder.decode(line)
            if isinstance(record, Sent):
                sent[record.number] = record
            else:
                answers[record.number] = record
        exchanges += [Exchange(one, answers.get(number)) for number, one in sent.items()]
    return exchanges


def problems(history: Iterable[Exchange], *, refused_may_count: bool = True) -> list[str]:
    """What no correct server could have answered, in words; empty when all is well.

    With `refused_may_count` False a 503 promises that nothing was written, as it does while nothing is killed.
    """
    everything = list(history)
    found = _answers(everything)
    for uid in sorted({one.sent.uid for one in everything}):
        found += _User([one for one in everything if one.sent.uid == uid], refused_may_count).problems()
        if len(found) > _MOST_PROBLEMS:
            return [*found[:_MOST_PROBLEMS], f"and {len(found) - _MOST_PROBLEMS} more"]
    return found


def _answers(history: list[Exchange]) -> list[str]:
    """Statuses that nothing here asks for, and answers that broke a rule of the protocol by themselves."""
    expected = (200, 202, 304, 404, 412, 503, None)
    found = [
        f"{one.sent}: {one.answer}"
        for one in history
        if one.status not in expected or (one.answer is not None and one.answer.complaint)
    ]
    found += [
        f"{one.sent.op} met a 412 at time {one.answer.time}"
        for one in history
        if one.answer is not None
        and one.status == 412
        and not (one.sent.unless is not None and (one.answer.time or 0) > one.sent.unless)
    ]
    return found


@dataclass
class _Write:
    """A write that is known to have happened, at `time`."""

    exchange: Exchange
    time: int

    @property
    def sent(self) -> Sent:
        return self.exchange.sent

    def touches(self, item: str) -> bool:
        return self.sent.op == "delete collection" or item in self.sent.tags or item in self.sent.gone


class _Answered:
    """The greatest time that had been given to anybody before a moment."""

    def __init__(self, writes: Iterable[_Write]) -> None:
        answered = sorted(
            (one.exchange.answer.at, one.time)
            for one in writes
            if one.exchange.answer is not None and one.exchange.status == 200
        )
        self._moments = [at for at, _ in answered]
        self._greatest = list(itertools.accumulate((time for _, time in answered), max, initial=0))

    def before(self, moment: float) -> int:
        """That time, 0 when there was none."""
        return self._greatest[bisect_left(self._moments, moment)]


@dataclass
class _Collection:
    """The known writes of one collection in the order of their times."""

    writes: list[_Write] = field(default_factory=list)
    by_item: dict[str, list[_Write]] = field(default_factory=dict)
    answered: _Answered = field(default_factory=lambda: _Answered(()))

    def index(self) -> None:
        self.writes.sort(key=lambda write: write.time)
        # A delete that finds nothing creates nothing.
        self.answered = _Answered(one for one in self.writes if not one.sent.op.startswith("delete"))
        items = {item for write in self.writes for item in (*write.sent.tags, *write.sent.gone)}
        self.by_item = {item: [one for one in self.writes if one.touches(item)] for item in items}

    def last(self, item: str, time: int) -> _Write | None:
        """The last write of the item at or before `time`."""
        writes = self.by_item.get(item, [])
        at = bisect_right(writes, time, key=lambda write: write.time)
        return writes[at - 1] if at else None


class _User:
    """The check of one user's exchanges."""

    def __init__(self, exchanges: list[Exchange], refused_may_count: bool) -> None:
        self._found: list[str] = []
        self._reads = [
            one for one in exchanges if one.sent.op in _READS and one.answer is not None and one.status == 200
        ]
        writes = [one for one in exchanges if one.sent.op not in (*_READS, "stage")]
        doubtful = (None, 503) if refused_may_count else (None,)
        self._known = [
            _Write(one, one.answer.time or 0)
            for one in writes
            if one.status == 200 and one.answer is not None
        ]
        self._doubtful = [one for one in writes if one.status in doubtful]
        self._refused = [one for one in writes if one.status != 200 and one.status not in doubtful]
        self._collections: defaultdict[str, _Collection] = defaultdict(_Collection)

    def problems(self) -> list[str]:
        self._learn_from_reads()
        for write in self._known:
            self._collections[write.sent.collection].writes.append(write)
        for collection in self._collections.values():
            collection.index()
        self._check_times()
        self._check_real_time()
        self._check_preconditions()
        for read in self._reads:
            self._check_read(read)
        self._check_followers()
        return self._found

    def _say(self, text: str) -> None:
        self._found.append(text)

    def _learn_from_reads(self) -> None:
        """Which doubtful writes happened, and whether every tag was always seen with the one right time."""
        seen: dict[tuple[str, str, str], int] = {}
        for read in self._reads:
            assert read.answer is not None
            for item, (time, tag) in read.answer.items.items():
                before = seen.setdefault((read.sent.collection, item, tag), time)
                if before != time:
                    self._say(f"{item} with {tag} was seen at {before} and at {time}")
        times: dict[int, int] = {}
        owners = {
            (write.sent.collection, item, tag): write.time
            for write in self._known
            for item, tag in write.sent.tags.items()
        }
        doubtful = {
            (one.sent.collection, item, tag): one
            for one in self._doubtful
            for item, tag in one.sent.tags.items()
        }
        refused = {tag: one for one in self._refused for tag in one.sent.tags.values()}
        for key, time in seen.items():
            if key in owners:
                if owners[key] != time:
                    self._say(f"{key} was acknowledged at {owners[key]} and seen at {time}")
            elif key in doubtful:
                one = doubtful[key]
                if times.setdefault(id(one), time) != time:
                    self._say(f"the items of {one.sent} have different times")
            elif key[2] in refused:
                self._say(f"{key} was refused with {refused[key[2]].status} and yet stored")
            else:
                self._say(f"{key} was never sent")
        self._known += [_Write(one, times[id(one)]) for one in self._doubtful if id(one) in times]
        self._doubtful = [one for one in self._doubtful if id(one) not in times]

    def _check_times(self) -> None:
        """All distinct. A delete that found no collection changes nothing and tells the storage's time."""
        by_time: dict[int, _Write] = {}
        idle = []
        for write in self._known:
            if write.sent.op == "delete collection" or (write.sent.op == "delete items" and write.sent.gone):
                idle.append(write)
            elif write.time in by_time:
                self._say(f"one time {write.time} for {by_time[write.time].sent} and {write.sent}")
            else:
                by_time[write.time] = write
        for write in idle:
            other = by_time.get(write.time)
            if other is not None and other.sent.collection == write.sent.collection:
                self._say(f"one time {write.time} for {other.sent} and {write.sent}")

    def _check_real_time(self) -> None:
        """What began after an answer has a greater time, and sees what was answered."""
        answered = _Answered(self._known)
        for write in self._known:
            before = answered.before(write.sent.at)
            no_change = write.sent.op.startswith("delete") and write.time == before
            if write.time <= before and not no_change:
                self._say(f"{write.sent} got {write.time}, though {before} had been given before it began")

    def _check_preconditions(self) -> None:
        """Nothing stands between what X-If-Unmodified-Since had seen and the write."""
        for write in self._known:
            unless = write.sent.unless
            if unless is None:
                continue
            collection = self._collections[write.sent.collection]
            if write.sent.op == "put":
                (item,) = write.sent.tags
                before = collection.last(item, write.time - 1)
            else:
                at = bisect_right(collection.writes, write.time - 1, key=lambda one: one.time)
                before = collection.writes[at - 1] if at else None
            if before is None or before.time <= unless or before.sent.op.startswith("delete"):
                continue
            if not self._may_be_deleted(write.sent.collection, None, write.exchange):
                self._say(f"{write.sent} passed its precondition over {before.sent} at {before.time}")

    def _may_be_deleted(self, collection: str, item: str | None, until: Exchange) -> bool:
        end = until.answer.at if until.answer is not None else float("inf")
        return any(
            one.sent.collection == collection
            and one.sent.at < end
            and (one.sent.op == "delete collection" or item is None or item in one.sent.gone)
            for one in self._doubtful
        )

    def _check_read(self, read: Exchange) -> None:
        """Whatever has a time up to X-Last-Modified is in the answer, and nothing else."""
        assert read.answer is not None
        name, answer = read.sent.collection, read.answer
        collection, time = self._collections[name], answer.time or 0
        if time == 0:
            self._check_missing(read)
            return
        newer = read.sent.newer or 0
        before = collection.answered.before(read.sent.at)
        if before > time:
            self._say(f"{read.sent} says {time}, though {before} had been given before it began")
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
            if not self._may_be_deleted(name, item, read):
                self._say(f"{read.sent} at {time} lacks {item} of {last.sent} at {last.time}")

    def _check_missing(self, read: Exchange) -> None:
        """A collection that is not there has no items, and was not written before or deleted since."""
        assert read.answer is not None
        if read.answer.items:
            self._say(f"{read.sent} has items of a collection without a time")
        collection = self._collections[read.sent.collection]
        before = collection.answered.before(read.sent.at)
        end = read.answer.at
        deleted = any(one.sent.op == "delete collection" and one.sent.at < end for one in collection.writes)
        if before and not deleted and not self._may_be_deleted(read.sent.collection, None, read):
            self._say(f"{read.sent} finds no collection, though it had been written at {before}")

    def _check_followers(self) -> None:
        """Who polls with `newer` has what a full read shows. Followed collections see no deletes."""
        for name in {one.sent.collection for one in self._reads if one.sent.op == "follow"}:
            here = [one for one in self._reads if one.sent.collection == name]
            polls = sorted((one for one in here if one.sent.op == "follow"), key=lambda one: one.sent.at)
            full = max(
                (one for one in here if one.sent.op == "read" and one.sent.newer is None),
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
                reached = poll.answer.time or 0
            if full is None or full.answer is None or full.sent.at < polls[-1].sent.at:
                self._say(f"nobody read {name} whole at the end")
                continue
            for item, shown in full.answer.items.items():
                if shown[0] <= reached and merged.get(item) != shown:
                    self._say(f"a follower of {name} has {merged.get(item)} for {item}, which is {shown}")
            for item in merged.keys() - full.answer.items.keys():
                self._say(f"a follower of {name} has {item}, which is not there")
