"""The provider `sql`: the contract of a small-object cache on one table of a database.

Each change is one statement that says in what state the row must be; what it touched is its outcome. One alone is one
round trip, without a transaction around it. Several go together, in one transaction and one round trip, up to a few
hundred: in the order of their keys, so that no two who do so wait for each other. Changes of one key keep their order;
that of several keys is nobody's business, since others see all of a transaction at once.

A token is the number of its state, drawn by who stored it (see `new_number`), with the incarnation of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from syncstore.cache.api import (
    ABSENT,
    BackendUnavailable,
    Change,
    Conflict,
    Features,
    Item,
    Limits,
    NotFound,
    Outcome,
    Remove,
    StorageFull,
    Store,
    Token,
    check_expiry,
)
from syncstore.cache.of_several import (
    MAX_KEY,
    OfSeveral,
    check_fetch,
    new_number,
    refusal,
    storable,
)
from syncstore.cache.sql.database import Database
from syncstore.cache.sql.kinds import Link, Result, Row, Step
from syncstore.cache.sql.statements import PAGE
from syncstore.clock import Clock

_NO_STATE: Final = 0  # a number that no state has
_MOST_NUMBERS: Final = 2**63
_TOGETHER: Final = 250
_BYTES_TOGETHER: Final = 2 * 1024 * 1024
_BYTES_BESIDE: Final = 1000  # of a statement and its key
_ROUNDS: Final = 10
_CULLED_AT_ONCE: Final = 200  # of which others wait for the end


class _Planned(NamedTuple):
    """A change, its place among those asked for, and the number that a store gives."""

    place: int
    change: Change
    number: int


class SqlProvider(OfSeveral):
    """A cache in a table of a database. `namespace` tells its keys from others'; `max_value` is in bytes."""

    name = "sql"

    def __init__(self, database: Database, clock: Clock, *, namespace: str, max_value: int) -> None:
        self._database = database
        self._statements = database.kind.statements
        self._clock = clock
        self._namespace = namespace.encode()
        self._max_value = max_value
        self.features = Features(
            cas=True,
            shared=True,
            shared_hosts=database.kind.shared_hosts,
            persistent=True,
            evicts=False,
            iterable=True,
        )

    @property
    def limits(self) -> Limits:
        """What fits into it. Asks MariaDB or MySQL, once, how large a statement may be."""
        return Limits(max_key=MAX_KEY, max_value=self._largest())

    def _largest(self) -> int:
        room = self._database.largest_value()
        return self._max_value if room is None else min(self._max_value, room)

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys from one moment (see Provider). Raises BadKey, BackendUnavailable, and StorageFull
        where it is to reserve."""
        check_fetch(keys, reserve)
        if not keys:
            return []
        found = self._find(keys)
        if reserve:
            self._reserve(keys, reserve, found)
        return [found.get(key) for key in keys]

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider)."""
        check_expiry(changes, self._clock.seconds())
        if not changes:
            return []
        largest = self._largest()
        outcomes: list[Outcome] = [refusal(change, largest) for change in changes]
        planned = [
            _Planned(place, change, new_number())
            for place, change in enumerate(changes)
            if outcomes[place] is None
        ]
        if len(planned) > 1:
            planned.sort(key=lambda plan: plan.change.key)
        for some in _portions(planned, largest):
            for plan, outcome in zip(some, self._change(some), strict=True):
                outcomes[plan.place] = outcome
        return outcomes

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items, in the order of the keys, some at a time as they are then."""
        after = b""
        page = self._statements.page
        while True:
            step = Step(page.sql, page.bind({"ns": self._namespace, "after": after}), looks=True)
            rows, incarnation = self._look(step)
            now = self._clock.seconds()
            for row in rows:
                if not 0 < row[3] <= now:
                    yield row[0], _item(row, incarnation)
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """Drop up to `limit` items of this cache that had expired at `now`; how many."""
        if now is None:
            now = self._clock.seconds()
        culled = 0
        while culled < limit:
            most = min(limit - culled, _CULLED_AT_ONCE)
            statement = self._statements.cull(most)
            step = Step(statement.sql, statement.bind({"ns": self._namespace, "now": now}))
            gone = self._database.run(lambda link: _count(link.one(step)), again=False)  # noqa: B023 - called at once
            culled += gone
            if gone < most:
                break
        return culled

    def status(self) -> Mapping[str, int | float | str]:
        """Where it is, and how many items it has, expired ones among them. The database counts them one by one."""
        count = self._statements.count
        rows, incarnation = self._look(Step(count.sql, count.bind({"ns": self._namespace}), looks=True))
        return {"database": self._database.kind.shown, "incarnation": incarnation, "items": int(rows[0][0])}

    def close(self) -> None:
        """Give back the connections. The next call opens them again."""
        self._database.close()

    # -- reading

    def _look(self, step: Step) -> tuple[list[Row], str]:
        return self._database.run(lambda link: (_rows(link.one(step)), link.incarnation), again=True)

    def _find(self, keys: Sequence[bytes]) -> dict[bytes, Item]:
        """What is there of these keys."""
        found: dict[bytes, Item] = {}
        for sql, parameters in self._statements.find(self._namespace, keys):
            rows, incarnation = self._look(Step(sql, parameters, looks=True))
            now = self._clock.seconds()
            for row in rows:
                if not 0 < row[3] <= now:
                    found[row[0]] = _item(row, incarnation)
        return found

    def _reserve(self, keys: Sequence[bytes], reserve: float, found: dict[bytes, Item]) -> None:
        """Put a placeholder, or what others were faster to put there, into `found` for each key that is not."""
        for _ in range(_ROUNDS):
            missing = sorted({key for key in keys if key not in found})
            if not missing:
                return
            expires = self._clock.seconds() + reserve
            planned = [_Planned(0, Store(key, b"", expires, ABSENT), new_number()) for key in missing]
            others = []
            for some in _portions(planned, self._max_value):
                for plan, outcome in zip(some, self._change(some), strict=True):
                    if isinstance(outcome, Token):
                        found[plan.change.key] = Item(b"", outcome, storable(expires))
                    elif isinstance(outcome, Conflict):
                        others.append(plan.change.key)
                    else:
                        assert isinstance(outcome, Exception)  # noqa: S101 - for mypy: it is no removal
                        raise outcome
            if others:
                found.update(self._find(others))
        raise BackendUnavailable("what is to be reserved is removed as fast as it is put there")

    # -- changing

    def _change(self, planned: Sequence[_Planned]) -> list[Outcome]:
        """Make changes in one transaction; or each alone where there is no room for all."""
        try:
            return self._database.run(lambda link: self._apply(link, planned), again=False)
        except StorageFull as full:
            if len(planned) == 1:
                return [full] if not self.cull() else [self._alone(planned[0])]
            self.cull()
            return [self._alone(plan) for plan in planned]

    def _alone(self, plan: _Planned) -> Outcome:
        try:
            return self._database.run(lambda link: self._apply(link, (plan,)), again=False)[0]
        except StorageFull as full:
            return full

    def _apply(self, link: Link, planned: Sequence[_Planned]) -> list[Outcome]:
        now = self._clock.seconds()
        groups = [self._steps(plan, link.incarnation, now) for plan in planned]
        if len(groups) == 1:
            # A removal is seldom refused, so what was in its way is asked for only then.
            (steps,) = groups
            touched = link.one(steps[0])
            answers = [[touched] if touched else [touched, *(link.one(step) for step in steps[1:])]]
        else:
            results = iter(link.together([step for steps in groups for step in steps]))
            answers = [[next(results) for _ in steps] for steps in groups]
        return [
            _outcome(plan, answer, link.incarnation) for plan, answer in zip(planned, answers, strict=True)
        ]

    def _steps(self, plan: _Planned, incarnation: str, now: float) -> list[Step]:
        """The statement of a change, and for a removal in a state one that tells what was in its way."""
        change = plan.change
        given: dict[str, object] = {"ns": self._namespace, "key": change.key, "now": now}
        statements = self._statements
        expect = change.expect
        if isinstance(expect, Token):
            fits = expect.incarnation == incarnation and 0 < expect.number < _MOST_NUMBERS
            given["seen"] = expect.number if fits else _NO_STATE
        if isinstance(change, Remove):
            if expect is None:
                return [Step(statements.remove.sql, statements.remove.bind(given))]
            look = Step(statements.look.sql, statements.look.bind(given), looks=True)
            return [Step(statements.remove_seen.sql, statements.remove_seen.bind(given)), look]
        given |= {"value": bytes(change.value), "expires": storable(change.expires), "version": plan.number}
        if isinstance(expect, Token):
            statement = statements.swap
        else:
            statement = statements.put if expect is None else statements.add
        return [Step(statement.sql, statement.bind(given))]


def _portions(planned: Sequence[_Planned], largest: int) -> Iterator[Sequence[_Planned]]:
    """What may go together: so many, of so many bytes unless it is one alone. A statement has room for `largest`."""
    most = min(largest, _BYTES_TOGETHER)
    start = size = 0
    for place, plan in enumerate(planned):
        more = _BYTES_BESIDE + (len(plan.change.value) if isinstance(plan.change, Store) else 0)
        if place > start and (place - start == _TOGETHER or size + more > most):
            yield planned[start:place]
            start, size = place, 0
        size += more
    if planned:
        yield planned[start:]


def _outcome(plan: _Planned, answers: Sequence[Result], incarnation: str) -> Outcome:
    change = plan.change
    if isinstance(change, Store):
        if change.expect is None or answers[0]:
            return Token(incarnation, plan.number)
    elif answers[0]:
        return None
    elif len(answers) == 1 or not answers[1]:
        return NotFound(change.key)
    return Conflict(f"the key {change.key!r} is in another state")


def _item(row: Row, incarnation: str) -> Item:
    _, value, number, expires = row
    return Item(bytes(value), Token(incarnation, number), expires)


def _rows(result: Result) -> list[Row]:
    assert not isinstance(result, int)  # noqa: S101 - for mypy: it looked
    return result


def _count(result: Result) -> int:
    assert isinstance(result, int)  # noqa: S101 - for mypy: it did not look
    return result
