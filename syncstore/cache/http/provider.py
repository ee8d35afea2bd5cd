"""The provider `http`: the calls of the contract as requests to a mount, each key one request.

Its tokens are the mount's entity tags. What the mount can do and what fits into it is asked once. A change whose answer
did not come is not sent again: nobody knows what became of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec

from syncstore.cache.api import (
    ABSENT,
    BackendError,
    BackendUnavailable,
    BadKey,
    Change,
    Conflict,
    Expect,
    Features,
    Item,
    Limits,
    NotFound,
    NotSupported,
    Outcome,
    Remove,
    StorageFull,
    Store,
    Token,
    TooLarge,
    check_expiry,
)
from syncstore.cache.http import words
from syncstore.cache.http.connections import Answer, Connections
from syncstore.cache.http.keys import key_of, longest, path_of
from syncstore.clock import Clock

_SMALL: Final = 64 * 1024  # bytes of an answer that is no value
_PAGE: Final = 200
_LARGE: Final = 8 * 1024 * 1024  # of a page of keys, and of a status
_tag = re.compile(r'"([A-Za-z0-9_-]{1,64})\.(-?[0-9]{1,40})"', re.ASCII).fullmatch
_incarnation = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII).fullmatch
_number = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII).fullmatch


class Place(NamedTuple):
    """Where a mount is. `path` is percent-encoded and has no slash at its end."""

    tls: bool
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port, as the header has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _About(NamedTuple):
    """What OPTIONS tells of a mount. `room` is what all its keys begin with."""

    features: Features
    limits: Limits
    room: bytes


class _Page(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]
    next: str | None


class HttpProvider:
    """A cache on another node. `token` is the secret to send; `timeout`, in seconds, is for each request."""

    name = "http"

    def __init__(self, place: Place, clock: Clock, *, token: str = "", timeout: float = 1.0) -> None:
        self._place = place
        self._clock = clock
        self._connections = Connections(place.host, place.port, tls=place.tls, timeout=timeout)
        self._head = f"Host: {place.authority}\r\nUser-Agent: syncstore\r\n"
        if token:
            self._head += f"Authorization: Bearer {token}\r\n"
        self._told: _About | None = None

    @property
    def features(self) -> Features:
        """What the mount's cache can do. Asks once; raises BackendUnavailable."""
        return self._about().features

    @property
    def limits(self) -> Limits:
        """What fits into it. Asks once; raises BackendUnavailable."""
        return self._about().limits

    # -- one key

    def retrieve(self, key: bytes) -> Item:
        """The value of a key (see Provider)."""
        self._check(key)
        return self._item(key, self._ask("GET", key, again=True))

    def store(self, key: bytes, value: bytes, expires: float = 0.0, *, expect: Expect = None) -> Token:
        """Store a value (see Provider)."""
        change = Store(key, value, expires, expect)
        self._check_expiry((change,))
        return self._store(change)

    def remove(self, key: bytes, *, expect: Token | None = None) -> None:
        """Remove a key (see Provider)."""
        self._check(key)
        self._ask("DELETE", key, _condition(expect))

    # -- several

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys (see Provider), each by a request of its own."""
        if reserve < 0:
            raise ValueError(f"a reservation of {reserve} s")
        for key in keys:
            self._check(key)
        return [self._reserved(key, reserve) if reserve else self._find(key) for key in keys]

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Several changes (see Provider), each by a request of its own."""
        self._check_expiry(changes)
        return [self._change(change) for change in changes]

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same; here the changes are made at once, up to the first whose answer does not come."""
        self._check_expiry(changes)
        for change in changes:
            try:
                self._change(change)
            except BackendUnavailable:
                return

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items (see Provider): those that were there all the time, and some others."""
        if not self.features.iterable:
            raise NotSupported("this mount does not list its keys")
        return self._walk()

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """The other node does so by itself (see Provider)."""
        return 0

    def status(self) -> Mapping[str, int | float | str]:
        """The mount's (see Provider)."""
        answer = self._exchange("GET", self._place.path, most=_LARGE, again=True)
        self._refuse(answer, b"")
        try:
            told = msgspec.json.decode(answer.body, type=dict[str, Any])
            facts = {"url": str(self._place), "mounted": told["provider"], **told["status"]}
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise BackendUnavailable(f"{self._place} tells no status: {error}") from error
        return {name: fact for name, fact in facts.items() if isinstance(fact, int | float | str)}

    def close(self) -> None:
        """Close the connections (see Provider)."""
        self._connections.close()

    # -- each

    def _change(self, change: Change) -> Outcome:
        try:
            if isinstance(change, Remove):
                self.remove(change.key, expect=change.expect)
                return None
            return self._store(change)
        except BackendUnavailable:
            raise
        except (NotFound, BackendError) as error:
            return error

    def _store(self, change: Store) -> Token:
        self._check(change.key)
        size, limit = len(change.value), self._about().limits.max_value
        if size > limit:
            raise TooLarge(size, limit)
        expires = format(Decimal(repr(change.expires)), "f") if change.expires else "0"
        headers = f"X-Shmap-Expires-At: {expires}\r\n" + _condition(change.expect)
        return self._token(self._ask("PUT", change.key, headers, change.value))

    def _find(self, key: bytes) -> Item | None:
        try:
            return self._item(key, self._ask("GET", key, again=True))
        except NotFound:
            return None

    def _reserved(self, key: bytes, seconds: float) -> Item | None:
        # It may be done twice: whoever finds a placeholder gets that one.
        headers = f"X-Shmap-Reserve: {format(Decimal(repr(seconds)), 'f')}\r\n"
        answer = self._ask("PUT", key, headers, b"", again=True)
        try:
            return self._item(key, answer)
        except NotFound:
            return None

    def _walk(self) -> Iterator[tuple[bytes, Item]]:
        room = self._about().room
        after = ""
        while True:
            target = f"{self._place.path}?keys&limit={_PAGE}{after}"
            answer = self._exchange("GET", target, most=_LARGE, again=True)
            self._refuse(answer, b"")
            try:
                page = msgspec.json.decode(answer.body, type=_Page)
                keys = [key_of(row["key"], room) for row in page.keys]
            except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
                raise BackendUnavailable(f"{self._place} lists no keys: {error}") from error
            for key in keys:
                item = self._find(key) if key is not None else None
                if key is not None and item is not None:
                    yield key, item
            if page.next is None:
                return
            after = "&after=" + quote(page.next, safe="/%")

    # -- checks before anything is sent

    def _check(self, key: bytes) -> None:
        limit = self._about().limits.max_key
        if not 0 < len(key) <= limit:
            raise BadKey(len(key), limit)

    def _check_expiry(self, changes: Sequence[Change]) -> None:
        check_expiry(changes, self._clock.seconds())

    # -- requests and answers

    def _ask(
        self, method: str, key: bytes, headers: str = "", body: bytes | None = None, *, again: bool = False
    ) -> Answer:
        about = self._about()
        target = f"{self._place.path}/{path_of(key)}"
        most = max(about.limits.max_value, _SMALL)
        answer = self._exchange(method, target, headers, body, most=most, again=again)
        self._refuse(answer, key, b"" if body is None else body)
        return answer

    def _exchange(
        self,
        method: str,
        target: str,
        headers: str = "",
        body: bytes | None = None,
        *,
        most: int = _SMALL,
        again: bool = False,
    ) -> Answer:
        if body is not None:
            headers += f"Content-Length: {len(body)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\n{self._head}{headers}\r\n"
        return self._connections.exchange(head.encode("ascii") + (body or b""), most, again=again)

    def _refuse(self, answer: Answer, key: bytes, value: bytes = b"") -> None:
        """Raise what an answer says, if it is not what was asked for."""
        word = answer.headers.get(words.HEADER.lower(), "")
        if answer.status not in words.STATUSES.get(word, ()):
            what = {401: ": it wants a token", 403: ": the token is wrong"}.get(answer.status, "")
            raise BackendUnavailable(f"{self._place} answered {answer.status} {word}{what}")
        match word:
            case words.OK:
                return
            case words.NOT_FOUND:
                raise NotFound(key)
            case words.CONFLICT:
                raise Conflict(f"the key {key!r} is in another state")
            case words.TOO_LARGE:
                self._told = None  # it has another limit now
                raise TooLarge(len(value), min(self._about().limits.max_value, max(len(value) - 1, 0)))
            case words.BAD_KEY:
                self._told = None
                raise BadKey(len(key), min(self._about().limits.max_key, max(len(key) - 1, 0)))
            case words.FULL:
                raise StorageFull(f"there is no room at {self._place}")
            case words.NOT_SUPPORTED:
                raise NotSupported(f"the cache at {self._place} cannot do this")
            case words.EXPIRED:
                raise ValueError(f"a value that has expired at {self._place}")
        raise BackendUnavailable(f"the cache at {self._place} does not answer it")

    def _item(self, key: bytes, answer: Answer) -> Item:
        text = answer.headers.get("x-shmap-expires-at", "0")
        if answer.status != 200 or not _number(text):
            raise BackendUnavailable(
                f"{self._place} answered {answer.status} to a GET, or no time: {text:.40}"
            )
        expires = float(text)
        if 0 < expires <= self._clock.seconds():
            raise NotFound(key)  # by our clock, which may be before the other node's
        return Item(answer.body, self._token(answer), expires)

    def _token(self, answer: Answer) -> Token:
        found = _tag(answer.headers.get("etag", ""))
        if found is None:
            raise BackendUnavailable(f"{self._place} answered without a tag of ours")
        return Token(found[1], int(found[2]))

    def _about(self) -> _About:
        told = self._told
        if told is None:
            answer = self._exchange("OPTIONS", self._place.path, again=True)
            self._refuse(answer, b"")
            told = self._told = self._read_about(answer.headers)
        return told

    def _read_about(self, headers: Mapping[str, str]) -> _About:
        try:
            room = unquote_to_bytes(headers["x-shmap-key-prefix"])
            limits = Limits(
                max_key=longest(int(headers["x-shmap-max-key"]) - len(room)),
                max_value=int(headers["x-shmap-max-value"]),
                ttl_step=float(headers["x-shmap-ttl-step"]),
            )
            can = headers["x-shmap-features"].split(",")
        except (KeyError, ValueError) as error:
            raise BackendUnavailable(f"{self._place} does not tell what it can do: {error}") from error
        features = Features(
            cas="cas" in can,
            shared=True,
            shared_hosts=True,
            persistent="persistent" in can,
            evicts="evicts" in can,
            iterable="iterate" in can,
        )
        return _About(features, limits, room)


def _condition(expect: Expect) -> str:
    """The header that asks for a state. A token that was never a mount's is asked for by a tag that no state has."""
    if expect is None:
        return ""
    if not isinstance(expect, Token):
        return "If-None-Match: *\r\n" if expect is ABSENT else ""
    known = isinstance(expect.incarnation, str) and _incarnation(expect.incarnation)
    return f'If-Match: "{expect.incarnation if known else "another"}.{expect.number}"\r\n'
