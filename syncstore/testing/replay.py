"""Replays a recorded client session against a server and tells each answer that is not as recorded.

A session is a file of JSON lines, one exchange each, in the order in which a server saw them. What the
recording client had learned from answers (times, batch ids, offsets) is replaced by what the server under
test answered at that place: `Correspondence`. Times need not be equal, but each recorded time must stand
for one live time wherever a client meets it, and later writes for later times. `Model` follows the
recorded requests and knows what must be stored at the end.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from syncstore.testing.client import SyncClient
from syncstore.testing.replies import Reply

MOST_DIFFERENCES = 5  # after that the stores have parted and say nothing new
FAR_FUTURE = Decimal(4_000_000_000)  # beyond any time that a server gave: means "whatever is there"
MOST_LINES = 40  # of one difference in a report
LONGEST_LINE = 150  # characters of a line in a report

# info/configuration tells the server's own limits: they need not be the recording's, but be there
CONFIGURATION = "/info/configuration"

Item = dict[str, Any]


@dataclass(frozen=True)
class Exchange:
    """One recorded request with its answer. `line` counts from 1, as editors do."""

    line: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: str
    status: int
    answer_headers: Mapping[str, str]
    answer: str

    @property
    def json(self) -> Any:
        return json.loads(self.answer, parse_float=_time) if self.answer else None

    @property
    def modified(self) -> Decimal:
        """The recorded X-Last-Modified, 0 where there was none."""
        return Decimal(self.answer_headers.get("X-Last-Modified", "0.00"))

    @property
    def resource(self) -> str:
        return self.path.partition("?")[0]

    @property
    def parameters(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.path.partition("?")[2].split("&") if pair)
        return {name: unquote(value) for name, _, value in pairs}

    @property
    def writes(self) -> bool:
        """Whether it was a write that took a time of its own."""
        return self.method in ("PUT", "POST", "DELETE") and self.status == 200

    def __str__(self) -> str:
        return f"line {self.line}: {self.method} {self.path}"


def read_session(path: Path) -> list[Exchange]:
    """The exchanges of a recording, in its order."""
    session = []
    for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        one = json.loads(text)
        session.append(
            Exchange(
                line=line,
                method=one["method"],
                path=one["path"],
                headers=one["headers"],
                body=one["body"],
                status=one["status"],
                answer_headers=one["response_headers"],
                answer=one["response_body"],
            )
        )
    return session


def _time(text: str) -> Decimal:
    # the recording server dropped trailing zeros in bodies
    return Decimal(text).quantize(Decimal("0.01"))


class Correspondence:
    """What of the recording stands for what of the server under test."""

    def __init__(self) -> None:
        self._recorded = [Decimal("0.00")]
        self._live = [Decimal("0.00")]
        self._batches: dict[str, str] = {}
        self._offsets: dict[str, str] = {}

    def learn_time(self, recorded: Decimal, live: Decimal, *, changes: bool) -> None:
        """A write was answered at this time. `changes` is False for one that had nothing to do.

        Raises ValueError when live times do not grow as the recorded ones do.
        """
        if recorded <= self._recorded[-1]:
            raise ValueError(f"the recording is out of order: {recorded} after {self._recorded[-1]}")
        if live < self._live[-1] or (changes and live == self._live[-1]):
            raise ValueError(f"a later write got the time {live}, an earlier one {self._live[-1]}")
        self._recorded.append(recorded)
        self._live.append(live)

    def learn_ids(self, exchange: Exchange, reply: Reply) -> None:
        """Remember the batch id and the offset that the two answers hold, if they hold one."""
        recorded = exchange.json if exchange.method == "POST" else None
        if isinstance(recorded, dict) and "batch" in recorded and isinstance(reply.json, dict):
            self._batches.setdefault(recorded["batch"], str(reply.json.get("batch")))
        offset = exchange.answer_headers.get("X-Weave-Next-Offset")
        if offset is not None:
            self._offsets[offset] = reply.get("X-Weave-Next-Offset") or ""

    def time(self, recorded: Decimal) -> Decimal | None:
        """The live time of a recorded one; None for one that no write was answered."""
        index = bisect_right(self._recorded, recorded) - 1
        return self._live[index] if self._recorded[index] == recorded else None

    def batch(self, recorded: str) -> str:
        return self._batches.get(recorded, recorded)

    def sent(self, text: str) -> str:
        """What to send for a time in a recorded request, in the form in which it was sent."""
        recorded = Decimal(text)
        if recorded == 0 or recorded > FAR_FUTURE:
            return text
        live = self.time(recorded)
        if live is None:
            live = self._between(recorded)
        as_header = re.fullmatch(r"[0-9]+\.[0-9]0", text) is not None
        return f"{live:.2f}" if as_header else f"{live.normalize():f}"

    def _between(self, recorded: Decimal) -> Decimal:
        """A time that the client made up: as long before the next known one, but not before the last."""
        index = bisect_right(self._recorded, recorded)
        if index == len(self._recorded):
            return self._live[-1] + (recorded - self._recorded[-1])
        distance = self._recorded[index] - recorded
        return max(self._live[index - 1], self._live[index] - distance)

    def path(self, exchange: Exchange) -> str:
        """The recorded path with live times, batch id and offset; the rest untouched."""
        resource, mark, query = exchange.path.partition("?")
        pairs = []
        for pair in query.split("&"):
            name, equals, value = pair.partition("=")
            if name in ("newer", "older"):
                value = self.sent(value)
            elif name == "batch" and value.lower() != "true":
                value = quote(self.batch(unquote(value)), safe="")
            elif name == "offset":
                value = quote(self._offsets.get(unquote(value), value), safe="")
            pairs.append(f"{name}{equals}{value}")
        return resource + mark + "&".join(pairs)

    def headers(self, exchange: Exchange) -> dict[str, str | None]:
        times = ("x-if-unmodified-since", "x-if-modified-since")
        return {k: self.sent(v) if k.lower() in times else v for k, v in exchange.headers.items()}


class Model:
    """What a server must hold after the recorded requests, with the recorded times."""

    def __init__(self) -> None:
        self.collections: dict[str, dict[str, Item]] = {}
        self.times: dict[str, Decimal] = {}
        self._staged: dict[str, list[Item]] = {}

    def follow(self, exchange: Exchange) -> bool:
        """Apply one exchange as it was answered; whether it changed anything."""
        if exchange.method == "GET" or exchange.status not in (200, 202):
            return False
        parts = exchange.resource.split("/")[2:]
        if exchange.method == "DELETE":
            return self._delete(parts, exchange)
        items = json.loads(exchange.body)
        if exchange.method == "PUT":
            self._write(parts[0], [{**items, "id": unquote(parts[1])}], exchange.modified)
            return True
        accepted = [item for item in items if item["id"] in exchange.json["success"]]
        if exchange.status == 202:
            self._staged.setdefault(exchange.json["batch"], []).extend(accepted)
            return False
        batch = exchange.parameters.get("batch", "true")
        staged = [] if batch == "true" else self._staged.pop(batch)
        self._write(parts[0], staged + accepted, exchange.modified, committed=batch != "true")
        return True

    def _write(self, name: str, items: Sequence[Item], stamp: Decimal, *, committed: bool = False) -> None:
        collection = self.collections.setdefault(name, {})
        self.times[name] = stamp
        for fields in items:
            new = fields["id"] not in collection
            item = collection.setdefault(fields["id"], {"id": fields["id"], "payload": "", "modified": stamp})
            given = {k: fields[k] for k in ("payload", "sortindex") if fields.get(k) is not None}
            item.update(given)
            if new or given or committed:
                item["modified"] = stamp

    def _delete(self, parts: Sequence[str], exchange: Exchange) -> bool:
        if not parts:
            changed = bool(self.collections)
            self.collections.clear()
            self.times.clear()
            self._staged.clear()
            return changed
        name = parts[0]
        if name not in self.collections:
            return False
        ids = exchange.parameters.get("ids", "").split(",") if "ids" in exchange.parameters else None
        if len(parts) > 1:
            ids = [unquote(parts[1])]
        if ids is None:
            del self.collections[name], self.times[name]
        else:
            for one in ids:
                self.collections[name].pop(one, None)
            self.times[name] = exchange.modified
        return True


def replay(client: SyncClient, session: Sequence[Exchange]) -> list[str]:
    """Send a session as `client`, new to the server; the differences, each with its line."""
    known, model = Correspondence(), Model()
    differences: list[str] = []
    for exchange in session:
        reply = client.request(
            exchange.method, known.path(exchange), exchange.body or None, known.headers(exchange)
        )
        changes = model.follow(exchange)
        found = _differences(exchange, reply, known, changes=changes)
        differences.extend(f"{exchange}\n{text}" for text in found)
        if len(differences) >= MOST_DIFFERENCES:
            return differences
    return differences + list(_final_differences(client, model, known))


def _differences(exchange: Exchange, reply: Reply, known: Correspondence, *, changes: bool) -> Iterator[str]:
    if reply.status != exchange.status:
        yield f"status {reply.status} instead of {exchange.status}: {reply}"
        return
    if exchange.writes:
        try:
            known.learn_time(exchange.modified, reply.modified, changes=changes)
        except ValueError as error:
            yield str(error)
    known.learn_ids(exchange, reply)
    if exchange.resource == CONFIGURATION:
        missing = sorted(exchange.json.keys() - reply.json.keys())
        if missing:
            yield f"limits that are not told: {missing}"
        return
    for name in ("X-Last-Modified", "X-Weave-Records", "X-Weave-Next-Offset"):
        yield from _header_differences(name, exchange, reply, known)
    ordered = "sort" in exchange.parameters
    expected = _comparable(_in_live_terms(exchange.json, known), ordered=ordered)
    yield from _diff(expected, _comparable(reply.json, ordered=ordered))


def _header_differences(name: str, exchange: Exchange, reply: Reply, known: Correspondence) -> Iterator[str]:
    recorded, live = exchange.answer_headers.get(name), reply.get(name)
    if recorded is None:
        if name == "X-Weave-Next-Offset" and live is not None:
            yield f"{name}: {live}, where the recording says that nothing is left"
        return
    expected: str | None = recorded
    if name == "X-Last-Modified":
        stamp = known.time(exchange.modified)
        expected = None if stamp is None else f"{stamp:.2f}"
    elif name == "X-Weave-Next-Offset":
        expected = live  # opaque: it has to be there
    if expected is None or expected != live:
        yield f"{name}: {live} instead of {expected}, which the recording's {recorded} stands for"


def _in_live_terms(value: Any, known: Correspondence) -> Any:
    """A recorded answer with every time and batch id as the live server has it."""
    if isinstance(value, Decimal):
        live = known.time(value)
        return f"{value}, which no write was answered" if live is None else live
    if isinstance(value, list):
        return [_in_live_terms(element, known) for element in value]
    if isinstance(value, dict):
        return {
            name: known.batch(element) if name == "batch" else _in_live_terms(element, known)
            for name, element in value.items()
        }
    return value


def _comparable(value: Any, *, ordered: bool) -> Any:
    """An answer without the order that the protocol leaves free: of equal times, or of a list unsorted."""
    if not (isinstance(value, list) and all(isinstance(element, dict) for element in value)):
        return value
    if not ordered:
        return sorted(value, key=lambda item: str(item["id"]))
    groups: list[list[Item]] = []
    for item in value:
        if not groups or groups[-1][0]["modified"] != item["modified"]:
            groups.append([])
        groups[-1].append(item)
    # a time that comes back after another one is a wrong order, which its group keeps showing
    return [sorted(group, key=lambda item: str(item["id"])) for group in groups]


def _final_differences(client: SyncClient, model: Model, known: Correspondence) -> Iterator[str]:
    """What is stored at the end, against the model."""
    expected = {name: _in_live_terms(stamp, known) for name, stamp in model.times.items()}
    for text in _diff(expected, client.get("/info/collections").json):
        yield f"the collections at the end\n{text}"
    for name, items in sorted(model.collections.items()):
        wanted = _comparable(_in_live_terms(list(items.values()), known), ordered=False)
        found = _comparable(client.get(f"/storage/{name}?full=1").json, ordered=False)
        for text in _diff(wanted, found):
            yield f"the items of {name} at the end\n{text}"


def _diff(expected: Any, found: Any) -> Iterator[str]:
    if expected == found:
        return
    lines = list(difflib.unified_diff(_lines(expected), _lines(found), "recorded", "live", n=2, lineterm=""))
    more = len(lines) - MOST_LINES
    yield "\n".join([*lines[:MOST_LINES], *([f"... and {more} lines more"] if more > 0 else [])])


def _lines(value: Any) -> list[str]:
    """An answer in lines that a person can read; a digest tells long ones apart."""
    lines = json.dumps(value, indent=1, sort_keys=True, default=str).splitlines()
    return [line if len(line) <= LONGEST_LINE else _shortened(line) for line in lines]


def _shortened(line: str) -> str:
    digest = hashlib.sha256(line.encode()).hexdigest()[:8]
    return f"{line[:LONGEST_LINE]}... {len(line)} characters, {digest}"
