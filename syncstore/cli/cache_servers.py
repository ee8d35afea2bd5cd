"""`syncstore cache servers`, `down`, `up` and `check`: how the memcacheds are, and an operator's say in it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from syncstore.cli import loading
from syncstore.cli.cache_tools import Opened, opened_tools
from syncstore.errors import ConfigError

if TYPE_CHECKING:
    from syncstore.cache.memcached.group import Member
    from syncstore.cache.memcached.records import ServerRecord

_HEAD = ("SERVER", "ADDRESS", "WEIGHT", "STATE", "SINCE", "ANSWERS", "ITEMS", "HITS", "REASON")


def add(actions: Any) -> None:
    """Describe the commands."""
    one: argparse.ArgumentParser = actions.add_parser(
        "servers", help="list the memcacheds, with the state of each"
    )
    loading.add_config(one)
    one.set_defaults(run=_servers)

    one = actions.add_parser("down", help="take a memcached out of use, for all servers, until `up`")
    _server(one)
    one.add_argument("--reason", default="by hand", metavar="TEXT", help="why, for the list and the log")
    loading.add_config(one)
    one.set_defaults(run=_down)

    one = actions.add_parser("up", help="bring a memcached back into use")
    _server(one)
    loading.add_config(one)
    one.set_defaults(run=_up)

    one = actions.add_parser("check", help="see whether memcacheds answer; this changes no state")
    one.add_argument(
        "servers", nargs="*", metavar="SERVER", help="names or addresses; without any all of them"
    )
    loading.add_config(one)
    one.set_defaults(run=_check)


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("server", metavar="SERVER", help="its name, or its address as in memcached.servers")


def _find(opened: Opened, name: str) -> Member:
    members = opened.tools.group.members
    for server in opened.settings.cache_servers:
        if name in (server.name, str(server.address)):
            return members[server.name]
    key = "memcached.servers" if opened.settings.cache_provider == "memcached" else "cache.provider"
    raise ConfigError(f"{key} has no {name}: it has {', '.join(members)}")


# -- syncstore cache servers


def _servers(options: argparse.Namespace) -> int:
    with opened_tools(options.config) as opened:
        members = opened.tools.group.members
        states = opened.tools.group.servers
        records = states.records.read(
            [members[server.name].state.row for server in opened.settings.cache_servers]
        )
        rows = [
            (server.name, str(server.address), str(server.weight), *_words(members[server.name], record))
            for server, record in zip(opened.settings.cache_servers, records, strict=True)
        ]
    for line in table([_HEAD, *rows]):
        print(line)
    return 0


def _words(member: Member, record: ServerRecord) -> tuple[str, ...]:
    from syncstore.cache.api import BackendError
    from syncstore.cache.memcached.records import standing

    state = standing(record.epoch).value if record.epoch else "unknown"
    since = (
        datetime.fromtimestamp(record.since / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        if record.since
        else "-"
    )
    reason = f"{record.reason} ({record.by})" if record.by else record.reason or "-"
    try:
        facts = member.cache.status()
    except BackendError:
        return state, since, "no", "-", "-", reason
    hits, misses = int(facts.get("hits", 0)), int(facts.get("misses", 0))
    share = f"{100 * hits / (hits + misses):.0f} %" if hits + misses else "-"
    return state, since, "yes", str(facts.get("items", "-")), share, reason


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines in columns, the last of which is as long as it is."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(word.ljust(width) for word, width in zip(row[:-1], widths, strict=True)), row[-1]])
        for row in rows
    ]


# -- syncstore cache down, up


def _down(options: argparse.Namespace) -> int:
    with opened_tools(options.config) as opened:
        member = _find(opened, options.server)
        member.state.hold(options.reason)
        several = opened.settings.memcached_allow_failover and len(opened.tools.group.members) > 1
        then = "another memcached stands in for it" if several else "the database alone answers them"
        print(
            f"{member.name} is out of use for all servers, until: {_up_again(member)}\n"
            f"for {member.state.wait:.1f} s writes of its users wait; then {then}"
        )
        only = opened.settings.cached_only
        if only:
            print(
                f"{', '.join(only)} of its users are where they were, and are answered as long as it answers"
            )
    return 0


def _up(options: argparse.Namespace) -> int:
    with opened_tools(options.config) as opened:
        return bring_back(_find(opened, options.server))


def bring_back(member: Member) -> int:
    """Bring a server back as soon as may be, and say so: 0, or 1 when it does not answer. Raises Unavailable."""
    from syncstore.cache.memcached.control import bring_back
    from syncstore.clock import SystemClock

    if bring_back(member, SystemClock(), lambda words: print(words, flush=True)):
        print(f"{member.name} is in use")
        return 0
    if member.state.held or member.retry_interval < 0:
        print(f"{member.name} does not answer, and stays out of use: start it, then: {_up_again(member)}")
    else:
        print(f"{member.name} does not answer: it is used again when a server that runs finds that it does")
    return 1


def bring_back_if_free(member: Member) -> int:
    """The same for a server, unless an operator holds it. Raises Unavailable."""
    if not member.state.held:
        return bring_back(member)
    print(f"{member.name} stays out of use, until: {_up_again(member)}")
    return 0


def _up_again(member: Member) -> str:
    return f"syncstore cache up {member.name}"


# -- syncstore cache check


def _check(options: argparse.Namespace) -> int:
    from syncstore.cache.memcached.checking import check

    worst = 0
    with opened_tools(options.config) as opened:
        members = opened.tools.group.members
        wanted = [_find(opened, name) for name in options.servers] or list(members.values())
        for member in wanted:
            fault = check(member.cache, time.time())
            print(f"{member.name}: {fault or 'ok'}", flush=True)
            worst = max(worst, 1 if fault else 0)
    return worst
