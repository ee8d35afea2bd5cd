"""The benchmark of small-object caches measures what it says."""

from __future__ import annotations

import re

import pytest

from bench.caches import main


def test_it_prints_a_line_for_each_operation_of_a_provider(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--providers", "memory,dbm", "--seconds", "0.05"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    cell = r" +[\d.]+ \([\d.]+\) [\d,]+/s"
    assert [line.split()[:2] for line in lines] == [
        ["memory", "store"],
        ["memory", "retrieve"],
        ["dbm", "store"],
        ["dbm", "retrieve"],
    ]
    assert all(re.search(f"{cell}{cell}$", line) for line in lines)


def test_an_unknown_provider_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--providers", "paper"])
    assert "there is no paper" in capsys.readouterr().err
