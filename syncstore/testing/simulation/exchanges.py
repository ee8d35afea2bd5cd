"""What one request asked, what came back, and what stood in the database when it began and when it ended."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from syncstore.testing.simulation.plan import Request

Outcome = Literal[
    "open", "ok", "refused", "missing", "no batch", "over quota", "too large", "unavailable", "died", "crash"
]
"""How a request ended: 2xx, 412, 404, 400, 403, 413, 503, no answer at all, or 500."""

UNCLEAR: frozenset[Outcome] = frozenset({"open", "unavailable", "died", "crash"})
"""Outcomes after which the client does not know whether its write took place."""


PAGES: frozenset[str] = frozenset({"read", "news", "ids"})
"""Requests that are answered with a page."""


class Exchange:
    """One request and its answer. Steps count those of the world; versions those of the user's row.

    `unless` is the X-If-Unmodified-Since in ticks. `before` has the times that the unit of work told, by name:
    `storage`, `collection`, or an item's id after a colon. `answer` is what the storage returned.
    """

    __slots__ = (
        *("answer", "batch", "before", "client", "error", "first_step", "first_version", "last_step"),
        *("last_version", "newer", "now_at_end", "now_at_start", "number", "outcome", "process", "quiet"),
        *("request", "stored", "uid", "unless", "walls_are_sure"),
    )

    def __init__(self, number: int, client: str, uid: int, request: Request) -> None:
        self.number = number
        self.client = client
        self.uid = uid
        self.request = request
        self.process = ""
        self.outcome: Outcome = "open"
        self.answer: Any = None
        self.error: BaseException | None = None
        self.unless: int | None = None
        self.newer: int | None = None
        self.batch: str | None = None
        self.before: dict[str, int] = {}
        self.quiet = False
        self.stored = False  # whether anything was sent to the cache on its behalf
        self.first_step = self.last_step = 0
        self.first_version = self.last_version = 0
        # Milliseconds of the process's wall clock; not sure when it jumped in between.
        self.now_at_start = self.now_at_end = 0
        self.walls_are_sure = True

    @property
    def wrote(self) -> bool:
        """Whether its client was told that it wrote."""
        return self.outcome == "ok" and self.request.kind not in ("open", "append")

    @property
    def unclear(self) -> bool:
        """Whether its client cannot know what became of it."""
        return self.outcome in UNCLEAR

    def __repr__(self) -> str:
        request = self.request
        words = [self.client, request.kind, request.collection, *request.ids]
        words += [f"{change.id}={_short(change.payload)}" for change in request.changes]
        if self.unless is not None:
            words.append(f"unless newer than {self.unless}")
        if self.newer is not None:
            words.append(f"newer than {self.newer}")
        if self.batch is not None:
            words.append(f"batch {self.batch}")
        told = self.answer if self.error is None else f"{type(self.error).__name__}: {self.error}"
        return f"<{' '.join(word for word in words if word)} -> {self.outcome} {told}>"


def _short(payload: str | None) -> str:
    return "-" if payload is None else payload if len(payload) < 24 else f"{payload[:20]}..."


class Say(Protocol):
    """Notes a violation."""

    def __call__(self, rule: str, text: str, exchange: Exchange | None = None) -> None: ...
