"""`syncstore node`: the servers that users are spread over, for people who have several."""

from __future__ import annotations

import argparse
from typing import Any

from syncstore.cli import loading
from syncstore.cli.arguments import whole
from syncstore.cli.token_server import opened
from syncstore.errors import ConfigError

_MOST = 2**31 - 1
_FLAGS = {"on": 1, "off": 0}


def add(commands: Any) -> None:
    """Describe the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "node", help="the servers that users are spread over"
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    one = actions.add_parser("list", help="list the nodes")
    loading.add_config(one)
    one.set_defaults(run=_list)

    one = actions.add_parser("add", help="take a node into use")
    _name(one)
    one.add_argument(
        "--capacity",
        type=whole(1, _MOST),
        metavar="N",
        help="users that it takes (tokenserver.node_capacity)",
    )
    one.add_argument("--downed", choices=_FLAGS, metavar="on/off", help="on: it takes no new users")
    one.add_argument("--backoff", choices=_FLAGS, metavar="on/off", help="on: it takes no new users for now")
    one.set_defaults(run=_add)

    one = actions.add_parser("update", help="change a node")
    _name(one)
    one.add_argument("--name", dest="new_name", metavar="URL", help="its new address; its users stay on it")
    one.add_argument("--capacity", type=whole(1, _MOST), metavar="N", help="users that it takes")
    one.add_argument(
        "--available", type=whole(0, _MOST), metavar="N", help="users that it takes before more is released"
    )
    one.add_argument("--downed", choices=_FLAGS, metavar="on/off", help="on: it takes no new users")
    one.add_argument("--backoff", choices=_FLAGS, metavar="on/off", help="on: it takes no new users for now")
    one.set_defaults(run=_update)

    one = actions.add_parser("unassign", help="give all users of a node another one, when they come next")
    _name(one)
    one.set_defaults(run=_unassign)

    one = actions.add_parser("remove", help="the same, and forget the node")
    _name(one)
    one.set_defaults(run=_remove)


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", metavar="URL", help="the node's address; * is this server")
    loading.add_config(parser)


def _list(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        for node in server.nodes.list():
            here = f" ({server.settings.public_url or 'this server'})" if node.name == "*" else ""
            state = "".join([", downed" if node.downed else "", ", backoff" if node.backoff else ""])
            print(
                f"{node.name}{here}: {node.current_load} of {node.capacity} users, {node.available} available{state}"
            )
    return 0


def _add(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        server.nodes.add(
            options.node,
            options.capacity or server.settings.node_capacity,
            downed=options.downed == "on",
            backoff=options.backoff == "on",
        )
    print(f"{options.node} takes users now" if "on" not in (options.downed, options.backoff) else "added")
    return 0


def _update(options: argparse.Namespace) -> int:
    changes: dict[str, Any] = {
        "node": options.new_name,
        "capacity": options.capacity,
        "available": options.available,
        "downed": _FLAGS.get(options.downed),
        "backoff": _FLAGS.get(options.backoff),
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    if not changes:
        raise ConfigError("say what to change: `syncstore node update --help`")
    with opened(options.config) as server:
        server.nodes.update(options.node, **changes)
    print(f"{options.node} is changed")
    return 0


def _unassign(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        moved = server.nodes.unassign(options.node)
    print(f"{moved} users get another node when they come next")
    return 0


def _remove(options: argparse.Namespace) -> int:
    with opened(options.config) as server:
        moved = server.nodes.remove(options.node)
    print(f"{options.node} is removed, {moved} users get another node when they come next")
    return 0
