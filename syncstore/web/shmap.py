"""shmap: small-object caches over HTTP, each below a path of its own (docs/small-caches.md has the answers by rows).

Mounts come before the routes of the sync API, and before its CORS headers: no page of another site reads a cache. A
key is bytes, so its path need not be the UTF-8 that routes have. The order of checks is: permission, method, syntax,
size; only then is the cache asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from syncstore.cache.api import (
    ABSENT,
    BackendError,
    BackendUnavailable,
    Conflict,
    Item,
    Limits,
    NotFound,
    NotSupported,
    Provider,
    Token,
)
from syncstore.cache.http.words import EXPIRED
from syncstore.clock import Clock
from syncstore.errors import SyncError
from syncstore.web.receiving import discard, has_length, receive
from syncstore.web.shmap_access import Access
from syncstore.web.shmap_answers import Headers, Refused, Reply, bad_request, expiry_headers, refused
from syncstore.web.shmap_deadline import Deadline
from syncstore.web.shmap_requests import Conditions, path_of, read_expiry, read_seconds
from syncstore.web.shmap_status import Page, feature_words, option_headers, status
from syncstore.web.shmap_tags import EntityTags

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS: Final = 5  # at a change whose condition others made another decision of meanwhile
_OF_KEY: Final = "DELETE, GET, HEAD, OPTIONS, PUT"
_OF_MOUNT: Final = "GET, HEAD, OPTIONS"


class Rules(NamedTuple):
    """What holds for all mounts. `default_expiry` is in seconds, 0 for ever; `max_body` in bytes.

    With `whole_path` a key is the path with the mount's prefix, else what follows that. With `listed` keys are told.
    """

    default_expiry: float = 0.0
    max_body: int = 1024 * 1024
    whole_path: bool = True
    listed: bool = False


class Mount:
    """A cache below a path. Without a `deadline` its calls are made at once, by the thread of the request."""

    def __init__(
        self, prefix: str, provider: Provider, clock: Clock, rules: Rules, deadline: Deadline | None
    ) -> None:
        self.prefix = prefix.encode()
        self._provider = provider
        self._clock = clock
        self._rules = rules
        self._deadline = deadline
        self._tags = EntityTags()
        self._cut = 0 if rules.whole_path else len(self.prefix)
        self._room = (self.prefix + b"/")[self._cut :]
        self._limits: Limits | None = None

    def answer(self, path: bytes, environ: dict[str, Any]) -> Reply:
        """Answer a request that may be made. Raises Refused, NotFound, BackendError, SyncError."""
        method, query = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", "")
        if path == self.prefix:
            return self._of_itself(method, query)
        views = {"GET": self._get, "HEAD": self._get, "PUT": self._put, "DELETE": self._delete}
        if method not in views and method != "OPTIONS":
            raise _not_allowed(_OF_KEY)
        if query:
            raise bad_request("a key has no query: a question mark that is part of it is written %3F")
        key = path[self._cut :]
        if key == self._room:
            raise bad_request("the key is empty")
        if b"\0" in key:
            raise bad_request("a key has no zero byte")
        return self._options(_OF_KEY) if method == "OPTIONS" else views[method](key, environ)

    # -- a key

    def _get(self, key: bytes, environ: dict[str, Any]) -> Reply:
        conditions = Conditions.read(environ)
        if conditions.match is not None:
            self._check_cas("If-Match")
        item = self._ask(lambda: self._provider.retrieve(key))
        tag = self._tags.of(item.token)
        if conditions.match is not None and not conditions.match.match_strongly(tag):
            raise Conflict
        if conditions.none_match is not None and conditions.none_match.match_weakly(tag):
            return Reply(304, headers=self._state(item.token, item.expires))
        return self._whole(item)

    def _put(self, key: bytes, environ: dict[str, Any]) -> Reply:
        for header in ("CONTENT_ENCODING", "CONTENT_RANGE"):
            if f"HTTP_{header}" in environ:
                raise Refused(415, "bad-request", "a value is stored as it comes, and whole")
        conditions = Conditions.read(environ)
        if "HTTP_X_SHMAP_RESERVE" in environ:
            return self._reserve(key, environ, conditions)
        expires = read_expiry(environ, self._clock.seconds(), self._rules.default_expiry)
        if conditions:
            self._check_cas("If-None-Match" if conditions.match is None else "If-Match")
        value = self._body(environ)
        try:
            created, token = self._ask(lambda: self._store(key, value, expires, conditions))
        except ValueError as error:  # it expired while it came
            raise bad_request(str(error), EXPIRED) from error
        return Reply(201 if created else 204, headers=self._state(token, expires))

    def _body(self, environ: dict[str, Any]) -> bytes:
        value = receive(environ, self._largest())
        if "HTTP_TRANSFER_ENCODING" in environ and not has_length(environ):
            # granian shows what came before the connection broke as if it were all, and vouches for it.
            raise Refused(411, "bad-request", "Content-Length is missing: this may be a part of the value")
        return value

    def _store(self, key: bytes, value: bytes, expires: float, conditions: Conditions) -> tuple[bool, Token]:
        """Whether the key is new, and its state's token."""
        provider = self._provider
        if not conditions and provider.features.cas:
            # A new key in one round trip; the value that is replaced is never carried here.
            try:
                return True, provider.store(key, value, expires, expect=ABSENT)
            except Conflict:
                return False, provider.store(key, value, expires)
        if conditions.only_absent:
            return True, provider.store(key, value, expires, expect=ABSENT)
        if not conditions:
            return self._find(key) is None, provider.store(key, value, expires)
        for _ in range(_ATTEMPTS):
            before = self._allowed(key, conditions)
            expect = ABSENT if before is None else before.token
            try:
                return before is None, provider.store(key, value, expires, expect=expect)
            except Conflict:
                continue
        raise Conflict

    def _reserve(self, key: bytes, environ: dict[str, Any], conditions: Conditions) -> Reply:
        """What `fetch(reserve=...)` does: hand out what is there, or put an empty placeholder there first."""
        seconds = read_seconds("X-Shmap-Reserve", environ["HTTP_X_SHMAP_RESERVE"])
        if not seconds or conditions or receive(environ, 0):
            raise bad_request("X-Shmap-Reserve has some seconds, no condition and no body")
        self._check_cas("X-Shmap-Reserve")
        item = self._ask(lambda: self._provider.fetch((key,), reserve=seconds))[0]
        if item is None:
            raise NotFound(key)
        return self._whole(item)

    def _delete(self, key: bytes, environ: dict[str, Any]) -> Reply:
        conditions = Conditions.read(environ)
        if conditions:
            self._check_cas("If-None-Match" if conditions.match is None else "If-Match")
        self._ask(lambda: self._remove(key, conditions))
        return Reply(204)

    def _remove(self, key: bytes, conditions: Conditions) -> None:
        if not conditions:
            self._provider.remove(key)
            return
        for _ in range(_ATTEMPTS):
            before = self._allowed(key, conditions, must_exist=True)
            try:
                self._provider.remove(key, expect=before.token if before else None)
            except Conflict:
                continue
            return
        raise Conflict

    def _allowed(self, key: bytes, conditions: Conditions, *, must_exist: bool = False) -> Item | None:
        """What is under a key that may be changed. Raises Conflict, or NotFound."""
        before = self._provider.retrieve(key) if must_exist else self._find(key)
        if not conditions.allow_write(None if before is None else self._tags.of(before.token)):
            raise Conflict
        return before

    def _find(self, key: bytes) -> Item | None:
        try:
            return self._provider.retrieve(key)
        except NotFound:
            return None

    # -- the mount

    def _of_itself(self, method: str, query: str) -> Reply:
        if method == "OPTIONS":
            return self._options(_OF_MOUNT)
        if method not in ("GET", "HEAD"):
            raise _not_allowed(_OF_MOUNT)
        if not query:
            words, largest = self._ask(self._features), self._largest()
            prefix, limits = self.prefix.decode(), self._ask(self._limit)
            return self._ask(lambda: status(prefix, self._provider, words, limits, largest))
        page = Page(query)
        if not self._rules.listed:
            raise bad_request("keys are told only with shmap.list = true")
        return self._ask(lambda: page.of(self._in_time(self._provider.iterate()), self._room, self._tags.of))

    def _options(self, allowed: str) -> Reply:
        words, largest = self._ask(self._features), self._largest()
        headers = option_headers(words, self._ask(self._limit), self._room, largest)
        return Reply(204, headers=[("Allow", allowed), *headers])

    def _in_time(self, items: Iterator[tuple[bytes, Item]]) -> Iterator[tuple[bytes, Item]]:
        """A listing that ends by itself when nobody waits for it any more."""
        end = self._clock.monotonic() + (self._deadline.seconds if self._deadline else float("inf"))
        for item in items:
            if self._clock.monotonic() > end:
                raise BackendUnavailable("the keys cannot be listed in time")
            yield item

    # -- what the cache can do

    def _features(self) -> list[str]:
        features = self._provider.features
        return feature_words(features, listed=features.iterable and self._rules.listed)

    def _check_cas(self, what: str) -> None:
        if not self._ask(lambda: self._provider.features.cas):
            raise NotSupported(f"this cache cannot do {what}")

    def _limit(self) -> Limits:
        if self._limits is None:
            self._limits = self._provider.limits
        return self._limits

    def _largest(self) -> int:
        limits = self._limits or self._ask(self._limit)
        return min(limits.max_value, self._rules.max_body)

    def _ask(self, work: Callable[[], T]) -> T:
        return work() if self._deadline is None else self._deadline.run(work)

    # -- answers

    def _whole(self, item: Item) -> Reply:
        return Reply(200, item.value, self._state(item.token, item.expires))

    def _state(self, token: Token, expires: float) -> Headers:
        return [("ETag", self._tags.of(token)), *expiry_headers(expires)]

    def discard_body(self, environ: dict[str, Any]) -> None:
        """Take a body that was not asked for off the connection, if it is not too large."""
        discard(environ, self._rules.max_body)


