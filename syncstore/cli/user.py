"""`syncstore user`: who is a user of the token server, who may become one, and who may not."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from syncstore.cli import loading
from syncstore.cli.token_server import opened


def add(commands: Any) -> None:
    """Describe the commands."""
    parser: argparse.ArgumentParser = commands.add_parser("user", help="who is a user, and who may be one")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("list", help="list the users, and who is allowed or denied")
    loading.add_config(one)
    one.set_defaults(run=_list)
    for name, run, text in (
        ("allow", _allow, "let an account in, also where allow_new_users is false"),
        ("deny", _deny, "keep an account out, also one that is a user"),
        ("delete", _delete, "take an account's users away; the purge deletes their data"),
    ):
        one = actions.add_parser(name, help=text)
        one.add_argument(
            "who", metavar="WHO", help="the account's id, or its address in `syncstore user list`"
        )
        loading.add_config(one)
        one.set_defaults(run=run)


def _list(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        users, listed = server.register.users(), server.register.listed()
    for user in users:
        state = ", account deleted" if user.retired else ""
        print(f"{user.uid} {user.email} on {user.node or 'no node'} since {_date(user.created_at)}{state}")
    for entry in listed:
        print(f"{'allowed' if entry.allowed else 'denied'}: {entry.who} since {_date(entry.added_at)}")
    if not users and not listed:
        print("nobody yet")
    return 0


def _allow(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        server.register.put_on_list(options.who, allowed=True)
        opens = server.settings.allow_new_users
    print(f"{options.who} may come in" + (", as anybody may: allow_new_users is true" if opens else ""))
    return 0


def _deny(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        server.register.put_on_list(options.who, allowed=False)
        seconds = server.settings.token_duration
    print(f"{options.who} gets no more tokens; those there are end within {seconds} seconds")
    return 0


def _delete(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        uids = server.register.delete(options.who)
        settings = server.settings
    if uids:
        numbers = ", ".join(map(str, uids))
        print(f"uid {numbers} is replaced; a purge deletes its data from {settings.purge_grace} seconds on")
        if settings.allow_new_users:
            print(f"the account may come again as a new user, unless: syncstore user deny {options.who}")
    else:
        print(f"{options.who} is off the list")
    return 0


def _date(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d")
