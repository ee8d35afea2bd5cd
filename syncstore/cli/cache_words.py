"""What the cache holds of a user, as lines for a person and as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from syncstore.clock import TICKS_PER_SECOND, format_ticks

if TYPE_CHECKING:
    from syncstore.storage.layered.inspecting import CopySeen, EntrySeen, ItemsSeen, Report

_STATES = {
    "agrees": "agrees with SQL",
    "newer": "SQL says {kept}: a writer is about to commit, or did not get to it",
    "older": "SQL says {kept}: they are lost, and the next request will say so",
    "missing": "lost: SQL says {kept}; the next request will say so",
    "lost": "lost, as clients are told since {kept}",
    "unused": "left over: the collection does not exist",
}


def lines(report: Report) -> Iterator[str]:
    """A report for a person, the first line of which names the user."""
    yield f"user {report.uid}"
    record = report.record
    if not report.trusted:
        yield "  record and copies: the cache is out of use for them (declared failed, or not used yet)"
    elif record is None:
        yield "  no record"
    else:
        known = "storage not known" if record.storage is None else f"storage {when(record.storage)}"
        yield f"  record: {'complete' if record.complete else 'incomplete'}, {known}"
        width = max((len(entry.collection) for entry in record.collections), default=0)
        yield from (f"    {entry.collection:{width}}  {_entry(entry)}" for entry in record.collections)
    yield from (f"  copy of {copy.collection}: {_copy(copy)}" for copy in report.copies)
    yield from (f"  {seen.collection}, in the cache alone: {_items(seen)}" for seen in report.cached_only)


def _entry(entry: EntrySeen) -> str:
    if entry.time is None:
        return "dirty: a writer is about to commit, or SQL has to be asked what became of one"
    prefix = "" if entry.state == "clean" else f"{entry.state} at "
    return f"{prefix}{when(entry.time)}"


def _copy(copy: CopySeen) -> str:
    content = "too large to copy" if copy.items is None else f"{copy.items} items, {copy.bytes} bytes"
    return f"of {when(copy.time)}, {content}, {'believed' if copy.believed else 'not believed'}"


def _items(seen: ItemsSeen) -> str:
    state = _STATES[seen.state].format(kept="" if seen.kept is None else when(seen.kept))
    if seen.time is None:
        return state
    return f"of {when(seen.time)}, {seen.items} items, {seen.bytes} bytes; {state}"


def when(ticks: int) -> str:
    """A time as the protocol writes it, and as a person reads it."""
    date = datetime.fromtimestamp(ticks // TICKS_PER_SECOND, UTC)
    return f"{format_ticks(ticks)} ({date:%Y-%m-%d %H:%M:%S} UTC)"


def as_json(report: Report) -> str:
    """A report in one line of JSON, its times as the protocol has them: numbers with two decimals."""
    record = report.record
    return msgspec.json.encode(
        {
            "uid": report.uid,
            "trusted": report.trusted,
            "record": record
            and {
                "complete": record.complete,
                "storage": _number(record.storage),
                "collections": {
                    entry.collection: {"state": entry.state, "time": _number(entry.time)}
                    for entry in record.collections
                },
            },
            "copies": {
                copy.collection: {
                    "time": _number(copy.time),
                    "items": copy.items,
                    "bytes": copy.bytes,
                    "believed": copy.believed,
                }
                for copy in report.copies
            },
            "cached_only": {
                seen.collection: {
                    "state": seen.state,
                    "time": _number(seen.time),
                    "items": seen.items,
                    "bytes": seen.bytes,
                    "sql_time": _number(seen.kept),
                }
                for seen in report.cached_only
            },
        }
    ).decode()


def _number(ticks: int | None) -> msgspec.Raw | None:
    return None if ticks is None else msgspec.Raw(format_ticks(ticks).encode())
