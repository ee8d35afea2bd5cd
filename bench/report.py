"""The table on standard output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.samples import Range, Row

_HEADER = [
    "database",
    "operation",
    "server CPU us",
    "[min-max]",
    "db CPU us",
    "req/s",
    "p50 ms",
    "p99 ms",
    "status",
]


def table(rows: Sequence[Row], baseline: Mapping[tuple[str, str], Row] | None = None) -> str:
    """One line per row, columns aligned. With a `baseline` a last column has the ratio of the server's CPU.

    `~` before a ratio: the ranges of the two runs overlap, so it may be noise.
    """
    lines = [_HEADER + (["vs baseline"] if baseline is not None else [])]
    for row in rows:
        if row.complaint:
            lines.append([row.database, row.operation, f"FAILED: {row.complaint} (expected {row.expected})"])
            continue
        lines.append(_line(row, 1) + ([_ratio(row, baseline)] if baseline is not None else []))
        if row.per_unit > 1:
            lines.append(_line(row, row.per_unit))
    return _aligned(lines)


def _line(row: Row, times: int) -> list[str]:
    """The figures of `row`, CPU multiplied and rate divided by `times`: the line of a whole unit."""
    server = row.range_of("server_us")
    if server is None:
        return [row.database, row.operation, "not measured"]
    whole = times > 1
    return [
        row.database,
        f"  whole, {times} requests" if whole else row.operation,
        f"{server.median * times:.1f}",
        f"[{server.least * times:.1f}-{server.greatest * times:.1f}]",
        _number(row.range_of("database_us"), times),
        _number(row.range_of("rate"), 1 / times, digits=0),
        "" if whole else _number(row.range_of("p50"), 1e-3, digits=2),
        "" if whole else _number(row.range_of("p99"), 1e-3, digits=2),
        "" if whole else str(row.expected),
    ]


def _number(measured: Range | None, factor: float, digits: int = 1) -> str:
    return "-" if measured is None else f"{measured.median * factor:.{digits}f}"


def _ratio(row: Row, baseline: Mapping[tuple[str, str], Row]) -> str:
    before = baseline.get((row.database, row.operation))
    then = None if before is None or before.complaint else before.range_of("server_us")
    now = row.range_of("server_us")
    if then is None or now is None or not then.median:
        return "-"
    return f"{'~' if now.overlaps(then) else ''}{now.median / then.median:.2f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    full = [line for line in lines if len(line) > 3]
    widths = [max(len(line[at]) for line in full if at < len(line)) for at in range(max(map(len, full)))]
    shown = []
    for line in lines:
        cells = [
            cell
            if len(line) <= 3 and at == 2
            else cell.ljust(widths[at])
            if at < 2
            else cell.rjust(widths[at])
            for at, cell in enumerate(line)
        ]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)
