"""What was measured: samples of rows, their medians, and their way to and from a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One round of one operation. CPU times and latencies in microseconds, per request.

    What a mode cannot know is None. `complaint` says why a sample is worthless; empty for a good one.
    """

    server_us: float
    database_us: float | None = None
    rate: float | None = None
    p50: float | None = None
    p99: float | None = None
    complaint: str = ""


@dataclass(frozen=True)
class Range:
    """Median, least and greatest of some rounds."""

    median: float
    least: float
    greatest: float

    def overlaps(self, other: Range) -> bool:
        """Whether a difference of the two may be noise."""
        return self.least <= other.greatest and other.least <= self.greatest


@dataclass
class Row:
    """All rounds of one operation on one database; `per_unit` requests make one whole (a sync)."""

    database: str
    operation: str
    expected: int
    per_unit: int = 1
    samples: list[Sample] = field(default_factory=list)

    @property
    def complaint(self) -> str:
        """Why the row is worthless: the complaint of the first bad round, else empty."""
        return next((sample.complaint for sample in self.samples if sample.complaint), "")

    def range_of(self, name: str) -> Range | None:
        """Median and extremes over the rounds of the Sample field `name`; None when it was not measured."""
        values = [value for sample in self.samples if (value := getattr(sample, name)) is not None]
        return Range(statistics.median(values), min(values), max(values)) if values else None


def write(path: Path, rows: Sequence[Row], about: dict[str, Any]) -> None:
    """Keep a run, with `about` it (versions, options), for a later `--baseline`."""
    text = json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1)
    path.write_text(text + "\n")


def read(path: Path) -> dict[tuple[str, str], Row]:
    """The rows of an earlier run by (database, operation)."""
    rows = [
        Row(**{**fields, "samples": [Sample(**sample) for sample in fields["samples"]]})
        for fields in json.loads(path.read_text())["rows"]
    ]
    return {(row.database, row.operation): row for row in rows}
