"""The records of what clients asked and were told, and the files that they are kept in.

Every request leaves two records: one before it goes out and one with its answer, each written at once, so that a
client killed at any moment leaves a history that still says what it had asked. Payloads carry a tag that no
other request uses.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

# fmt: off
Op = Literal[
    "put", "post", "commit", "delete items", "delete collection", "delete everything", "stage",
    "read", "follow", "item", "info",
]
# fmt: on
READS: Final = ("read", "follow")
"""Reads of a collection: whole, or what is newer than a time."""
LOOKS: Final = (*READS, "item", "info")
"""All that change nothing."""
REMOVALS: Final = ("delete collection", "delete everything")
"""What takes a whole collection away."""


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A request about to go out. `at` is in seconds of the monotonic clock, which all processes share.

    `tags` maps the items written to their payloads' tags; a stage's or a commit's with all that was staged. `gone`
    lists the items to delete, `item` is the one to read. `unless` is X-If-Unmodified-Since and `newer` the
    parameter, in ticks. `collection` is empty where all are meant. `batch_at` is when the batch's first request went
    out, 0 for that one itself: later ones may have replaced all that it staged.
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
    item: str = ""
    batch_at: float = 0.0


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """The answer to request `number`. `time` is X-Last-Modified in ticks; `items` of a read are id: (time, tag), and
    of info/collections name: (time, "")."""

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

    @property
    def time(self) -> int:
        """X-Last-Modified in ticks; 0 when there was none."""
        return 0 if self.answer is None else self.answer.time or 0

    @property
    def ended(self) -> float:
        """When the answer came; infinitely late when none did."""
        return float("inf") if self.answer is None else self.answer.at


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
