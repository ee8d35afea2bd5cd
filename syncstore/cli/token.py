"""`syncstore token`: a token for a user without a token server, with its key and a signed curl line to try it."""

from __future__ import annotations

import argparse
import secrets
import shlex
import time
from typing import Any

from syncstore.auth.hawk import sign
from syncstore.auth.tokens import derive_key, make_token
from syncstore.cli import loading
from syncstore.cli.arguments import whole
from syncstore.errors import ConfigError


def add(commands: Any) -> None:
    """Describe the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "token", help="print a token, its key and a signed curl line"
    )
    loading.add_config(parser)
    parser.add_argument(
        "--uid", type=whole(0, 9_999_999_999), required=True, metavar="N", help="the user's number"
    )
    parser.add_argument(
        "--duration",
        type=whole(1, 315_360_000),
        default=3600,
        metavar="SECONDS",
        help="how long it is valid (3600)",
    )
    parser.add_argument(
        "--url", metavar="URL", help="the server's address, instead of public_url or the address it binds to"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Sign and print."""
    from syncstore.app import open_secrets

    path = loading.find(options.config)
    settings = loading.load(path)
    node = (options.url or settings.public_url or loading.served_at(path, settings.bind)).rstrip("/")
    url = f"{node}/1.5/{options.uid}/info/collections"
    known = open_secrets(settings).for_node(node)
    if not known:
        raise ConfigError(f"there is no secret for the node {node}")
    claims = {
        "uid": options.uid,
        "node": node,
        "expires": int(time.time()) + options.duration,
        "salt": secrets.token_hex(3),
    }
    token = make_token(claims, known[-1])
    key = derive_key(token, known[-1])
    try:
        header = sign("GET", url, token, key, ts=int(time.time()))
    except ValueError:
        raise ConfigError(f"{node} is not the URL of a server, such as http://127.0.0.1:8000") from None
    print(f"token: {token}")
    print(f"key: {key}")
    print(f"curl -i -H {shlex.quote(f'Authorization: {header}')} {shlex.quote(url)}")
    return 0
