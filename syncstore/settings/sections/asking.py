"""The keys of who may ask, and where."""

from __future__ import annotations

from dataclasses import dataclass

from syncstore.settings import values
from syncstore.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class AskingKeys:
    """The keys of who may ask, and where."""

    public_url: str = setting(
        "public_url",
        values.public_url,
        "",
        shown="from the request",
        doc="The address that clients use, scheme://host[:port][/prefix]; also this node's name in tokens.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "trusted_proxies",
        values.networks,
        (),
        "Addresses or networks of proxies whose X-Forwarded-Proto and X-Forwarded-Host are believed.",
    )
    secrets: tuple[str, ...] = setting(
        "auth.secrets",
        values.words,
        (),
        shown="generated once, kept beside the database",
        secret=True,
        doc="The secrets that sign tokens, separated by spaces, newest last: all verify, the last one signs.",
    )
    master_secrets: tuple[str, ...] = setting(
        "auth.master_secrets",
        values.words,
        (),
        secret=True,
        doc="Master secrets from which each node's secret is derived, newest last. Instead of `auth.secrets`.",
    )
    node_secrets: str = setting(
        "auth.node_secrets",
        values.text,
        "",
        "A file with one line per node, `node,time:secret[,time:secret...]`. Instead of `auth.secrets`.",
    )
    nodes: tuple[str, ...] = setting(
        "auth.nodes", values.words, (), "Node names accepted in tokens beside `public_url`."
    )
    check_node: bool = setting(
        "auth.check_node",
        values.flag,
        True,
        "Whether a token for another node is refused with 401, as it must be after a move.",
    )
    expired_token_window: int = setting(
        "auth.expired_token_window",
        values.number(0),
        7200,
        "Seconds for which info/collections still accepts a token that has expired.",
    )
    verify_payload_hash: bool = setting(
        "auth.verify_payload_hash",
        values.flag,
        False,
        "Whether a Hawk payload hash, where a client sends one, must match the body.",
    )
    token_cache_size: int = setting(
        "auth.token_cache_size",
        values.number(2, 10_000_000),
        20_000,
        "Verified tokens that a process remembers.",
    )