class Shmap:
    """All mounts."""

    def __init__(self, mounts: Sequence[Mount], access: Access, close: Callable[[], None]) -> None:
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.prefix))
        self._access = access
        self.close = close

    def answer(self, environ: dict[str, Any]) -> Reply | None:
        """The answer to a request below a mount; None for any other."""
        path = path_of(environ)
        for mount in self._mounts:
            if path.startswith(mount.prefix) and path[len(mount.prefix) :][:1] in (b"", b"/"):
                return self._answer(mount, path, environ)
        return None

    def _answer(self, mount: Mount, path: bytes, environ: dict[str, Any]) -> Reply:
        try:
            self._access.check(environ)
        except Refused as error:
            return error.reply()  # a stranger's body is not waited for
        try:
            return mount.answer(path, environ)
        except Refused as error:
            told = error
        except (NotFound, BackendError, SyncError) as error:
            told = refused(error)
            if told.status in (503, 507):
                log.warning("%s %s %.200r: %s", told.status, environ["REQUEST_METHOD"], path, error)
        except Exception:
            # The edge of the service: a fault in a provider is a fault of ours, and not one of the key.
            log.exception("500 %s %.200r", environ["REQUEST_METHOD"], path)
            told = Refused(500, "fault", "a fault of the server")
        mount.discard_body(environ)
        return told.reply()


def _not_allowed(methods: str) -> Refused:
    return Refused(405, "bad-method", f"the methods are {methods}", (("Allow", methods),))
