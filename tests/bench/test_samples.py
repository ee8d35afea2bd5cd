"""Rows: medians, complaints, and the file that a later run compares with."""

from __future__ import annotations

from pathlib import Path

from bench import samples
from bench.samples import Range, Row, Sample


def row(*times: float, complaint: str = "") -> Row:
    return Row("sqlite", "put_item", 200, 1, [Sample(time, complaint=complaint) for time in times])


def test_a_range_is_the_median_and_the_extremes() -> None:
    assert row(5.0, 1.0, 3.0).range_of("server_us") == Range(3.0, 1.0, 5.0)


def test_what_was_not_measured_has_no_range() -> None:
    assert row(1.0).range_of("database_us") is None


def test_one_bad_round_spoils_the_row() -> None:
    spoilt = row(1.0, 2.0)
    spoilt.samples.append(Sample(3.0, complaint="2 answers 503"))

    assert spoilt.complaint == "2 answers 503"


def test_ranges_overlap_when_a_difference_may_be_noise() -> None:
    assert Range(2, 1, 3).overlaps(Range(4, 3, 5))
    assert not Range(2, 1, 3).overlaps(Range(5, 4, 6))


def test_a_run_survives_the_file(tmp_path: Path) -> None:
    rows = [row(1.0, 2.0), Row("mysql", "idle_sync", 200, 4, [Sample(1.0, 2.0, 3.0, 4.0, 5.0)])]

    samples.write(tmp_path / "run.json", rows, {"python": "3"})

    assert list(samples.read(tmp_path / "run.json").values()) == rows
