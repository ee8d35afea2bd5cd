"""The provider `dbm`: the contract of a small-object cache on one table of a file (see `database`).

A change replaces the whole row, which gets the next number: the token. What has expired is never handed out; it stays
until `cull`, or until the file is full. In the file the keys of a namespace begin with it: several caches may share
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from syncstore.cache.api import (
    BackendError,
    BadKey,
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
    TooLarge,
    check_expiry,
)
from syncstore.cache.dbm.database import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT, Database, Opened
from syncstore.cache.of_several import MAX_KEY, OfSeveral, check_fetch
from syncstore.clock import Clock

DEFAULT_MAX_VALUE: Final = 1024 * 1024

_FEATURES = Features(cas=True, shared=True, shared_hosts=False, persistent=True, evicts=False, iterable=True)
_LISTED_AT_ONCE = 64
_CULLED_AT_ONCE = 200  # of which others wait for the end

_FIND = "SELECT value, number, expires FROM item WHERE key = ?"
_STATE = "SELECT number, expires FROM item WHERE key = ?"
_PUT = "INSERT OR REPLACE INTO item (key, value, expires) VALUES (?, ?, ?)"
_REMOVE = "DELETE FROM item WHERE number = ?"
_LIST = "SELECT key, value, number, expires FROM item WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
_CULL = (
    "DELETE FROM item WHERE number IN (SELECT number FROM item WHERE expires > 0 AND expires <= ?"
    " ORDER BY expires LIMIT ?)"
)


class DbmProvider(OfSeveral):
    """A cache in the file at `path`, made by the first call. `namespace` tells its keys from others'.

    `max_value` and `max_bytes`, of the file, are in bytes; a call waits up to `timeout` seconds for others.
    """

    name = "dbm"
    features = _FEATURES

    def __init__(
        self,
        path: str,
        clock: Clock,
        *,
        namespace: str,
        max_value: int = DEFAULT_MAX_VALUE,
        max_bytes: int = DEFAULT_MAX_BYTES,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        self._path = path
        self._clock = clock
        self._prefix = namespace.encode() + b":"
        self._behind_prefix = namespace.encode() + b";"  # the first that begins with something greater
        self._limits = Limits(max_key=MAX_KEY, max_value=max_value)
        self._max_bytes = max_bytes
        self._database = Database(path, max_bytes=max_bytes, timeout=timeout)

    @property
    def limits(self) -> Limits:
        """What fits into it, as the constructor was told."""
        return self._limits

    def fetch(self, keys: Sequence[bytes], *, reserve: float = 0.0) -> list[Item | None]:
        """The values of several keys from one moment (see Provider). Raises BadKey, BackendUnavailable."""
        check_fetch(keys, reserve)
        if not keys:
            return []
        names = [self._prefix + key for key in keys]
        found = self._database.run(lambda opened: self._look(opened, names))
        if reserve and None in found:
            try:
                return self._database.run(lambda opened: self._look_and_reserve(opened, names, reserve))
            except StorageFull:
                self.cull()
                return self._database.run(lambda opened: self._look_and_reserve(opened, names, reserve))
        return found

    def change(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make several changes (see Provider); here all together are atomic, too, unless the file is full."""
        now = self._clock.seconds()
        check_expiry(changes, now)
        if not changes:
            return []
        try:
            return self._database.run(lambda opened: self._change_all(opened, changes))
        except StorageFull:
            self.cull()
            return [self._change_alone(change) for change in changes]

    def change_later(self, changes: Sequence[Change]) -> None:
        """The same; here the changes are made at once, or not at all."""
        try:
            self.change(changes)
        except BackendError:
            return

    def iterate(self) -> Iterator[tuple[bytes, Item]]:
        """All live keys with their items, in the order of the keys, some at a time as they are then."""
        last = self._prefix
        while True:
            rows, incarnation = self._database.run(lambda opened: self._list(opened, last))  # noqa: B023 - called at once
            now = self._clock.seconds()
            for key, value, number, expires in rows:
                if not 0 < expires <= now:
                    yield key[len(self._prefix) :], Item(value, Token(incarnation, number), expires)
            if len(rows) < _LISTED_AT_ONCE:
                return
            last = rows[-1][0]

    def cull(self, now: float | None = None, limit: int = 1000) -> int:
        """Drop up to `limit` items, of all namespaces, that had expired at `now`; how many."""
        if now is None:
            now = self._clock.seconds()
        culled = 0
        while culled < limit:
            step = min(limit - culled, _CULLED_AT_ONCE)
            gone = self._database.run(lambda opened: opened.connection.execute(_CULL, (now, step)).rowcount)  # noqa: B023 - called at once
            culled += gone
            if gone < step:
                break
        return culled

    def status(self) -> Mapping[str, int | float | str]:
        """The file and what is in it, of all namespaces, expired items among them. `bytes_used` are of `bytes`."""

        def ask(opened: Opened) -> tuple[int, int, int, int]:
            row: tuple[int, int, int, int] = opened.connection.execute(
                "SELECT (SELECT count(*) FROM item), page_count, freelist_count, page_size"
                " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
            ).fetchone()
            return row

        items, pages, free, page_size = self._database.run(ask)
        return {
            "path": self._path,
            "items": items,
            "bytes": pages * page_size,
            "bytes_used": (pages - free) * page_size,
            "max_bytes": self._max_bytes,
        }

    def close(self) -> None:
        """Give back the connection. The next call opens it again."""
        self._database.close()

    # All below is called by Database.run.

    def _look(self, opened: Opened, names: Sequence[bytes]) -> list[Item | None]:
        if len(names) == 1:
            return [self._find(opened, names[0], self._clock.seconds())]
        opened.connection.execute("BEGIN")
        now = self._clock.seconds()
        found = [self._find(opened, name, now) for name in names]
        opened.connection.execute("COMMIT")
        return found

    def _look_and_reserve(self, opened: Opened, names: Sequence[bytes], reserve: float) -> list[Item | None]:
        opened.connection.execute("BEGIN IMMEDIATE")
        now = self._clock.seconds()
        found: list[Item | None] = []
        for name in names:
            item = self._find(opened, name, now)
            if item is None:
                item = Item(b"", _put(opened, name, b"", now + reserve), now + reserve)
            found.append(item)
        opened.connection.execute("COMMIT")
        return found

    def _find(self, opened: Opened, name: bytes, now: float) -> Item | None:
        row = opened.connection.execute(_FIND, (name,)).fetchone()
        if row is None or 0 < row[2] <= now:
            return None
        value, number, expires = row
        return Item(value, Token(opened.incarnation, number), expires)

    def _list(self, opened: Opened, last: bytes) -> tuple[list[tuple[bytes, bytes, int, float]], str]:
        rows = opened.connection.execute(_LIST, (last, self._behind_prefix, _LISTED_AT_ONCE)).fetchall()
        return rows, opened.incarnation

    def _change_alone(self, change: Change) -> Outcome:
        try:
            return self._database.run(lambda opened: self._change_all(opened, (change,)))[0]
        except StorageFull as full:
            return full

    def _change_all(self, opened: Opened, changes: Sequence[Change]) -> list[Outcome]:
        now = self._clock.seconds()
        if len(changes) == 1 and isinstance(changes[0], Store) and changes[0].expect is None:
            return [self._change(opened, changes[0], now)]  # one statement is atomic
        opened.connection.execute("BEGIN IMMEDIATE")
        outcomes = [self._change(opened, change, now) for change in changes]
        opened.connection.execute("COMMIT")
        return outcomes

    def _change(self, opened: Opened, change: Change, now: float) -> Outcome:
        if not 1 <= len(change.key) <= MAX_KEY:
            return BadKey(len(change.key), MAX_KEY)
        name = self._prefix + change.key
        if isinstance(change, Store):
            if len(change.value) > self._limits.max_value:
                return TooLarge(len(change.value), self._limits.max_value)
            if change.expect is None:
                return _put(opened, name, change.value, change.expires)
        state = opened.connection.execute(_STATE, (name,)).fetchone()
        if state is not None and 0 < state[1] <= now:
            state = None
        if isinstance(change, Remove) and state is None:
            return NotFound(change.key)
        if isinstance(change.expect, Token):
            fits = state is not None and change.expect == (opened.incarnation, state[0])
        else:
            fits = change.expect is None or state is None
        if not fits:
            return Conflict(f"the key {change.key!r} is in another state")
        if isinstance(change, Store):
            return _put(opened, name, change.value, change.expires)
        opened.connection.execute(_REMOVE, (state[0],))
        return None


def _put(opened: Opened, name: bytes, value: bytes, expires: float) -> Token:
    number = opened.connection.execute(_PUT, (name, value, expires)).lastrowid
    assert number is not None  # noqa: S101 - for mypy: a row was inserted
    return Token(opened.incarnation, number)
