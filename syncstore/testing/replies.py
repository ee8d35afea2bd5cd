"""An answer of a sync server, and the rules that hold for every answer, whatever was asked.

JSON decimals arrive as `Decimal`, so that "exactly two digits" can be seen. `check` states the general rules
(sync-api sections 3, 5, 9, 11 and 15) in one place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

TIMESTAMP = re.compile(r"[0-9]{1,17}\.[0-9]{2}")
ITEM_KEYS = {"id", "modified", "payload", "sortindex"}


@dataclass(frozen=True)
class Reply:
    """One answer. Header names are matched in any case; `reply["X-Last-Modified"]` must be there."""

    method: str
    target: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def __getitem__(self, header: str) -> str:
        value = self.headers.get(header.lower())
        assert value is not None, f"{self}: the header {header} is missing"
        return value

    def get(self, header: str) -> str | None:
        return self.headers.get(header.lower())

    @property
    def media_type(self) -> str:
        return (self.get("Content-Type") or "").partition(";")[0].strip()

    @property
    def text(self) -> str:
        return self.body.decode()

    @cached_property
    def json(self) -> Any:
        """The parsed body; numbers with a decimal point are `Decimal`, trailing zeros kept."""
        return json.loads(self.body, parse_float=Decimal)

    @property
    def modified(self) -> Decimal:
        """X-Last-Modified."""
        return Decimal(self["X-Last-Modified"])

    def __str__(self) -> str:
        return f"{self.method} {self.target[:200]} -> {self.status} {self.body[:300]!r}"

    __repr__ = __str__


def check(reply: Reply, *, storage: bool = True) -> None:
    """The rules that hold for every answer, whatever was asked. Raises AssertionError.

    `storage` is False for the site's own pages, which need no timestamps (section 17).
    """
    preflight = reply.method == "OPTIONS" and reply.status < 400
    if storage and not preflight:
        _check_times(reply)
    if reply.method == "HEAD":
        assert not reply.body, f"{reply}: an answer to HEAD has no body (section 2)"
    if reply.status == 304:
        assert not reply.body, f"{reply}: a 304 has no body (section 9)"
        # it would be that of the 200 which the client has (RFC 9110, section 8.6)
        assert reply.get("Content-Length") != "0", f"{reply}: a 304 with a length of its own"
    if reply.status >= 400:
        _check_error(reply)
    elif storage and not preflight and reply.status != 304 and reply.method != "HEAD":
        _check_answer(reply)


def _check_times(reply: Reply) -> None:
    now = reply["X-Weave-Timestamp"]
    assert TIMESTAMP.fullmatch(now), f"{reply}: X-Weave-Timestamp {now!r} is no timestamp (section 3)"
    modified = reply.get("X-Last-Modified")
    if modified is None:
        assert reply.status >= 400, f"{reply}: X-Last-Modified is missing (section 11)"
        assert reply.status != 412, f"{reply}: a 412 carries X-Last-Modified (section 9)"
        return
    assert TIMESTAMP.fullmatch(modified), f"{reply}: X-Last-Modified {modified!r} (section 3)"
    assert Decimal(now) >= Decimal(modified), (
        f"{reply}: X-Weave-Timestamp {now} is before X-Last-Modified {modified} (section 11)"
    )
    if reply.status == 200 and reply.method in ("PUT", "POST"):
        assert now == modified, f"{reply}: a write has one time: {now} is not {modified} (section 11)"


def _check_error(reply: Reply) -> None:
    if reply.status == 401:
        assert reply["WWW-Authenticate"].startswith("Hawk"), f"{reply}: no Hawk challenge (auth section 8)"
    if reply.status == 503:
        assert int(reply["Retry-After"]) > 0, f"{reply}: a 503 says when to come again (section 15)"
    if reply.method != "HEAD":
        assert reply.media_type == "application/json", f"{reply}: {reply.media_type!r} (section 15)"
        assert re.fullmatch(rb"[0-9]{1,2}\n?", reply.body), f"{reply}: no integer code (section 15)"


def _check_answer(reply: Reply) -> None:
    count = reply.get("X-Weave-Records")
    if reply.media_type == "application/newlines":
        assert reply.method == "GET", f"{reply}: only lists come as newlines (section 5.1)"
        lines = reply.text.split("\n")
        assert lines.pop() == "", f"{reply}: every line ends with a newline (section 5.1)"
        content: Any = [json.loads(line, parse_float=Decimal) for line in lines]
    else:
        assert reply.media_type == "application/json", (
            f"{reply}: its Content-Type is {reply.media_type!r} (section 5.1)"
        )
        content = reply.json
    if count is not None:
        assert int(count) == len(content), f"{reply}: X-Weave-Records is {count} (section 11)"
    if isinstance(content, Decimal):
        _check_timestamp(reply, content)
    elif reply.target.partition("?")[0].endswith("/info/collections"):
        for value in content.values():
            _check_timestamp(reply, value)
    for element in content if isinstance(content, list) else [content]:
        if isinstance(element, dict) and "modified" in element:
            _check_timestamp(reply, element["modified"])
        if isinstance(element, dict) and "payload" in element:
            assert element.keys() <= ITEM_KEYS, f"{reply}: unknown keys in {element} (section 7)"
            assert element.keys() >= {"id", "modified"}, f"{reply}: keys missing in {element} (section 7)"
            assert None not in element.values(), f"{reply}: a null in {element} (section 7)"


def _check_timestamp(reply: Reply, value: object) -> None:
    assert isinstance(value, Decimal), f"{reply}: {value!r} is no decimal number (section 3)"
    assert TIMESTAMP.fullmatch(str(value)), f"{reply}: {value} needs exactly two decimals (section 3)"
