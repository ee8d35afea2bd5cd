"""Histories as text that a person can follow: the plan, a line for each step, and what was wrong."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from syncstore.cache.api import Remove, Store
from syncstore.testing.simulation.configurations import Configuration
from syncstore.testing.simulation.plan import Plan, Request
from syncstore.testing.simulation.run import Result
from syncstore.testing.simulation.scheduler import SECOND

_WIDTH = 400
_AFTER = 5
"""Steps after the violation that are still told."""


def describe(configuration: Configuration, result: Result) -> Iterator[str]:
    """The lines of a report."""
    plan = result.plan
    yield f"configuration {configuration.name}, seed {plan.seed}, schedule {plan.schedule}"
    yield from _plan(plan)
    yield ""
    until = min((one.step for one in result.violations), default=0) or len(result.trace) + 2**30
    for line in result.trace:
        if line.step > until + _AFTER:
            yield "..."
            break
        detail = _detail(line.detail)
        yield f"{line.step:5} {line.now / SECOND:9.4f}s  {line.who:22} {line.what} {detail}"[:_WIDTH].rstrip()
    yield ""
    for violation in result.violations:
        yield f"VIOLATION at step {violation.step}: {violation.rule}: {violation.text}"
    if not result.violations:
        yield "no violation"


def _plan(plan: Plan) -> Iterator[str]:
    yield f"{plan.processes} processes, scheduled {plan.mode}, {plan.tick} microseconds a step"
    if plan.prelude:
        yield f"prelude, then {plan.pause:g} s: " + "; ".join(map(_request, plan.prelude))
    for client in plan.clients:
        requests = "; ".join(map(_request, client.requests))
        yield f"{client.name} (user {client.uid}, process {client.process + 1}): {requests}"
    yield "faults: " + (", ".join(f"{kind} at {at}" for kind, at in plan.faults) or "none")


def _request(request: Request) -> str:
    words = [request.kind, request.collection, *request.ids]
    for change in request.changes:
        given = {
            name: value
            for name, value in (
                ("payload", change.payload),
                ("sortindex", change.sortindex),
                ("ttl", change.ttl),
            )
            if value is not None
        }
        words.append(f"{change.id}={given}")
    if request.guarded:
        words.append("guarded")
    if request.pause:
        words.append(f"after {request.pause:g} s")
    return " ".join(word for word in words if word)


def _detail(detail: object) -> str:
    if isinstance(detail, Store):
        expect = detail.expect
        over = "" if expect is None else f" over {getattr(expect, 'number', expect)}"
        return f"{_key(detail.key)}{over}: {_value(detail.value)}"
    if isinstance(detail, Remove):
        return f"{_key(detail.key)} over {detail.expect.number}" if detail.expect else _key(detail.key)
    if isinstance(detail, bytes):
        return _key(detail)
    if isinstance(detail, tuple) and detail and isinstance(detail[0], Store | Remove):
        return f"{_detail(detail[0])} -> {detail[1]!r}"
    return str(detail)


def _key(key: bytes) -> str:
    return key.decode(errors="backslashreplace")


def _value(value: bytes) -> str:
    """What is in a cached value, whatever its layout, as long as it is MessagePack."""
    try:
        return str(msgspec.msgpack.decode(value))
    except msgspec.MsgspecError:
        return repr(value)
