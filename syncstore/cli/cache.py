"""`syncstore cache`: what memcached holds of a user, whether it agrees with SQL, and taking it away."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from syncstore.auth.tokens import MAX_UID
from syncstore.cli import cache_servers, cache_words, loading
from syncstore.cli.arguments import whole
from syncstore.cli.cache_tools import Opened, opened_tools
from syncstore.errors import ConfigError, Conflict

if TYPE_CHECKING:
    from syncstore.locks.memcached import MemcachedLocks
    from syncstore.locks.placed import PlacedLocks

_LONGEST_LINE = 100  # bytes; a user's number has ten digits
_PROGRESS_SECONDS = {True: 0.5, False: 30.0}  # on a terminal, and in a log


def add(commands: Any) -> None:
    """Describe the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "cache", help="look at memcacheds and what they hold of users, compare that with SQL, clear it"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    cache_servers.add(actions)

    one = actions.add_parser("read", help="say what is cached of users; never what they wrote")
    _users(one, "users' numbers; without any, or with -, they are read from standard input, one a line")
    one.add_argument("--json", action="store_true", help="one line of JSON for each user")
    loading.add_config(one)
    one.set_defaults(run=_read)

    one = actions.add_parser("clear", help="forget what is cached of users")
    _users(one, "users' numbers; without any, or with -, they are read from standard input, one a line")
    one.add_argument(
        "--cached-only",
        action="store_true",
        help="destroy the collections in the cache alone, too: their clients are told, and upload them again",
    )
    one.add_argument("--locks", action="store_true", help="remove users' locks in memcached, too")
    one.add_argument(
        "--all",
        action="store_true",
        help="forget the records and copies of everybody, as is needed after a restore of the database",
    )
    loading.add_config(one)
    one.set_defaults(run=_clear)

    one = actions.add_parser("verify", help="compare what is cached of users with SQL")
    _users(one, "users' numbers; without any all users, with - those of standard input, one a line")
    loading.add_config(one)
    one.set_defaults(run=_verify)


