"""The table that a person reads."""

from __future__ import annotations

from bench.report import table
from bench.samples import Row, Sample


def row(operation: str, *times: float, per_unit: int = 1, complaint: str = "") -> Row:
    taken = [Sample(time, 10.0, 4000.0, 250.0, 900.0, complaint) for time in times]
    return Row("mysql", operation, 200, per_unit, taken)


def test_a_row_shows_median_extremes_and_milliseconds() -> None:
    line = table([row("put_item", 90.0, 100.0, 120.0)]).splitlines()[1]

    assert line.split() == [
        "mysql",
        "put_item",
        "100.0",
        "[90.0-120.0]",
        "10.0",
        "4000",
        "0.25",
        "0.90",
        "200",
    ]


def test_a_sync_is_shown_per_request_and_as_a_whole() -> None:
    lines = table([row("idle_sync", 50.0, per_unit=4)]).splitlines()

    assert lines[1].split()[2] == "50.0"
    assert lines[2].split() == ["mysql", "whole,", "4", "requests", "200.0", "[200.0-200.0]", "40.0", "1000"]


def test_a_failed_row_shows_no_figures() -> None:
    line = table([row("put_item", 1.0, complaint="7 answers 503")]).splitlines()[1]

    assert line.endswith("FAILED: 7 answers 503 (expected 200)")


def test_ratios_stand_beside_the_rows_that_the_baseline_has() -> None:
    before = {("mysql", "put_item"): row("put_item", 200.0), ("mysql", "bad"): row("bad", 1.0, complaint="x")}

    lines = table([row("put_item", 100.0), row("new", 5.0), row("bad", 5.0)], before).splitlines()

    assert [line.split()[-1] for line in lines[1:]] == ["0.50", "-", "-"]


def test_a_ratio_within_the_noise_is_marked() -> None:
    before = {("mysql", "put_item"): row("put_item", 90.0, 110.0)}

    line = table([row("put_item", 95.0, 105.0)], before).splitlines()[1]

    assert line.split()[-1] == "~1.00"
