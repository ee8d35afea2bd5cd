"""What stands in the store before the measurement, put there over HTTP like everything else.

Each user has the twelve collections of a real account, so that info/collections has its true size: three
clients, one item in each of the others; a quarter of the users have 100 bookmarks and 100 history items.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from bench.client import Sender
from bench.items import items_body, put_body
from bench.operations import Ground, post_tabs
from bench.signing import Request, User

_SINGLE = ("meta/global", "crypto/keys", "prefs/item0", "forms/item0", "passwords/item0", "addons/item0",
           "addresses/item0", "creditcards/item0")  # fmt: skip


class SeedingError(Exception):
    """The server refused a request that any server must accept: nothing can be measured."""


def seed(sender: Sender, users: Sequence[User], seconds: float) -> Ground:
    """Fill the store behind `sender`. Raises SeedingError at the first refusal."""
    heavy = users[: max(1, len(users) // 4)]
    times: dict[int, str] = {}
    for requests in _seeds(users, heavy):
        answers = send_checked(sender, requests)
        if requests[0].path == "/storage/bookmarks":
            for request, answer in zip(requests, answers, strict=True):
                times[request.user.uid] = _modified(answer)
    return Ground(users=users, heavy=heavy, bookmarks_time=times, seconds=seconds)


def send_checked(sender: Sender, requests: Sequence[Request]) -> list[bytes]:
    """The bodies of the answers, all 200. Raises SeedingError."""
    answers = sender.send_all(requests)
    for request, answer in zip(requests, answers, strict=True):
        if answer.status != 200:
            raise SeedingError(
                f"{request.method} {request.target} was answered {answer.status} {answer.body[:200]!r}"
            )
    return [answer.body for answer in answers]


def _seeds(users: Sequence[User], heavy: Sequence[User]) -> Iterator[list[Request]]:
    # collection by collection, over all users: one user's writes are then further apart than a tick
    for path in _SINGLE:
        yield [Request(user, "PUT", f"/storage/{path}", put_body(1)) for user in users]
    yield [Request(user, "POST", "/storage/clients", items_body("client", 3)) for user in users]
    yield [post_tabs(user) for user in users]
    light = users[len(heavy) :]
    for collection, prefix in (("bookmarks", "mark"), ("history", "hist")):
        yield [Request(user, "POST", f"/storage/{collection}", items_body(prefix, 100)) for user in heavy]
        if light:
            yield [Request(user, "PUT", f"/storage/{collection}/{prefix}0", put_body(1)) for user in light]


def _modified(answer: bytes) -> str:
    """The time in the answer to a POST, in its wire form: json must not make a float of it."""
    return str(json.loads(answer, parse_float=str)["modified"])