def _users(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("users", nargs="*", metavar="UID", type=_user, help=text)


def _user(word: str) -> int | None:
    """A user's number; None stands for standard input."""
    return None if word == "-" else whole(0, MAX_UID)(word)


class _Named:
    """The users that a command is about: those of its arguments, or of the lines of standard input.

    `wrong` says that a line was no number, which was told and skipped.
    """

    def __init__(self, users: Sequence[int | None]) -> None:
        if None in users and len(users) > 1:
            raise ConfigError("- reads users from standard input: name none beside it")
        self._users = [user for user in users if user is not None]
        self.wrong = False

    def __iter__(self) -> Iterator[int]:
        return iter(self._users) if self._users else self._given()

    def _given(self) -> Iterator[int]:
        if sys.stdin.isatty():
            print("users' numbers, one a line, then Ctrl-D:", file=sys.stderr)
        number = 0
        while line := sys.stdin.buffer.readline(_LONGEST_LINE):
            number += 1
            rest = line
            while not rest.endswith(b"\n") and len(rest) == _LONGEST_LINE:
                rest = sys.stdin.buffer.readline(_LONGEST_LINE)
            word = line.decode("ascii", "replace").strip()
            if not word:
                continue
            try:
                yield whole(0, MAX_UID)(word)
            except argparse.ArgumentTypeError as error:
                self.wrong = True
                print(f"line {number}: {error}", file=sys.stderr)


class _Busy:
    """The users who were passed over, because others wrote them all the time."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, uid: int, error: Conflict) -> None:
        self.count += 1
        print(f"user {uid} is passed over: {error}", file=sys.stderr)


# -- syncstore cache read


def _read(options: argparse.Namespace) -> int:
    users, busy = _Named(options.users), _Busy()
    with opened_tools(options.config) as opened:
        for uid in users:
            try:
                report = opened.tools.of(uid).inspector.report(uid)
            except Conflict as error:
                busy.note(uid, error)
                continue
            if options.json:
                print(cache_words.as_json(report), flush=True)
            else:
                print("\n".join(cache_words.lines(report)), flush=True)
    return 1 if users.wrong or busy.count else 0


# -- syncstore cache clear


def _clear(options: argparse.Namespace) -> int:
    if options.all:
        if options.users or options.cached_only or options.locks:
            raise ConfigError("--all is about records and copies of everybody: it goes with nothing else")
        with opened_tools(options.config) as opened:
            return _forget_all(opened)
    users, busy = _Named(options.users), _Busy()
    with opened_tools(options.config) as opened:
        locks = _locks(opened) if options.locks else None
        for uid in users:
            try:
                _clear_user(opened, uid, cached_only=options.cached_only)
            except Conflict as error:
                busy.note(uid, error)
            if locks is not None:
                print(f"user {uid}: {locks.forget(_lock_names(opened, uid))} locks are removed", flush=True)
    return 1 if users.wrong or busy.count else 0


def _clear_user(opened: Opened, uid: int, *, cached_only: bool) -> None:
    clearing = opened.tools.of(uid).clearing
    # First of all what cannot be undone: a person who watches can still stop it.
    for name, kept in clearing.at_stake(uid).items():
        alone = f"{name}, in the cache alone, {kept.items} items of {kept.bytes} bytes"
        if not cached_only:
            print(f"user {uid}: {alone}: stays; --cached-only would destroy it", flush=True)
            continue
        print(f"user {uid}: destroying {alone}", flush=True)
        if clearing.lose(uid, name) is not None:
            print(f"user {uid}: {name} is destroyed; clients are told, and upload it again", flush=True)
    print(f"user {uid}: {clearing.forget(uid)} records and copies are forgotten", flush=True)


def _locks(opened: Opened) -> MemcachedLocks | PlacedLocks:
    from syncstore.locks.memcached import MemcachedLocks
    from syncstore.locks.placed import PlacedLocks

    backend = opened.locks.backend
    if not isinstance(backend, MemcachedLocks | PlacedLocks):
        raise ConfigError("--locks: lock.backend is not memcached, so there are no locks there")
    return backend


def _lock_names(opened: Opened, uid: int) -> list[tuple[int, str]]:
    """The locks that requests of this user can have taken, but for collections that do not exist yet."""
    from syncstore.locks.api import WHOLE_STORAGE

    times, settings = opened.below.times(uid), opened.settings
    names = {WHOLE_STORAGE, *times.collections, *times.kept, *settings.cached_only, *settings.write_through}
    return [(uid, name) for name in sorted(names)]


def _forget_all(opened: Opened) -> int:
    members = opened.tools.group.members.values()
    for member in members:
        member.state.forget_all()
        print(
            f"what {member.name} has of records and copies is forgotten; "
            f"for {member.state.wait:.1f} s writes wait, and reads are answered by SQL",
            flush=True,
        )
    return max([cache_servers.bring_back_if_free(member) for member in members])


# -- syncstore cache verify


def _verify(options: argparse.Namespace) -> int:
    users, busy = _Named(options.users), _Busy()
    compared = found = 0
    with opened_tools(options.config) as opened:
        everybody: Iterable[int] = users if options.users else opened.below.users()
        for member in opened.tools.group.members.values():
            epoch = member.state.current()
            if not epoch or epoch & 1:
                print(
                    f"{member.name} is out of use now, and its records and copies are not compared",
                    file=sys.stderr,
                )
        progress = _Progress()
        for uid in everybody:
            try:
                differences = opened.tools.of(uid).verifier.differences(uid)
            except Conflict as error:
                busy.note(uid, error)
                continue
            compared += 1
            found += len(differences)
            progress.note(compared)
            for difference in differences:
                progress.interrupt()
                print(difference, flush=True)
        progress.interrupt()
    print(f"compared {compared} users: {found or 'no'} disagreement{'' if found == 1 else 's'}")
    return 1 if found or users.wrong or busy.count else 0


class _Progress:
    """How far it is, on standard error: all the time on a terminal, now and then elsewhere."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._next = time.monotonic() + _PROGRESS_SECONDS[self._watched]
        self._line = False

    def note(self, users: int) -> None:
        """So many users are done."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_SECONDS[self._watched]
            self._line = self._watched
            start, end = ("\r", "") if self._watched else ("", "\n")
            print(f"{start}{users} users", end=end, file=sys.stderr, flush=True)

    def interrupt(self) -> None:
        """Something else is said: on a line of its own."""
        if self._line:
            print(file=sys.stderr)
            self._line = False
