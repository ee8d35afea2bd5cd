"""What the server takes for its own address, against the one that clients use."""

from __future__ import annotations

import msgspec

from syncstore.auth.origin import ClientOrigin, Origin
from syncstore.doctor.client import Client, Unanswered
from syncstore.errors import ConfigError


class View(msgspec.Struct, frozen=True):
    """The address that the server has, and whether it has it from its settings or from the request."""

    origin: Origin
    configured: bool


class _Facts(msgspec.Struct):
    server: str
    url: str
    url_from: str


def ask(client: Client) -> View | None:
    """What the server says of itself at `/`; None when that is not what answers there."""
    try:
        reply = client.ask("GET", f"{client.origin.prefix}/", {"Accept": "application/json"})
        facts = msgspec.json.decode(reply.body, type=_Facts)
        return View(origin_of(facts.url), facts.url_from == "settings")
    except (Unanswered, ValueError, ConfigError):
        return None


def origin_of(url: str) -> Origin:
    """The parts of a public address. Raises ConfigError when it is none."""
    return ClientOrigin(url).of({})


def explain(expected: Origin, view: View, *, in_settings: bool) -> str:
    """What to change when the server's address is not `expected`; empty when it is.

    `in_settings` says that `expected` is the setting `public_url`, which the server then does not use.
    """
    seen = view.origin
    if seen.node == expected.node:
        return ""
    if in_settings:
        return f"the server that answers takes {seen.node} for its address: restart it, with these settings"
    if view.configured:
        return f"the server has public_url = {seen.node}: set it to {expected.node}"
    faults = ", and ".join(_faults(expected, seen))
    return f"{faults}: set public_url = {expected.node} in the server's settings"


def _faults(expected: Origin, seen: Origin) -> list[str]:
    faults = []
    if seen.scheme != expected.scheme:
        faults.append(
            f"the server takes {seen.scheme} for the scheme that clients use, not {expected.scheme}"
        )
    if seen.host != expected.host:
        faults.append(f"the proxy does not pass on the Host header (it arrives as {seen.host})")
    elif _authority(seen) != _authority(expected):
        faults.append("the proxy does not pass on the port of the Host header")
    if seen.prefix != expected.prefix:
        faults.append(f"the path prefix {expected.prefix} is lost on its way to the server")
    return faults


def _authority(origin: Origin) -> str:
    """Host and port as a Host header has them: a port that follows from the scheme is not there."""
    return origin.node.partition("://")[2].partition("/")[0]
