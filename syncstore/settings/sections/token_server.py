"""The keys of the token server."""

from __future__ import annotations

from dataclasses import dataclass

from syncstore.settings import values
from syncstore.settings.setting import setting


@dataclass(frozen=True, kw_only=True)
class TokenServerKeys:
    """The keys of the token server."""

    tokenserver: bool = setting(
        "tokenserver.enabled",
        values.flag,
        False,
        "Whether the token server runs in this process: clients are pointed at it, and it at the storage.",
    )
    tokenserver_url: str = setting(
        "tokenserver.sqlalchemy.url",
        values.text,
        "",
        shown="that of `sqlalchemy.url`",
        secret=True,
        doc="The token server's database, where it is another one than the storage's.",
    )
    allow_new_users: bool = setting(
        "tokenserver.allow_new_users",
        values.flag,
        True,
        "Whether any account may become a user; if not, only those of `syncstore user allow`.",
    )
    token_duration: int = setting(
        "tokenserver.token_duration",
        values.number(1, 31_536_000),
        3600,
        "Seconds for which a token is valid.",
    )
    fxa_oauth_server_url: str = setting(
        "tokenserver.fxa_oauth_server_url",
        values.server_url,
        "https://oauth.accounts.firefox.com",
        "The account server that proves who somebody is.",
    )
    fxa_email_domain: str = setting(
        "tokenserver.fxa_email_domain",
        values.text,
        "api.accounts.firefox.com",
        "The domain behind the account's id in the table of users.",
    )
    fxa_issuer: str = setting(
        "tokenserver.fxa_issuer",
        values.text,
        "",
        "The issuer that account tokens must name; empty for any that the keys have signed.",
    )
    fxa_jwks: str = setting(
        "tokenserver.fxa_jwks",
        values.text,
        "",
        "The account server's public keys, as a JSON Web Key set or the path of a file with one; "
        "empty to fetch them from the account server.",
    )
    fxa_timeout: float = setting(
        "tokenserver.fxa_timeout", values.seconds(0.1, 60), 10.0, "Seconds to wait for the account server."
    )
    metrics_secret: str = setting(
        "tokenserver.metrics_secret",
        values.text,
        "",
        shown="derived from the signing secret",
        secret=True,
        doc="The secret that turns account ids into the pseudonyms of logs and tokens.",
    )
    node_capacity: int = setting(
        "tokenserver.node_capacity",
        values.number(1, 2**31 - 1),
        100_000,
        "Users that this server takes, where `syncstore node` was never used.",
    )
    account_events: bool = setting(
        "tokenserver.events",
        values.flag,
        False,
        "Whether the account server may report deleted accounts and changed passwords at /1.0/webhooks/fxa/events.",
    )
    events_client_id: str = setting(
        "tokenserver.events_client_id", values.text, "", "The audience that its reports must name."
    )
    events_issuer: str = setting(
        "tokenserver.events_issuer", values.text, "", "The issuer that its reports must name."
    )
