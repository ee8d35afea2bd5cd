"""The token server at the public address."""

from __future__ import annotations

import msgspec

from syncstore.doctor import strangers
from syncstore.doctor.client import Client, Unanswered
from syncstore.doctor.findings import Finding

_PATH = "/1.0/sync/1.5"


class _Refusal(msgspec.Struct):
    status: str


def examine(client: Client) -> Finding:
    """Ask for a token without saying who asks: it must refuse that in its own words (token API, section 3)."""
    subject = f"token server {client.origin.node}{_PATH}"
    try:
        reply = client.ask("GET", client.origin.prefix + _PATH, {"Accept": "application/json"})
    except Unanswered as error:
        return Finding(subject, strangers.explain_silence(client.origin, error))
    if reply.status == 401 and _refuses(reply.body):
        return Finding(subject)
    if reply.of_syncstore and reply.status == 404:
        return Finding(subject, "the server that answers has none: restart it, with these settings")
    if reply.status in (500, 503) and reply.media_type == "application/json":
        return Finding(subject, f"it answers {reply.status}: look into the server's log for the reason")
    return Finding(subject, strangers.explain(client, reply))


def _refuses(body: bytes) -> bool:
    try:
        return bool(msgspec.json.decode(body, type=_Refusal).status)
    except ValueError:
        return False
