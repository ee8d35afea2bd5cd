"""The operations that are measured: the hot requests of Firefox, and the answers that must not cost more.

Every write goes to an item that is already there, so that each round does the same work as the one before;
the exception is DELETE, whose items are made before every round. One user gets at most one write in 10 ms
(each write has a tick of its own), so writes go round over many users: with fewer than some hundred the
benchmark would measure waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil

from bench.items import items_body, put_body
from bench.signing import Request, User

# Firefox's own value at its quick tab write; milliseconds by mistake, so it is always in the future
FAR_FUTURE = "4102405200000"
# requests of one user stay this many users apart, so that no user waits for himself
_ABREAST = 64
# DELETEs a second that the prepared items must last for; the round fails when they do not
_MOST_DELETES = 12_000


@dataclass(frozen=True)
class Ground:
    """What stands in the store: all users, and those (`heavy`) who have 100 bookmarks and 100 history items.

    `bookmarks_time` is the wire form of the heavy users' bookmarks' last-modified, by uid. `seconds` is how
    long a round lasts.
    """

    users: Sequence[User]
    heavy: Sequence[User]
    bookmarks_time: dict[int, str] = field(default_factory=dict)
    seconds: float = 2.0


@dataclass(frozen=True)
class Operation:
    """One row of the report.

    `requests` makes the list that is replayed, each to be answered with `expected`. `prepare`, if any, makes
    what is sent before each round, unmeasured; then every request is sent `once` only. `per_unit` requests
    make one unit a person would count, such as a whole sync.
    """

    name: str
    expected: int
    requests: Callable[[Ground], Sequence[Request]]
    prepare: Callable[[Ground], Sequence[Request]] | None = None
    once: bool = False
    per_unit: int = 1


def _get(path: str, *headers: tuple[str, str]) -> Callable[[Ground], Sequence[Request]]:
    return lambda ground: [Request(user, "GET", path, headers=headers) for user in ground.users]


def _bookmarks_since(ground: Ground, *, seen: bool) -> Iterator[Request]:
    for user in ground.heavy:
        newer = ground.bookmarks_time[user.uid] if seen else "1.00"
        path = f"/storage/bookmarks?newer={newer}&full=1&sort=oldest&limit=1000"
        yield Request(user, "GET", path)


def _put(*headers: tuple[str, str]) -> Callable[[Ground], Sequence[Request]]:
    body = put_body(2)
    return lambda ground: [
        Request(user, "PUT", "/storage/prefs/item0", body, headers) for user in ground.users
    ]


def post_tabs(user: User) -> Request:
    """The one write of every idle sync."""
    path = "/storage/tabs?batch=true&commit=true"
    return Request(user, "POST", path, items_body("tab", 1), (("X-If-Unmodified-Since", FAR_FUTURE),))


def _post_history(ground: Ground) -> Sequence[Request]:
    body = items_body("hist", 100, seed=2)
    return [Request(user, "POST", "/storage/history", body) for user in ground.heavy]


def _deletes_per_user(ground: Ground) -> int:
    return min(100, ceil(_MOST_DELETES * ground.seconds / len(ground.users)) + 1)


def _make_victims(ground: Ground) -> Sequence[Request]:
    body = items_body("victim", _deletes_per_user(ground))
    return [Request(user, "POST", "/storage/addons", body) for user in ground.users]


def _delete_victims(ground: Ground) -> Sequence[Request]:
    return [
        Request(user, "DELETE", f"/storage/addons/victim{number}", headers=(("X-Confirm-Delete", "1"),))
        for number in range(_deletes_per_user(ground))
        for user in ground.users
    ]


def _idle_sync(ground: Ground) -> Sequence[Request]:
    steps: list[Callable[[User], Request]] = [
        lambda user: Request(user, "GET", "/info/collections"),
        lambda user: Request(user, "GET", "/info/configuration"),
        lambda user: Request(user, "GET", "/storage/clients?full=1&limit=1000"),
        post_tabs,
    ]
    groups = [ground.users[at : at + _ABREAST] for at in range(0, len(ground.users), _ABREAST)]
    return [step(user) for group in groups for step in steps for user in group]


def _wrong_mac(ground: Ground) -> Sequence[Request]:
    return [
        Request(user, "GET", "/info/collections", headers=(("Authorization", _bad_hawk(user.token)),))
        for user in ground.users
    ]


def _forged_token(ground: Ground) -> Sequence[Request]:
    return [
        Request(user, "GET", "/info/collections", headers=(("Authorization", _bad_hawk(_forged(user))),))
        for user in ground.users
    ]


def _bad_hawk(token: str) -> str:
    return f'Hawk id="{token}", ts="1700000000", nonce="bench000", mac="{"A" * 43}="'


def _forged(user: User) -> str:
    # the end of the signature stands in front of the padding
    body = user.token.rstrip("=")
    return body[:-3] + ("AAA" if body[-3:] != "AAA" else "BBB") + user.token[len(body) :]


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in [
        Operation("info_collections", 200, _get("/info/collections")),
        Operation("info_configuration", 200, _get("/info/configuration")),
        Operation("get_meta_global", 200, _get("/storage/meta/global")),
        Operation("get_clients", 200, _get("/storage/clients?full=1")),
        Operation("get_bookmarks_0", 200, lambda ground: list(_bookmarks_since(ground, seen=True))),
        Operation("get_bookmarks_100", 200, lambda ground: list(_bookmarks_since(ground, seen=False))),
        Operation("put_item", 200, _put()),
        Operation("post_tabs", 200, lambda ground: [post_tabs(user) for user in ground.users]),
        Operation("post_history_100", 200, _post_history),
        Operation("delete_item", 200, _delete_victims, prepare=_make_victims, once=True),
        Operation("answer_304", 304, _get("/info/collections", ("X-If-Modified-Since", "4102405200"))),
        Operation("answer_404", 404, _get("/storage/meta/nothing")),
        Operation("answer_412", 412, _put(("X-If-Unmodified-Since", "1.00"))),
        Operation("answer_401_mac", 401, _wrong_mac),
        Operation("answer_401_token", 401, _forged_token),
        Operation("idle_sync", 200, _idle_sync, per_unit=4),
    ]
}
